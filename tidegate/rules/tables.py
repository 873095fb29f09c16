"""What one feature, tier and surface come to: thresholds to compare with, outcomes to hand out."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from tidegate.quantities import format_share
from tidegate.rules.conditions import (
    NOBODY,
    NOTHING_ASKED,
    Conditions,
    Reach,
    all_required,
    conditions_of,
    reach_of,
)
from tidegate.rules.exposure import FULL, salted, threshold
from tidegate.rules.gated import Gated, gated
from tidegate.rules.outcome import Code, Outcome
from tidegate.rules.quota import Quota, compile_quotas
from tidegate.snapshot import (
    FeatureIntent,
    IntentPart,
    ModelIntent,
    Signups,
    Snapshot,
    moved_gates,
)

FOREVER: Final = float("inf")
_KNOWN_AGAIN_S: Final = 2.0

Key = tuple[str, str, str]
"""Feature, tier and surface."""


@dataclass(frozen=True, slots=True)
class Closure:
    """A stretch of time in which nobody is let in, whatever else holds."""

    start: float | None
    """None for the instant at which what people decided expires, which is renewed by and by."""
    end: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Entry:
    """Whether those outside may come in."""

    signups: Signups
    salt: bytes
    reopened_below: int
    let_in: Outcome
    """As somebody inside is allowed, but for the quotas: coming in uses nothing."""
    closed: Outcome
    suspended: Outcome
    waitlisted: Outcome
    behind: Outcome
    """Where the gate would let in, and others of the tier wait already."""


@dataclass(slots=True, eq=False)
class Rule:
    """All that a question of one feature, tier and surface needs; thresholds are 64-bit hashes.

    Nothing here changes when a part is renewed as it was. Refusals are made when somebody first
    gets them: a rule is asked of in microseconds as long as it stays small.
    """

    salt: bytes
    surface: str
    exposed_below: int
    pool: str
    ceiling_below: int
    ceiling_after_expiry_below: int
    conditions: Conditions | None
    closures: tuple[Closure, ...]
    allowed: Outcome
    not_exposed: Outcome | None = None
    shed: Outcome | None = None
    shed_after_expiry: Outcome | None = None
    unmet: dict[str, Outcome] | None = None
    """Refusals by the value of their code."""
    entry: Entry | None = None

    @property
    def settled(self) -> Code | None:
        """What everybody is answered until something else is published; None where it depends."""
        if self.closures or self.conditions is not None:
            return None
        if not self.exposed_below:
            return Code.NOT_EXPOSED
        is_open = self.exposed_below >= FULL and self.ceiling_after_expiry_below >= FULL
        return Code.ALLOWED if is_open else None

    def take_over(self, answer: Outcome) -> None:
        """Go on with an answer that was made before, as everything that is told is made once."""
        if answer.allowed:
            self.allowed = answer
        else:
            self.not_exposed = answer


def signups_salt(feature: str) -> str:
    """Return the salt that orders those who ask for a feature while its sign-ups reopen."""
    return f"signup/{feature}"


class Tables:
    """Makes the rules of a snapshot, and what several of them share, once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.version = max(snapshot.versions().values(), default=0)
        self.rules: dict[Key, Rule] = {}
        """Those asked for, but for those of `answers`."""
        self.answers: dict[tuple[str, str], dict[str, Rule | Outcome]] = {}
        """By tier and surface, and then by feature: what decides, or the answer itself where it
        is the same for everybody. In two steps, as few keys fit a CPU's caches better than many."""
        self._conditions: dict[str, Conditions] = {}
        self._gated: dict[tuple[str, str], Gated] = {}

    def of(self, snapshot: Snapshot) -> "Tables":
        """Return the tables of a later snapshot; what it says as this one did is kept."""
        moved = moved_gates(self._snapshot, snapshot)
        if moved is not None and not moved:
            return self
        tables = Tables(snapshot)
        if moved is not None:
            # Read in one go: another thread may be asking, and so adding to them.
            rules = tuple(self.rules.items())
            tables.rules.update((key, rule) for key, rule in rules if rule.pool not in moved)
            for key, by_feature in tuple(self.answers.items()):
                answers = tuple(by_feature.items())
                tables.answers[key] = {n: each for n, each in answers if each.pool not in moved}
        return tables

    def rule(self, feature: str, tier: str, surface: str) -> Rule | Outcome:
        """Compile one rule; where there is none to compile, return the refusal that says why."""
        intent = self._snapshot.intent
        described = None if intent is None else intent.features.get(feature)
        if intent is None or described is None:
            reason = f'no feature "{feature}" is published'
            return Outcome(False, Code.FEATURE_UNKNOWN, reason, feature, tier, None, self.version)  # noqa: FBT003
        subject = _Subject(feature, described, tier, surface, self.version)
        if surface not in described.surfaces:
            offered = f"{feature} is offered on {', '.join(described.surfaces)} only"
            return subject.nobody(Code.SURFACE_CLOSED, offered)
        if tier not in intent.tiers:
            return subject.nobody(Code.TIER_UNKNOWN, "no such tier in the catalogue")
        return _Compiler(self, self._snapshot, intent, subject).rule()

    def refusal(self, rule: Rule, code: Code, *, expired: bool = False) -> Outcome:
        """Make one of a rule's refusals."""
        return self._compiler(rule).refusal(code, expired=expired)

    def entry(self, rule: Rule) -> Entry:
        """Make what a rule answers those outside."""
        return self._compiler(rule).entry(rule.allowed)

    def gated(self, pool: str, tier: str, intent: IntentPart) -> Gated:
        """Return what a pool's gate means for a tier."""
        found = self._gated.get((pool, tier))
        if found is None:
            found = gated(pool, tier, self._snapshot.gates.get(pool), intent)
            self._gated[pool, tier] = found
        return found

    def conditions(self, name: str, feature: FeatureIntent) -> Conditions:
        """Return what a feature asks of the users of every tier."""
        found = self._conditions.get(name)
        if found is None:
            found = self._conditions[name] = conditions_of(feature)
        return found

    def _compiler(self, rule: Rule) -> "_Compiler":
        name, tier = rule.allowed.feature, rule.allowed.tier
        intent = self._snapshot.intent
        if intent is None:
            raise AssertionError("a rule was made before anything was published")
        subject = _Subject(name, intent.features[name], tier, rule.surface, self.version)
        return _Compiler(self, self._snapshot, intent, subject)


