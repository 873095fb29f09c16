"""What may help against each refusal: changes of the user, of what is known, or of the time."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

import msgspec

from tidegate.quantities import format_share
from tidegate.rules.decision import Decider
from tidegate.rules.exposure import FULL, SHED_ROTATION_S, place, shed_place
from tidegate.rules.fitting import Fit, fit, in_cohort
from tidegate.rules.gate import better_gated
from tidegate.rules.outcome import Code, Outcome, Question
from tidegate.rules.tables import signups_salt
from tidegate.snapshot import (
    DateRange,
    FeatureIntent,
    GatePart,
    IntentPart,
    PoolIntent,
    Signups,
    Snapshot,
)

_HOURS_AHEAD: Final = 24
_LAST: Final = 253_402_300_800.0
"""The first instant that no date can be written for."""
_STEP: Final = 1e-5
"""Shares are written to a thousandth of a percent."""


class Kind(IntEnum):
    """What is changed; at most one change of a kind, told in this order."""

    SURFACE = 0
    TIER = 1
    ATTRIBUTES = 2
    PREREQUISITES = 3
    INVITE = 4
    TIME = 5
    PUBLISHER = 6
    SIGNUPS = 7
    STAGE = 8
    EXPOSURE = 9
    HEARD_GATE = 10
    GATE = 11


@dataclass(frozen=True, slots=True)
class Case:
    """A question, what decides it, and when it is asked, in seconds since the epoch."""

    decider: Decider
    question: Question
    at: float

    def answer(self) -> Outcome:
        """Ask."""
        return self.decider.answer(self.question, self.at)

    @property
    def snapshot(self) -> Snapshot:
        """What is known when it is asked."""
        return self.decider.snapshot

    @property
    def intent(self) -> IntentPart:
        """What is published, which something is."""
        if self.snapshot.intent is None:
            raise AssertionError("a remedy was looked for before anything was published")
        return self.snapshot.intent

    @property
    def feature(self) -> FeatureIntent:
        """The feature that is asked for, which is published."""
        return self.intent.features[self.question.feature]

    def with_feature(self, **changes: object) -> "Case":
        """Return the case in which the feature is published with these changes."""
        changed = self.feature.model_copy(update=changes)
        return self.with_intent(features={**self.intent.features, self.question.feature: changed})

    def with_intent(self, **changes: object) -> "Case":
        """Return the case in which intent is published with these changes."""
        return self._knowing(intent=self.intent.model_copy(update=changes))

    def with_gates(self, *gates: GatePart) -> "Case":
        """Return the case in which these gates are published."""
        return self._knowing(gates={**self.snapshot.gates, **{gate.pool: gate for gate in gates}})

    def _knowing(self, **changes: object) -> "Case":
        # A question or an instant that changes keeps the decider, and with it the compiled rules.
        return replace(self, decider=Decider(self.snapshot.model_copy(update=changes)))


@dataclass(frozen=True, slots=True)
class Change:
    """One change, in words; a change of time has none, as its end is not known yet."""

    kind: Kind
    words: str
    expected: DateRange | None = None


Remedy = tuple[Change, Case]


def remedies(outcome: Outcome, case: Case) -> Iterator[Remedy]:
    """Return what may help against a refusal, the quickest first, each with the changed case."""
    for of_code in _BY_CODE.get(outcome.code, ()):
        yield from of_code(outcome, case)


def instants(case: Case) -> list[float]:
    """Return the instants after a case at which time alone may change its answer, in order."""
    rule = case.decider.rule(case.question.feature, case.question.tier, case.question.surface)
    if isinstance(rule, Outcome):
        return []
    edges = {edge for span in case.decider.closed_between(rule) for edge in span}
    if 0 < case.decider.ceiling_below(rule, case.at) < FULL:
        for begin in (case.at, *edges):
            if case.at <= begin < _LAST:
                hour = begin // SHED_ROTATION_S
                edges |= {(hour + n) * SHED_ROTATION_S for n in range(1, _HOURS_AHEAD + 1)}
    return sorted(edge for edge in edges if case.at < edge < _LAST)


def _surfaces(_: Outcome, case: Case) -> Iterator[Remedy]:
    for surface in sorted(case.feature.surfaces):
        elsewhere = replace(case, question=msgspec.structs.replace(case.question, surface=surface))
        yield Change(Kind.SURFACE, f"on surface {surface}"), elsewhere


def _tiers(_: Outcome, case: Case) -> Iterator[Remedy]:
    tiers, own = case.intent.tiers, case.question.tier
    lowest = max((tier.rank for tier in tiers.values()), default=0)
    own_rank = tiers[own].rank if own in tiers else lowest

    def steps_away(tier: str) -> tuple[int, str]:
        return abs(tiers[tier].rank - own_rank), tier

    for tier in sorted(tiers, key=steps_away):
        if tier != own:
            changed = replace(case, question=msgspec.structs.replace(case.question, tier=tier))
            yield Change(Kind.TIER, f"in tier {tier}"), changed


def _audience(_: Outcome, case: Case) -> Iterator[Remedy]:
    if case.feature.audience is not None:
        yield from _as(fit(case.feature.audience, case.question.attributes), case)


def _audiences_required(_: Outcome, case: Case) -> Iterator[Remedy]:
    fitted: Fit | None = Fit(case.question.attributes, ())
    for name in _led_to(case):
        audience = case.intent.features[name].audience
        if fitted is not None and audience is not None:
            more = fit(audience, fitted.attributes)
            fitted = None if more is None else Fit(more.attributes, fitted.words + more.words)
    if fitted is not None and fitted.words:
        yield from _as(fitted, case)


def _led_to(case: Case) -> list[str]:
    """Return the feature, and all that it requires by however many steps."""
    features, found = case.intent.features, [case.question.feature]
    for name in found:
        required = features[name].requires
        found.extend(r for r in dict.fromkeys(required) if r in features and r not in found)
    return found


def _cohorts_that_sign_up(_: Outcome, case: Case) -> Iterator[Remedy]:
    for cohort in case.feature.signups.cohorts:
        yield from _as(in_cohort(cohort, case.question.attributes), case)


def _as(fitted: Fit | None, case: Case) -> Iterator[Remedy]:
    if fitted is not None:
        question = msgspec.structs.replace(case.question, attributes=fitted.attributes)
        words = " and ".join(fitted.words)
        yield Change(Kind.ATTRIBUTES, words), replace(case, question=question)


def _prerequisites(_: Outcome, case: Case) -> Iterator[Remedy]:
    required = case.feature.requires
    missing = [
        name
        for name in dict.fromkeys(required)
        if case.with_feature(requires=(name,)).answer().code is Code.PREREQUISITE
    ]
    if missing:
        met = tuple(name for name in required if name not in missing)
        words = f"with {' and '.join(missing)}"
        yield Change(Kind.PREREQUISITES, words), case.with_feature(requires=met)


def _invite(outcome: Outcome, case: Case) -> Iterator[Remedy]:
    # A feature that nobody is invited to is not one that people are let into by name.
    if outcome.code is not Code.NOT_EXPOSED or case.feature.invited:
        invited = (*case.feature.invited, case.question.user)
        yield Change(Kind.INVITE, "on the invite list"), case.with_feature(invited=invited)


def _later(outcome: Outcome, case: Case) -> Iterator[Remedy]:
    """Wait, while all that is heard now goes on being heard, until yes or the next refusal."""
    heard = _heard_on(case)
    then = [replace(heard, at=instant) for instant in instants(heard)]
    answers = [(each, each.answer()) for each in then]
    for each, answer in answers:
        if answer.allowed:
            yield Change(Kind.TIME, ""), each
            return
    for each, answer in answers:
        if answer.code is not outcome.code:
            yield Change(Kind.TIME, ""), each
            return


def _heard_on(case: Case) -> Case:
    intent = case.intent
    expires_at = math.inf if case.at <= intent.expires_at else intent.expires_at
    heard = [
        gate.model_copy(update={"expires_at": math.inf})
        for gate in case.snapshot.gates.values()
        if case.at <= gate.expires_at
    ]
    return case.with_intent(expires_at=expires_at).with_gates(*heard)


def _publisher_heard(_: Outcome, case: Case) -> Iterator[Remedy]:
    if case.at > case.intent.expires_at:
        change = Change(Kind.PUBLISHER, "when the publisher is heard again")
        yield change, case.with_intent(expires_at=math.inf)


def _gate_heard(_: Outcome, case: Case) -> Iterator[Remedy]:
    gate = case.snapshot.gates.get(case.feature.pool)
    if gate is not None and case.at > gate.expires_at:
        words = f"when the gate of pool {gate.pool} is heard again"
        heard = gate.model_copy(update={"expires_at": math.inf})
        yield Change(Kind.HEARD_GATE, words), case.with_gates(heard)


def _signups_reopen(_: Outcome, case: Case) -> Iterator[Remedy]:
    signups, name = case.feature.signups, case.question.feature
    words, wider = "when sign-ups reopen", Signups()
    if signups.share > 0.0:
        needed = place(signups_salt(name), case.question.user) / FULL
        reach, enough = _more_than(needed, "those who ask")
        words += f" for {reach} ({format_share(signups.share)} now)"
        wider = signups.model_copy(update={"share": enough})
    yield Change(Kind.SIGNUPS, words), case.with_feature(signups=wider)


def _stage(outcome: Outcome, case: Case) -> Iterator[Remedy]:
    if outcome.opens is not None:
        change = Change(Kind.STAGE, "when the stage opens", outcome.opens)
        yield change, _exposed(case, 1.0)


def _exposure(outcome: Outcome, case: Case) -> Iterator[Remedy]:
    share = case.feature.exposure.get(case.question.tier, 0.0)
    if 0.0 < share < 1.0:
        needed = place(case.question.feature, case.question.user) / FULL
        reach, enough = _more_than(needed, outcome.tier)
        words = f"when {outcome.feature} is open for {reach} ({format_share(share)} now)"
        yield Change(Kind.EXPOSURE, words), _exposed(case, enough)


def _exposed(case: Case, share: float) -> Case:
    return case.with_feature(exposure={**case.feature.exposure, case.question.tier: share})


def _wider_gate(outcome: Outcome, case: Case) -> Iterator[Remedy]:
    pool, question = case.feature.pool, case.question
    rule = case.decider.rule(question.feature, question.tier, question.surface)
    ceiling = 0 if isinstance(rule, Outcome) else case.decider.ceiling_below(rule, case.at)
    needed = shed_place(pool, question.user, case.at) / FULL
    reach, enough = _more_than(needed, outcome.tier)
    words = f"when the gate of pool {pool} lets in {reach} ({format_share(ceiling / FULL)} now)"
    gate = case.snapshot.gates.get(pool)
    if gate is not None:
        # A tier is let in no further than those above it, which then are let in whole.
        above = dict.fromkeys(better_gated(question.tier, case.intent.tiers), 1.0)
        ceilings = {**gate.ceilings, **above, question.tier: enough}
        wider = gate.model_copy(update={"ceilings": ceilings, "safe_share": enough})
        yield Change(Kind.GATE, words), case.with_gates(wider)
    elif pool in case.intent.pools:
        of_pool: PoolIntent = case.intent.pools[pool].model_copy(update={"safe_share": enough})
        pools = {**case.intent.pools, pool: of_pool}
        yield Change(Kind.GATE, words), case.with_intent(pools=pools)


def _more_than(needed: float, tier: str) -> tuple[str, float]:
    """Say what share lets in whoever stands at `needed`, and return the next that can be said."""
    # Rounded up: what is told must be enough.
    shown = math.ceil(needed / _STEP) * _STEP
    if shown >= 1.0:
        return f"all of {tier}", 1.0
    return f"more than {format_share(shown)} of {tier}", min(1.0, shown + _STEP)


_Source = Callable[[Outcome, Case], Iterator[Remedy]]
_GATE: Final[tuple[_Source, ...]] = (_tiers, _later, _gate_heard, _wider_gate)
_BY_CODE: Final[Mapping[Code, tuple[_Source, ...]]] = {
    Code.SURFACE_CLOSED: (_surfaces,),
    Code.TIER_UNKNOWN: (_tiers,),
    Code.NOT_IN_AUDIENCE: (_audience, _invite),
    Code.PREREQUISITE: (_tiers, _audiences_required, _prerequisites),
    Code.LAYER_EXCLUDED: (_invite,),
    Code.NOT_EXPOSED: (_tiers, _invite, _stage, _exposure),
    Code.GATE_SHED: _GATE,
    Code.WAITLISTED: _GATE,
    Code.KILLED: (_tiers, _later),
    Code.MODEL_BROWNOUT: (_later,),
    Code.INTENT_STALE: (_publisher_heard,),
    Code.SIGNUPS_SUSPENDED: (
        _cohorts_that_sign_up,
        _publisher_heard,
        _gate_heard,
        _signups_reopen,
    ),
}
"""Codes that nothing helps against are not there: a retired model, an unknown feature. Nor are
those of quotas: no snapshot answers with them, and their refusals say themselves when they end."""
