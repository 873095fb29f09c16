"""May this user use this now? One look-up and one hash a request, whatever the snapshot holds."""

from xxhash import xxh3_64_intdigest

from tidegate.rules.audience import cohorts_of
from tidegate.rules.exposure import FULL, as_bytes, shed_place
from tidegate.rules.outcome import NOTHING_SAID, Asks, Attributes, Code, Outcome, Question
from tidegate.rules.tables import Conditions, Entry, Rule, compile_rule
from tidegate.snapshot import Snapshot


class Decider:
    """A snapshot made ready for questions.

    A rule is compiled when it is first asked for, so that a new snapshot costs nothing by itself;
    only what the snapshot names is kept, so that no caller can make it grow.
    """

    __slots__ = ("_rules", "snapshot", "version")

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.version = max(snapshot.versions().values(), default=0)
        self._rules: dict[tuple[str, str, str], Rule] = {}

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
        rule = self._rules.get((feature, tier, surface))
        if rule is None:
            compiled = self.rule(feature, tier, surface)
            if isinstance(compiled, Outcome):
                return compiled
            rule = compiled
        for closure in rule.closures:
            if closure.start <= now < closure.end:
                return closure.outcome
        try:
            hashed = xxh3_64_intdigest(rule.salt + user.encode())
        except UnicodeEncodeError:
            hashed = xxh3_64_intdigest(rule.salt + as_bytes(user))
        if rule.conditions is not None:
            asked = Question(feature, user, tier, surface, attributes)
            refusal = self._unmet(rule, rule.conditions, asked, hashed, (feature,))
            if refusal is not None:
                return refusal
        elif hashed >= rule.exposed_below:
            return rule.not_exposed
        expired = now > rule.gate_expires_at
        ceiling = rule.ceiling_after_expiry_below if expired else rule.ceiling_below
        if ceiling < FULL and shed_place(rule.pool, user, now) >= ceiling:
            return rule.shed_after_expiry if expired else rule.shed
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
        if isinstance(rule, Outcome) or used not in (
            rule.allowed,
            rule.shed,
            rule.shed_after_expiry,
        ):
            return used
        entry = rule.entry
        if now > entry.intent_known_until or now > entry.gate_known_until:
            return entry.closed
        if entry.signups.state == "suspended" and not _is_let_in_again(entry, asked):
            return entry.suspended
        if is_called:
            return entry.let_in
        return entry.let_in if used.allowed and not entry.has_waiters else entry.waitlisted

    def answer(
        self, asked: Question, now: float, *, is_passed: bool = False, is_called: bool = False
    ) -> Outcome:
        """Answer a question of either kind.

        `is_passed` says that a session pass was shown: a session once let in is not shed.
        `is_called` says that a ticket was shown whose number was called: the gate lets it in.
        """
        if asked.asks is Asks.SIGNUP:
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
        rule = self._rules.get(key)
        if rule is not None:
            return rule
        compiled = compile_rule(self.snapshot, feature, tier, surface)
        if isinstance(compiled, Rule):
            self._rules[key] = compiled
        return compiled

    def _unmet(
        self,
        rule: Rule,
        conditions: Conditions,
        asked: Question,
        hashed: int,
        above: tuple[str, ...],
    ) -> Outcome | None:
        """Return the refusal of a user who is not exposed; None for one who is."""
        for required in conditions.requires:
            if not self._is_exposed(required, asked, above):
                return conditions.prerequisite
        if asked.user in conditions.invited:
            return None
        for passes in conditions.audience:
            if not passes(asked.attributes):
                return conditions.not_in_audience
        if conditions.layer_salt:
            hashed_in_layer = xxh3_64_intdigest(conditions.layer_salt + as_bytes(asked.user))
            if not conditions.layer_from <= hashed_in_layer < conditions.layer_below:
                return conditions.layer_excluded
        return None if hashed < rule.exposed_below else rule.not_exposed

    def _is_exposed(self, feature: str, asked: Question, above: tuple[str, ...]) -> bool:
        """Say whether the user is exposed to a prerequisite, on whatever surface it is offered."""
        intent = self.snapshot.intent
        described = None if intent is None else intent.features.get(feature)
        # Cycles are refused on load; a published one lets nobody in rather than never end.
        if described is None or feature in above or not described.surfaces:
            return False
        rule = self.rule(feature, asked.tier, described.surfaces[0])
        if isinstance(rule, Outcome):
            return False
        hashed = xxh3_64_intdigest(rule.salt + as_bytes(asked.user))
        if rule.conditions is None:
            return hashed < rule.exposed_below
        return self._unmet(rule, rule.conditions, asked, hashed, (*above, feature)) is None


def _is_let_in_again(entry: Entry, asked: Question) -> bool:
    if not cohorts_of(asked.attributes).isdisjoint(entry.signups.cohorts):
        return True
    return xxh3_64_intdigest(entry.salt + as_bytes(asked.user)) < entry.reopened_below