def quota_refusal(allowed: Outcome, quota: Quota, until: float | None) -> Outcome:
    """Return what an allowed use becomes when its quota is used up until an instant.

    None for the instant says that nobody knows what was used, and that the quota is then closed.
    """
    feature, text = allowed.feature, quota.text
    if until is None:
        code = Code.QUOTA_UNKNOWN
        reason = f"what was used of {feature} cannot be asked for now; its quota is {text}"
    elif quota.is_burst:
        code, reason = Code.RATE_LIMITED, f"{feature} is limited to {text}"
    else:
        code, reason = Code.QUOTA_EXCEEDED, f"the quota of {feature} is used up: {text}"
    return replace(
        allowed,
        allowed=False,
        code=code,
        reason=reason,
        # Rounded up: a second earlier would be too early.
        until=None if until is None else math.ceil(until),
        retry_after_s=_KNOWN_AGAIN_S if until is None else None,
        quotas=(),
    )


@dataclass(frozen=True, slots=True)
class _Subject:
    name: str
    feature: FeatureIntent
    tier: str
    surface: str
    version: int

    def outcome(
        self,
        code: Code,
        reason: str,
        *,
        retry_after_s: float | None = None,
        until: float | None = None,
        quotas: tuple[Quota, ...] = (),
    ) -> Outcome:
        return Outcome(
            allowed=code is Code.ALLOWED,
            code=code,
            reason=reason,
            feature=self.name,
            tier=self.tier,
            pool=self.feature.pool,
            version=self.version,
            opens=self.feature.opens.get(self.tier) if code is Code.NOT_EXPOSED else None,
            retry_after_s=retry_after_s,
            until=until,
            quotas=quotas,
        )

    def nobody(self, code: Code, reason: str) -> Outcome:
        """Refuse for every tier alike."""
        return Outcome(False, code, reason, self.name, "", self.feature.pool, self.version)  # noqa: FBT003


