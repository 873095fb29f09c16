"""What one feature, tier and surface come to: thresholds to compare with, outcomes to hand out."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from tidegate.quantities import format_share
from tidegate.rules.audience import Test, compile_audience
from tidegate.rules.exposure import FULL, salted, threshold
from tidegate.rules.outcome import Code, Outcome
from tidegate.rules.quota import Quota, compile_quotas
from tidegate.snapshot import (
    FeatureIntent,
    GatePart,
    IntentPart,
    ModelIntent,
    PoolIntent,
    Signups,
    Snapshot,
)

FOREVER: Final = float("inf")
_KNOWN_AGAIN_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Closure:
    """A stretch of time in which nobody is let in, whatever else holds."""

    start: float
    end: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a feature asks of a user beside a place below the exposure."""

    invited: frozenset[str]
    audience: tuple[Test, ...]
    requires: tuple[str, ...]
    layer_salt: bytes
    layer_from: int
    layer_below: int
    not_in_audience: Outcome
    prerequisite: Outcome
    layer_excluded: Outcome


@dataclass(frozen=True, slots=True)
class Entry:
    """Whether those outside may come in; None for the gate where it is not known to be open."""

    gate_known_until: float
    intent_known_until: float
    signups: Signups
    salt: bytes
    reopened_below: int
    let_in: Outcome
    """As somebody inside is allowed, but for the quotas: coming in uses nothing."""
    has_waiters: bool
    """Whether somebody of this tier waits already, and comes first."""
    closed: Outcome
    suspended: Outcome
    waitlisted: Outcome


@dataclass(frozen=True, slots=True)
class Rule:
    """All that a question of one feature, tier and surface needs; thresholds are 64-bit hashes."""

    salt: bytes
    pool: str
    exposed_below: int
    ceiling_below: int
    ceiling_after_expiry_below: int
    gate_expires_at: float
    closures: tuple[Closure, ...]
    conditions: Conditions | None
    entry: Entry
    allowed: Outcome
    not_exposed: Outcome
    shed: Outcome
    shed_after_expiry: Outcome


def signups_salt(feature: str) -> str:
    """Return the salt that orders those who ask for a feature while its sign-ups reopen."""
    return f"signup/{feature}"


def compile_rule(snapshot: Snapshot, feature: str, tier: str, surface: str) -> Rule | Outcome:
    """Compile one rule; where there is none to compile, return the refusal that says why."""
    intent = snapshot.intent
    version = max(snapshot.versions().values(), default=0)
    described = None if intent is None else intent.features.get(feature)
    if intent is None or described is None:
        reason = f'no feature "{feature}" is published'
        return Outcome(False, Code.FEATURE_UNKNOWN, reason, feature, tier, None, version)  # noqa: FBT003
    subject = _Subject(feature, described, tier, version)
    if surface not in described.surfaces:
        offered = f"{feature} is offered on {', '.join(described.surfaces)} only"
        return subject.nobody(Code.SURFACE_CLOSED, offered)
    if tier not in intent.tiers:
        return subject.nobody(Code.TIER_UNKNOWN, "no such tier in the catalogue")
    return _Compiler(snapshot, intent, subject).rule()


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
    version: int

    def outcome(
        self,
        code: Code,
        reason: str,
        *,
        retry_after_s: float | None = None,
        until: float | None = None,
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
        )

    def nobody(self, code: Code, reason: str) -> Outcome:
        """Refuse for every tier alike."""
        return Outcome(False, code, reason, self.name, "", self.feature.pool, self.version)  # noqa: FBT003


@dataclass(frozen=True, slots=True)
class _GateRule:
    """What a pool's gate means for one tier, before and after nothing is heard of it."""

    ceiling: float
    ceiling_after_expiry: float
    expires_at: float
    reason: str
    reason_after_expiry: str
    retry_after_s: float | None


_NEVER_GATED: Final = _GateRule(1.0, 1.0, FOREVER, "", "", None)


