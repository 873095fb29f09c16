"""May this user use this now? One snapshot compiled into tables, one look-up a request."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tidegate.quantities import format_share
from tidegate.rules.exposure import FULL, place, threshold
from tidegate.snapshot import DateRange, FeatureIntent, GatePart, IntentPart, PoolIntent, Snapshot

SHED_ROTATION_S: Final = 3600.0
"""Who is shed inside a tier changes hourly, so that it is not always the same users."""


class Code(StrEnum):
    """Why, for machines; stable, and counted apart."""

    ALLOWED = "allowed"
    NOT_EXPOSED = "not-exposed"
    GATE_SHED = "gate-shed"
    SURFACE_CLOSED = "surface-closed"
    FEATURE_UNKNOWN = "feature-unknown"
    TIER_UNKNOWN = "tier-unknown"
    INTENT_STALE = "intent-stale"


@dataclass(frozen=True, slots=True)
class Question:
    """Who wants to use what, and where."""

    feature: str
    user: str
    tier: str
    surface: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer with its reason; interned, so a snapshot makes each once."""

    allowed: bool
    code: Code
    reason: str
    feature: str
    tier: str
    pool: str | None
    version: int
    opens: DateRange | None = None
    retry_after_s: float | None = None
    """When to come back, before jitter; None where coming back soon does not help."""


@dataclass(frozen=True, slots=True)
class _TierTable:
    """All a request of one tier needs; thresholds compare with 64-bit hashes."""

    exposed_below: int
    ceiling_below: int
    ceiling_after_expiry_below: int
    gate_expires_at: float
    allowed: Outcome
    not_exposed: Outcome
    shed: Outcome
    shed_after_expiry: Outcome


@dataclass(frozen=True, slots=True)
class _FeatureTable:
    pool: str
    surfaces: frozenset[str]
    closes_at: float
    tiers: Mapping[str, _TierTable]
    surface_closed: Outcome
    stale: Outcome
    tier_unknown: Outcome


@dataclass(frozen=True, slots=True)
class Decider:
    """A compiled snapshot; build it with `compile_snapshot`."""

    features: Mapping[str, _FeatureTable]
    version: int

    def decide(self, feature: str, user: str, tier: str, surface: str, now: float) -> Outcome:
        """Answer whether this user may use this feature now (`now` in seconds since the epoch)."""
        table = self.features.get(feature)
        if table is None:
            return _unknown_feature(feature, tier, self.version)
        if surface not in table.surfaces:
            return table.surface_closed
        if now > table.closes_at:
            return table.stale
        rule = table.tiers.get(tier)
        if rule is None:
            return table.tier_unknown
        if place(feature, user) >= rule.exposed_below:
            return rule.not_exposed
        expired = now > rule.gate_expires_at
        ceiling = rule.ceiling_after_expiry_below if expired else rule.ceiling_below
        if ceiling < FULL and place(shed_salt(table.pool, now), user) >= ceiling:
            return rule.shed_after_expiry if expired else rule.shed
        return rule.allowed


def shed_salt(pool: str, now: float) -> str:
    """Return the salt that orders a pool's users for shedding in the current hour."""
    return f"{pool}@{int(now // SHED_ROTATION_S)}"


def compile_snapshot(snapshot: Snapshot) -> Decider:
    """Turn a snapshot into tables of interned outcomes, so that a request only compares."""
    intent = snapshot.intent
    if intent is None:
        return Decider(features={}, version=0)
    version = max(snapshot.versions().values())
    features = {
        name: _compile_feature(name, intent, snapshot.gates.get(feature.pool), version)
        for name, feature in intent.features.items()
    }
    return Decider(features=features, version=version)


def _compile_feature(
    name: str, intent: IntentPart, gate: GatePart | None, version: int
) -> _FeatureTable:
    feature = intent.features[name]
    pool = intent.pools.get(feature.pool)

    def refusal(code: Code, reason: str) -> Outcome:
        return Outcome(False, code, reason, name, "", feature.pool, version)  # noqa: FBT003

    return _FeatureTable(
        pool=feature.pool,
        surfaces=frozenset(feature.surfaces),
        closes_at=intent.expires_at if feature.on_stale == "close" else float("inf"),
        tiers={
            tier: _compile_tier(
                _Subject(name, feature, tier, version),
                _gate_rule(feature.pool, tier, gate, pool) if policy.gated else _NEVER_GATED,
            )
            for tier, policy in intent.tiers.items()
        },
        surface_closed=refusal(
            Code.SURFACE_CLOSED, f"{name} is offered on {', '.join(feature.surfaces)} only"
        ),
        stale=refusal(
            Code.INTENT_STALE, f"{name} closes when nothing has been heard of it for too long"
        ),
        tier_unknown=refusal(Code.TIER_UNKNOWN, "no such tier in the catalogue"),
    )


@dataclass(frozen=True, slots=True)
class _Subject:
    name: str
    feature: FeatureIntent
    tier: str
    version: int


@dataclass(frozen=True, slots=True)
class _GateRule:
    """What a pool's gate means for one tier, before and after nothing is heard of it."""

    ceiling: float
    ceiling_after_expiry: float
    expires_at: float
    reason: str
    reason_after_expiry: str
    retry_after_s: float | None


_NEVER_GATED: Final = _GateRule(1.0, 1.0, float("inf"), "", "", None)


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
    return _GateRule(safe, safe, float("inf"), reason, reason, retry_after_s)


def _unheard(pool_name: str, tier: str, share: float) -> str:
    reach = f"{tier} is let in up to {format_share(share)}"
    return f"pool {pool_name}: nothing is heard of its gate; {reach}"


def _compile_tier(subject: _Subject, gate: _GateRule) -> _TierTable:
    name, feature, tier = subject.name, subject.feature, subject.tier
    share = feature.exposure.get(tier, 0.0)
    opens = feature.opens.get(tier)

    def outcome(code: Code, reason: str, retry_s: float | None = None) -> Outcome:
        return Outcome(
            allowed=code is Code.ALLOWED,
            code=code,
            reason=reason,
            feature=name,
            tier=tier,
            pool=feature.pool,
            version=subject.version,
            retry_after_s=retry_s,
            opens=opens if code is Code.NOT_EXPOSED else None,
        )

    return _TierTable(
        exposed_below=threshold(share),
        ceiling_below=threshold(gate.ceiling),
        ceiling_after_expiry_below=threshold(gate.ceiling_after_expiry),
        gate_expires_at=gate.expires_at,
        allowed=outcome(Code.ALLOWED, f"{name} is open for {tier}"),
        not_exposed=outcome(Code.NOT_EXPOSED, _why_not_exposed(name, feature, tier, share)),
        shed=outcome(Code.GATE_SHED, gate.reason, gate.retry_after_s),
        shed_after_expiry=outcome(Code.GATE_SHED, gate.reason_after_expiry, gate.retry_after_s),
    )


def _why_not_exposed(name: str, feature: FeatureIntent, tier: str, share: float) -> str:
    if feature.held_because is not None:
        return f"{name} is on hold: {feature.held_because}"
    reach = (
        f"is open for {format_share(share)} of {tier}" if share else f"is not open for {tier} yet"
    )
    waits_for = feature.waits_for.get(tier)
    return f"{name} {reach}" + (f"; it waits for {waits_for}" if waits_for else "")


def _unknown_feature(feature: str, tier: str, version: int) -> Outcome:
    return Outcome(
        allowed=False,
        code=Code.FEATURE_UNKNOWN,
        reason=f'no feature "{feature}" is published',
        feature=feature,
        tier=tier,
        pool=None,
        version=version,
    )
