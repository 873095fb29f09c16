"""May this user use this now? One snapshot compiled into tables, one look-up a request."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tidegate.rules.exposure import FULL, place, threshold
from tidegate.snapshot import DateRange, FeatureIntent, GatePart, Snapshot

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
        ceiling = rule.ceiling_below
        if now > rule.gate_expires_at:
            ceiling = rule.ceiling_after_expiry_below
        if ceiling < FULL and place(shed_salt(table.pool, now), user) >= ceiling:
            return rule.shed
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
    features: dict[str, _FeatureTable] = {}
    for name, feature in intent.features.items():
        gate = snapshot.gates.get(feature.pool)
        tiers = {
            tier: _compile_tier(name, feature, tier, gate if policy.gated else None, version)
            for tier, policy in intent.tiers.items()
        }
        features[name] = _FeatureTable(
            pool=feature.pool,
            surfaces=frozenset(feature.surfaces),
            closes_at=intent.expires_at if feature.on_stale == "close" else float("inf"),
            tiers=tiers,
            surface_closed=_refusal(
                name, feature, version, Code.SURFACE_CLOSED,
                f"{name} is offered on {', '.join(feature.surfaces)} only",
            ),
            stale=_refusal(
                name, feature, version, Code.INTENT_STALE,
                f"{name} closes when nothing has been heard of it for too long",
            ),
            tier_unknown=_refusal(
                name, feature, version, Code.TIER_UNKNOWN, "no such tier in the catalogue",
            ),
        )
    return Decider(features=features, version=version)


def _compile_tier(
    name: str, feature: FeatureIntent, tier: str, gate: GatePart | None, version: int
) -> _TierTable:
    share = feature.exposure.get(tier, 0.0)
    opens = feature.opens.get(tier)
    ceiling = 1.0 if gate is None else gate.ceilings.get(tier, 1.0)
    retry_after_s = None if gate is None else gate.retry_after_s

    def outcome(code: Code, reason: str, retry_s: float | None = None) -> Outcome:
        return Outcome(
            allowed=code is Code.ALLOWED, code=code, reason=reason, feature=name, tier=tier,
            pool=feature.pool, version=version, retry_after_s=retry_s,
            opens=opens if code is Code.NOT_EXPOSED else None,
        )

    return _TierTable(
        exposed_below=threshold(share),
        ceiling_below=threshold(ceiling),
        ceiling_after_expiry_below=threshold(
            1.0 if gate is None else min(ceiling, gate.safe_share)
        ),
        gate_expires_at=float("inf") if gate is None else gate.expires_at,
        allowed=outcome(Code.ALLOWED, f"{name} is open for {tier}"),
        not_exposed=outcome(Code.NOT_EXPOSED, _why_not_exposed(name, feature, tier, share)),
        shed=outcome(
            Code.GATE_SHED,
            "" if gate is None else f"pool {gate.pool} is {gate.state}: {gate.reason}",
            retry_after_s,
        ),
    )


def _why_not_exposed(name: str, feature: FeatureIntent, tier: str, share: float) -> str:
    if feature.held_because is not None:
        return f"{name} is on hold: {feature.held_because}"
    reach = f"is open for {share:.3%} of {tier}" if share else f"is not open for {tier} yet"
    waits_for = feature.waits_for.get(tier)
    return f"{name} {reach}" + (f"; it waits for {waits_for}" if waits_for else "")


def _refusal(name: str, feature: FeatureIntent, version: int, code: Code, reason: str) -> Outcome:
    return Outcome(
        allowed=False, code=code, reason=reason, feature=name, tier="", pool=feature.pool,
        version=version,
    )


def _unknown_feature(feature: str, tier: str, version: int) -> Outcome:
    return Outcome(
        allowed=False, code=Code.FEATURE_UNKNOWN, reason=f'no feature "{feature}" is published',
        feature=feature, tier=tier, pool=None, version=version,
    )