class _Compiler:
    def __init__(self, snapshot: Snapshot, intent: IntentPart, subject: _Subject) -> None:
        self._snapshot = snapshot
        self._intent = intent
        self._subject = subject
        self._feature = subject.feature
        self._gate = snapshot.gates.get(self._feature.pool)
        self._pool = intent.pools.get(self._feature.pool)
        self._is_gated = intent.tiers[subject.tier].gated

    def rule(self) -> Rule:
        subject, feature = self._subject, self._feature
        gate = _gate_rule(feature.pool, subject.tier, self._gate, self._pool)
        gate = gate if self._is_gated else _NEVER_GATED
        share = feature.exposure.get(subject.tier, 0.0)
        open_for = f"{subject.name} is open for {subject.tier}"
        allowed = subject.outcome(Code.ALLOWED, open_for)
        quotas = compile_quotas(feature.quotas.get(subject.tier, ()))
        return Rule(
            salt=salted(subject.name),
            pool=feature.pool,
            exposed_below=threshold(share),
            ceiling_below=threshold(gate.ceiling),
            ceiling_after_expiry_below=threshold(gate.ceiling_after_expiry),
            gate_expires_at=gate.expires_at,
            closures=tuple(self._closures()),
            conditions=self._conditions(),
            entry=self._entry(gate, allowed),
            allowed=replace(allowed, quotas=quotas) if quotas else allowed,
            not_exposed=subject.outcome(Code.NOT_EXPOSED, self._why_not_exposed(share)),
            shed=subject.outcome(Code.GATE_SHED, gate.reason, retry_after_s=gate.retry_after_s),
            shed_after_expiry=subject.outcome(
                Code.GATE_SHED, gate.reason_after_expiry, retry_after_s=gate.retry_after_s
            ),
        )

    def _closures(self) -> Iterator[Closure]:
        name, intent = self._subject.name, self._intent
        kill = self._snapshot.kills.get(name)
        if kill is not None and (kill.tiers is None or self._subject.tier in kill.tiers):
            reason = f"{name} was closed by {kill.by}: {kill.reason}"
            until = kill.expires_at
            yield Closure(-FOREVER, until, self._refuse(Code.KILLED, reason, until))
        if self._feature.on_stale == "close":
            reason = f"{name} closes when nothing has been heard of it for too long"
            yield Closure(
                intent.expires_at, FOREVER, self._subject.nobody(Code.INTENT_STALE, reason)
            )
        if self._pool is not None and (model := intent.models.get(self._pool.model)) is not None:
            yield from self._retirement(self._pool.model, model)

    def _retirement(self, name: str, model: ModelIntent) -> Iterator[Closure]:
        instead = f"; use {model.successor}" if model.successor else ""
        if model.sunset_at is not None:
            refusal = self._refuse(Code.MODEL_RETIRED, f"model {name} is retired{instead}")
            yield Closure(model.sunset_at, FOREVER, refusal)
        for start, end in model.brownouts:
            reason = f"model {name} will be retired and is switched off for a while{instead}"
            yield Closure(start, end, self._refuse(Code.MODEL_BROWNOUT, reason, end))

    def _refuse(self, code: Code, reason: str, until: float | None = None) -> Outcome:
        return self._subject.outcome(code, reason, until=until)

    def _conditions(self) -> Conditions | None:
        name, feature = self._subject.name, self._feature
        layer = feature.layer
        if not (feature.invited or feature.audience or feature.requires or layer):
            return None
        required = ", ".join(feature.requires)
        return Conditions(
            invited=frozenset(feature.invited),
            audience=() if feature.audience is None else compile_audience(feature.audience),
            requires=feature.requires,
            layer_salt=b"" if layer is None else salted(f"layer/{layer.name}"),
            layer_from=0 if layer is None else threshold(layer.start),
            layer_below=FULL if layer is None else threshold(layer.end),
            not_in_audience=self._refuse(
                Code.NOT_IN_AUDIENCE, f"{name} is meant for an audience that this user is not in"
            ),
            prerequisite=self._refuse(Code.PREREQUISITE, f"{name} is for users of {required} only"),
            layer_excluded=self._refuse(
                Code.LAYER_EXCLUDED,
                f"{name} is for another part of the layer {layer.name if layer else ''}",
            ),
        )

    def _entry(self, gate: _GateRule, allowed: Outcome) -> Entry:
        name, signups = self._subject.name, self._feature.signups
        why = f": {signups.reason}" if signups.reason else ""
        return Entry(
            gate_known_until=-FOREVER if self._gate is None else self._gate.expires_at,
            intent_known_until=self._intent.expires_at,
            signups=signups,
            salt=salted(signups_salt(name)),
            reopened_below=threshold(signups.share),
            let_in=allowed,
            has_waiters=self._has_waiters(),
            closed=self._refuse(
                Code.SIGNUPS_SUSPENDED, f"sign-ups for {name} close while nothing is heard of it"
            ),
            suspended=self._refuse(
                Code.SIGNUPS_SUSPENDED, f"sign-ups for {name} are suspended{why}"
            ),
            waitlisted=self._subject.outcome(
                Code.WAITLISTED, gate.reason, retry_after_s=gate.retry_after_s
            ),
        )

    def _has_waiters(self) -> bool:
        part = self._snapshot.waitlists.get(self._subject.name)
        lane = None if part is None else part.lanes.get(self._subject.tier)
        # A lane that was left when the catalogue or the feature changed holds nobody up.
        is_kept = self._feature.waitlist is not None and self._is_gated
        return is_kept and lane is not None and lane.waiting > 0

    def _why_not_exposed(self, share: float) -> str:
        name, feature, tier = self._subject.name, self._feature, self._subject.tier
        if feature.held_because is not None:
            return f"{name} is on hold: {feature.held_because}"
        reach = (
            f"is open for {format_share(share)} of {tier}"
            if share
            else f"is not open for {tier} yet"
        )
        waits_for = feature.waits_for.get(tier)
        return f"{name} {reach}" + (f"; it waits for {waits_for}" if waits_for else "")


def _gate_rule(
    pool_name: str, tier: str, gate: GatePart | None, pool: PoolIntent | None
) -> _GateRule:
    if gate is not None:
        ceiling = gate.ceilings.get(tier, 1.0)
        return _GateRule(
            ceiling=ceiling,
            ceiling_after_expiry=min(ceiling, gate.safe_share),
            expires_at=gate.expires_at,
            reason=f"pool {pool_name} is {gate.state}: {gate.reason}",
            reason_after_expiry=_unheard(pool_name, tier, min(ceiling, gate.safe_share)),
            retry_after_s=gate.retry_after_s,
        )
    # A gate never heard of is not an open one: its tiers begin at the safe share.
    safe = 1.0 if pool is None else pool.safe_share
    retry_after_s = None if pool is None else pool.actuation_lag_s
    reason = _unheard(pool_name, tier, safe)
    return _GateRule(safe, safe, FOREVER, reason, reason, retry_after_s)


def _unheard(pool_name: str, tier: str, share: float) -> str:
    reach = f"{tier} is let in up to {format_share(share)}"
    return f"pool {pool_name}: nothing is heard of its gate; {reach}"
