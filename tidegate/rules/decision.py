"""May this user use this now? One look-up and one hash a request, whatever the snapshot holds."""

from typing import Final

from xxhash import xxh3_64_intdigest

from tidegate.rules.audience import cohorts_of
from tidegate.rules.exposure import FULL, as_bytes, shed_place
from tidegate.rules.outcome import NOTHING_SAID, Asks, Attributes, Code, Outcome, Question
from tidegate.rules.tables import FOREVER, Entry, Rule, Tables
from tidegate.snapshot import Snapshot

_NONE: Final[dict[str, Rule | Outcome]] = {}
_USE: Final = Asks.USE  # bound here, as an enumeration's members are looked up slowly
_INSIDE: Final = frozenset({Code.ALLOWED, Code.GATE_SHED})
"""What somebody is answered who could use the feature, once the gate let them."""


class Decider:
    """A snapshot made ready for questions.

    A rule is compiled when it is first asked for, so that a new snapshot costs nothing by itself;
    only what the snapshot names is kept, so that no caller can make it grow. What `before`
    compiled is kept as far as the snapshot still says the same: parts are renewed each second.
    """

    __slots__ = ("_answers", "_gates_expire_at", "_intent_expires_at", "_tables", "snapshot")

    def __init__(self, snapshot: Snapshot, before: "Decider | None" = None) -> None:
        intent = snapshot.intent
        self.snapshot = snapshot
        self._tables = Tables(snapshot) if before is None else before.tables_of(snapshot)
        self._answers = self._tables.answers
        self._intent_expires_at = FOREVER if intent is None else intent.expires_at
        self._gates_expire_at = {pool: gate.expires_at for pool, gate in snapshot.gates.items()}

    def tables_of(self, snapshot: Snapshot) -> Tables:
        """Return the tables of a later snapshot, with what was compiled here and still holds."""
        return self._tables.of(snapshot)

    @property
    def version(self) -> int:
        """The newest version of any part, as of when anything last changed that is answered."""
        return self._tables.version

    @property
    def features(self) -> tuple[str, ...]:
        """The names of all features, sorted."""
        intent = self.snapshot.intent
        return () if intent is None else tuple(sorted(intent.features))

    def decide(
        self,
        feature: str,
        user: str,
        tier: str,
        surface: str,
        now: float,
        attributes: Attributes = NOTHING_SAID,
    ) -> Outcome:
        """Answer whether this user may use this feature now (`now` in seconds since the epoch)."""
        rule = self._answers.get((tier, surface), _NONE).get(feature)
        if rule is None:
            rule = self._answer(feature, tier, surface)
        if isinstance(rule, Outcome):
            return rule
        if rule.closures and (closed := self.closed(rule, now)) is not None:
            return closed
        try:
            hashed = xxh3_64_intdigest(rule.salt + user.encode())
        except UnicodeEncodeError:
            hashed = xxh3_64_intdigest(rule.salt + as_bytes(user))
        if rule.conditions is not None:
            missed = rule.conditions.missed_by(user, attributes, hashed, rule.exposed_below)
            if missed is not None:
                return self._unmet(rule, missed)
        elif hashed >= rule.exposed_below:
            return rule.not_exposed or self._not_exposed(rule)
        if rule.ceiling_after_expiry_below < FULL:
            expired = now > self._gates_expire_at.get(rule.pool, FOREVER)
            ceiling = rule.ceiling_after_expiry_below if expired else rule.ceiling_below
            if ceiling < FULL and shed_place(rule.pool, user, now) >= ceiling:
                return self._shed(rule, expired=expired)
        return rule.allowed

    def decide_signup(self, asked: Question, now: float, *, is_called: bool = False) -> Outcome:
        """Answer whether somebody outside may come in now.

        Whoever could not use the feature once inside cannot sign up for it. Sign-ups close where
        nothing is heard any more, for every tier, and wait where the gate would shed, or behind
        those who wait already; whoever was called from the waitlist comes in.
        """
        used = self.decide(
            asked.feature, asked.user, asked.tier, asked.surface, now, asked.attributes
        )
        rule = self.rule(asked.feature, asked.tier, asked.surface)
        if isinstance(rule, Outcome) or used.code not in _INSIDE:
            return used
        entry = rule.entry or self._entry(rule)
        # A gate that nobody ever heard of lets nobody new in.
        if now > min(self._intent_expires_at, self._gates_expire_at.get(rule.pool, -FOREVER)):
            return entry.closed
        if entry.signups.state == "suspended" and not _is_let_in_again(entry, asked):
            return entry.suspended
        if is_called:
            return entry.let_in
        if not used.allowed:
            return entry.waitlisted
        # While sign-ups reopen for some, nobody is called, and these wait behind nobody.
        is_behind = entry.signups.state == "open" and self._has_waiters(asked)
        return entry.behind if is_behind else entry.let_in

    def answer(
        self, asked: Question, now: float, *, is_passed: bool = False, is_called: bool = False
    ) -> Outcome:
        """Answer a question of either kind.

        `is_passed` says that a session pass was shown: a session once let in is not shed.
        `is_called` says that a ticket was shown whose number was called: the gate lets it in.
        """
        if asked.asks is not _USE:
            return self.decide_signup(asked, now, is_called=is_called)
        outcome = self.decide(
            asked.feature, asked.user, asked.tier, asked.surface, now, asked.attributes
        )
        if (is_passed or is_called) and outcome.code is Code.GATE_SHED:
            rule = self.rule(asked.feature, asked.tier, asked.surface)
            return rule.allowed if isinstance(rule, Rule) else outcome
        return outcome

    def rule(self, feature: str, tier: str, surface: str) -> Rule | Outcome:
        """Return what decides; where nothing can, the refusal that says why."""
        key = (feature, tier, surface)
        answer = self._answers.get((tier, surface), _NONE).get(feature)
        if isinstance(answer, Rule):
            return answer
        rule = self._tables.rules.get(key)
        if rule is not None:
            return rule
        compiled = self._tables.rule(feature, tier, surface)
        if isinstance(compiled, Rule):
            if answer is not None:
                compiled.take_over(answer)
            self._tables.rules[key] = compiled
        return compiled

    def _has_waiters(self, asked: Question) -> bool:
        """Say whether somebody of the same tier waits already, and comes first."""
        part, intent = self.snapshot.waitlists.get(asked.feature), self.snapshot.intent
        lane = None if part is None else part.lanes.get(asked.tier)
        if lane is None or intent is None or not lane.waiting:
            return False
        # A lane that was left when the catalogue or the feature changed holds nobody up.
        has_line = intent.features[asked.feature].waitlist is not None
        return has_line and intent.tiers[asked.tier].gated

    def gate_expires_at(self, rule: Rule) -> float:
        """Return until when a rule's gate is known; for ever where the tier is never gated."""
        if rule.ceiling_after_expiry_below >= FULL:
            return FOREVER
        return self._gates_expire_at.get(rule.pool, FOREVER)

    def ceiling_below(self, rule: Rule, now: float) -> int:
        """Return the place in the order of shedding below which a rule lets users in."""
        is_expired = now > self.gate_expires_at(rule)
        return rule.ceiling_after_expiry_below if is_expired else rule.ceiling_below

    def closed_between(self, rule: Rule) -> tuple[tuple[float, float], ...]:
        """Return the stretches of time in which a rule lets nobody in."""
        return tuple(
            (self._intent_expires_at if each.start is None else each.start, each.end)
            for each in rule.closures
        )

    def _answer(self, feature: str, tier: str, surface: str) -> Rule | Outcome:
        """Return what decides, or the answer itself where it is the same for everybody."""
        rule = self.rule(feature, tier, surface)
        if isinstance(rule, Outcome):
            return rule
        answer: Rule | Outcome = rule
        match rule.settled:
            case Code.ALLOWED:
                answer = rule.allowed
            case Code.NOT_EXPOSED:
                answer = rule.not_exposed or self._not_exposed(rule)
        # Kept once: where there are many features, what is asked of stays small.
        self._answers.setdefault((tier, surface), {})[feature] = answer
        self._tables.rules.pop((feature, tier, surface), None)
        return answer

    def closed(self, rule: Rule, now: float) -> Outcome | None:
        """Return the refusal of whatever closes a rule to everybody now; None for nothing."""
        for closure in rule.closures:
            start = self._intent_expires_at if closure.start is None else closure.start
            if start <= now < closure.end:
                return closure.outcome
        return None

    def _unmet(self, rule: Rule, code: Code) -> Outcome:
        if rule.unmet is None:
            rule.unmet = {}
        refusal = rule.unmet.get(code.value)
        if refusal is None:
            refusal = rule.unmet[code.value] = self._tables.refusal(rule, code)
        return refusal

    def _not_exposed(self, rule: Rule) -> Outcome:
        rule.not_exposed = self._tables.refusal(rule, Code.NOT_EXPOSED)
        return rule.not_exposed

    def _shed(self, rule: Rule, *, expired: bool) -> Outcome:
        shed = rule.shed_after_expiry if expired else rule.shed
        if shed is None:
            shed = self._tables.refusal(rule, Code.GATE_SHED, expired=expired)
            if expired:
                rule.shed_after_expiry = shed
            else:
                rule.shed = shed
        return shed

    def _entry(self, rule: Rule) -> Entry:
        rule.entry = self._tables.entry(rule)
        return rule.entry


def _is_let_in_again(entry: Entry, asked: Question) -> bool:
    if not cohorts_of(asked.attributes).isdisjoint(entry.signups.cohorts):
        return True
    return xxh3_64_intdigest(entry.salt + as_bytes(asked.user)) < entry.reopened_below