class _Compiler:
    def __init__(
        self, tables: Tables, snapshot: Snapshot, intent: IntentPart, subject: _Subject
    ) -> None:
        self._tables = tables
        self._snapshot = snapshot
        self._intent = intent
        self._subject = subject
        self._feature = subject.feature
        self._pool = intent.pools.get(self._feature.pool)
        self._model = None if self._pool is None else intent.models.get(self._pool.model)

    def rule(self) -> Rule:
        subject, feature = self._subject, self._feature
        quotas = compile_quotas(feature.quotas.get(subject.tier, ()))
        gate = self._gate()
        share, wider = reach_of(feature, subject.tier, subject.surface)
        conditions = self._tables.conditions(subject.name, feature)
        if wider:
            conditions = replace(conditions, wider=wider)
        required = all_required(subject.name, self._intent.features) if feature.requires else ()
        if required != ():
            reaches = (NOBODY,) if required is None else tuple(map(self._reach, required))
            conditions = replace(conditions, requires=reaches)
        return Rule(
            salt=salted(subject.name),
            surface=subject.surface,
            exposed_below=threshold(share),
            pool=feature.pool,
            ceiling_below=threshold(gate.ceiling),
            ceiling_after_expiry_below=threshold(gate.ceiling_after_expiry),
            conditions=None if conditions is NOTHING_ASKED else conditions,
            closures=tuple(self._closures(required or ())),
            allowed=subject.outcome(
                Code.ALLOWED, f"{subject.name} is open for {subject.tier}", quotas=quotas
            ),
        )

    def refusal(self, code: Code, *, expired: bool) -> Outcome:
        gate, subject, name = self._gate(), self._subject, self._subject.name
        match code:
            case Code.NOT_EXPOSED:
                reason = self._why_not_exposed()
            case Code.NOT_IN_AUDIENCE:
                reason = f"{name} is meant for an audience that this user is not in"
            case Code.PREREQUISITE:
                reason = f"{name} is for users of {', '.join(self._feature.requires)} only"
            case Code.LAYER_EXCLUDED:
                layer = self._feature.layer
                reason = f"{name} is for another part of the layer {layer.name if layer else ''}"
            case _:
                reason = gate.reason_after_expiry if expired else gate.reason
                return subject.outcome(code, reason, retry_after_s=gate.retry_after_s)
        return self._refuse(code, reason)

    def _gate(self) -> Gated:
        return self._tables.gated(self._feature.pool, self._subject.tier, self._intent)

    def _reach(self, name: str) -> Reach:
        feature = self._intent.features[name]
        share, wider = reach_of(feature, self._subject.tier, self._subject.surface)
        conditions = replace(self._tables.conditions(name, feature), wider=wider)
        return Reach(salted(name), threshold(share), conditions)

    def _closures(self, required: tuple[str, ...]) -> Iterator[Closure]:
        name, intent = self._subject.name, self._intent

        def which_of(closed: str) -> str:
            return name if closed == name else f"{closed}, which {name} requires,"

        # As where a hold takes it back: what requires a feature is closed with it.
        for closed in (name, *required):
            kill = self._snapshot.kills.get(closed)
            if kill is not None and (kill.tiers is None or self._subject.tier in kill.tiers):
                reason = f"{which_of(closed)} was closed by {kill.by}: {kill.reason}"
                until = kill.expires_at
                yield Closure(-FOREVER, until, self._refuse(Code.KILLED, reason, until))
            if intent.features[closed].is_withdrawn:
                reason = f"{which_of(closed)} is on hold: {intent.features[closed].held_because}"
                yield Closure(-FOREVER, FOREVER, self._refuse(Code.NOT_EXPOSED, reason))
        if self._feature.on_stale == "close":
            reason = f"{name} closes when nothing has been heard of it for too long"
            yield Closure(None, FOREVER, self._subject.nobody(Code.INTENT_STALE, reason))
        if self._pool is not None and self._model is not None:
            yield from self._retirement(self._pool.model, self._model)

    def _retirement(self, name: str, model: ModelIntent) -> Iterator[Closure]:
        tier = self._subject.tier
        if tier in model.spared:
            return
        instead = f"; use {model.successor}" if model.successor else ""
        gone_at = dict(model.gone).get(tier, model.retired_at)
        if gone_at is not None:
            refusal = self._refuse(Code.MODEL_RETIRED, f"model {name} is retired{instead}")
            yield Closure(gone_at, FOREVER, refusal)
        for start, end in model.brownouts:
            reason = f"model {name} will be retired and is switched off for a while{instead}"
            yield Closure(start, end, self._refuse(Code.MODEL_BROWNOUT, reason, end))

    def _refuse(self, code: Code, reason: str, until: float | None = None) -> Outcome:
        return self._subject.outcome(code, reason, until=until)

    def entry(self, allowed: Outcome) -> Entry:
        gate, name, signups = self._gate(), self._subject.name, self._signups()
        why = f": {signups.reason}" if signups.reason else ""
        return Entry(
            signups=signups,
            salt=salted(signups_salt(name)),
            reopened_below=threshold(signups.share),
            let_in=replace(allowed, quotas=()) if allowed.quotas else allowed,
            closed=self._refuse(
                Code.SIGNUPS_SUSPENDED, f"sign-ups for {name} close while nothing is heard of it"
            ),
            suspended=self._refuse(
                Code.SIGNUPS_SUSPENDED, f"sign-ups for {name} are suspended{why}"
            ),
            waitlisted=self._subject.outcome(
                Code.WAITLISTED, gate.reason, retry_after_s=gate.retry_after_s
            ),
            behind=self._subject.outcome(
                Code.WAITLISTED,
                f"others of {self._subject.tier} wait for {name} already, and come first",
                retry_after_s=gate.retry_after_s,
            ),
        )

    def _signups(self) -> Signups:
        """Sign-ups as people set them, or suspended for all where nobody new may come."""
        model = self._model
        if model is None or not model.is_restricted or self._subject.tier in model.spared:
            return self._feature.signups
        instead = f"; use {model.successor}" if model.successor else ""
        return Signups(state="suspended", reason=f"its model will be retired{instead}")

    def _why_not_exposed(self) -> str:
        name, feature, tier = self._subject.name, self._feature, self._subject.tier
        share, _ = reach_of(feature, tier, self._subject.surface)
        if feature.held_because is not None:
            return f"{name} is on hold: {feature.held_because}"
        reach = (
            f"is open for {format_share(share)} of {tier}"
            if share
            else f"is not open for {tier} yet"
        )
        parts = [str(opening) for opening in feature.openings if opening.tier == tier]
        reach += f"; in part: {', '.join(parts)}" if parts else ""
        waits_for = feature.waits_for.get(tier)
        return f"{name} {reach}" + (f"; it waits for {waits_for}" if waits_for else "")
