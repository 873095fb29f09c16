"""What the slower loops publish and the request path reads: intent, and each pool's gate."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from tidegate.audience import AudienceSpec, LayerSlice, Segment
from tidegate.quantities import format_share
from tidegate.quotas import QuotaSpec

INTENT = "intent"
"""The name of the part that the publisher writes."""


def gate_part(pool: str) -> str:
    """Name the part that holds this pool's gate."""
    return f"gate/{pool}"


def kill_part(feature: str) -> str:
    """Name the part that holds the order to close this feature."""
    return f"kill/{feature}"


def waitlist_part(feature: str) -> str:
    """Name the part that holds this feature's waitlist."""
    return f"waitlist/{feature}"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class TierPolicy(_Part):
    """A tier as the request path needs it; rank 0 is served first and shed last."""

    rank: int
    gated: bool


class DateRange(_Part):
    """When something is expected: as likely as not by `p50`, nine times in ten by `p90`."""

    p50: datetime
    p90: datetime


class Signups(_Part):
    """Whether those outside may come in, apart from what those inside may do."""

    state: Literal["open", "suspended"] = "open"
    cohorts: tuple[str, ...] = ()
    """While suspended: cohorts that may come in all the same, as sign-ups reopen."""
    share: float = 0.0
    """While suspended: the share of those who ask that may come in all the same, 0 to 1."""
    reason: str = ""


class WaitlistIntent(_Part):
    """How those who wait for a feature are called; a feature without one has no waitlist."""

    calls_per_s: float
    """How many may come in a second while the pool's gate is open."""
    claim_window_s: float
    """How long somebody who was called may take to come."""


class ModelIntent(_Part):
    """A model's other names, and how it goes; times are seconds since the epoch."""

    aliases: tuple[str, ...] = ()
    deprecated_at: float | None = None
    sunset_at: float | None = None
    """When it is to go, as people are told; nobody is refused before it says `gone`."""
    successor: str | None = None
    brownouts: tuple[tuple[float, float], ...] = ()
    link: str | None = None
    is_restricted: bool = False
    """Whether nobody new may come to it."""
    gone: tuple[tuple[str, float], ...] = ()
    """Tiers that are refused it, and since when."""
    retired_at: float | None = None
    """Since when it is refused to everybody, and its pools serve nobody."""
    spared: tuple[str, ...] = ()
    """Tiers that keep it, whatever is told of it."""
    personality: tuple[tuple[str, str], ...] = ()
    """For settings of its manner: the successor's that come nearest."""


class Opening(_Part):
    """How far a feature is exposed to a part of a tier, beside what all of the tier is."""

    tier: str
    segment: Segment
    share: float

    def __str__(self) -> str:
        """Say it in words, such as `free 25% on regions eu`."""
        return f"{self.tier} {format_share(self.share)} on {self.segment}"


class FeatureIntent(_Part):
    """Who a feature is exposed to, and what is known of when the others follow."""

    pool: str
    surfaces: tuple[str, ...]
    exposure: Mapping[str, float]
    """Share of each tier that is in, 0 to 1; a tier not named is not exposed."""
    openings: tuple[Opening, ...] = ()
    """Parts of tiers that are exposed further: who is in by any of them is in."""
    opens: Mapping[str, DateRange | None] = Field(default_factory=dict)
    """For tiers whose next stage waits: the forecast range, None where it is unknown."""
    waits_for: Mapping[str, str] = Field(default_factory=dict)
    """For the same tiers: what the stage waits for, in words."""
    held_because: str | None = None
    is_withdrawn: bool = False
    """Whether a hold lets nobody in, however far the feature is exposed."""
    on_stale: Literal["keep", "close"] = "keep"
    audience: AudienceSpec | None = None
    invited: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    layer: LayerSlice | None = None
    quotas: Mapping[str, tuple[QuotaSpec, ...]] = Field(default_factory=dict)
    """By tier."""
    signups: Signups = Signups()
    waitlist: WaitlistIntent | None = None


class PoolIntent(_Part):
    """A pool's settings and the bounds that the ledger sets it, in GPUs."""

    model: str
    gpu_type: str
    gpus_per_replica: int
    capacity_rps: float
    """What one replica serves at full use, requests a second."""
    target_utilisation: float
    queue_wait_target_s: float
    min_replicas: int
    max_replicas: int
    required_readings: tuple[str, ...]
    reading_limit_s: float
    actuation_lag_s: float
    cold_start_p50_s: float
    cold_start_p90_s: float
    scale_down_window_s: float
    safe_share: float
    floor_gpus: int
    """GPUs to keep ready: for the users inside, and for stages about to open."""
    ceiling_gpus: int | None
    """GPUs the ledger lets this pool book; None where the budget is unknown: no growth."""
    may_grow: bool = False
    """Whether GPUs for one more replica are unclaimed, so that it takes a cold start alone."""
    grows: DateRange | None = None
    """Else when one more should serve, by the arrivals that are known; None where none tells."""
    gated_objective: float | None = None
    """Share of gated tiers to be let in; None where the utilisation is not learned from it."""


class IntentPart(_Part):
    """What people decided, as one document; times are seconds since the epoch."""

    version: int
    issued_at: float
    expires_at: float
    tiers: Mapping[str, TierPolicy]
    features: Mapping[str, FeatureIntent]
    pools: Mapping[str, PoolIntent]
    models: Mapping[str, ModelIntent] = Field(default_factory=dict)


class Renewal(_Part):
    """New stamps for an intent that says what it said before."""

    of: int
    """The version that it renews."""
    version: int
    issued_at: float
    expires_at: float


class GateState(StrEnum):
    """How far a pool's gate is open."""

    OPEN = "open"
    THROTTLED = "throttled"
    WAITLISTED = "waitlisted"
    REOPENING = "reopening"


class GatePart(_Part):
    """One pool's gate; times are seconds since the epoch."""

    pool: str
    version: int
    issued_at: float
    expires_at: float
    state: GateState
    stale: bool
    """Whether required readings are missing, so that the gate may not reopen."""
    openness: float
    """Tiers' worth of gate that is open: 0 shuts every gated tier, their number opens all."""
    ceilings: Mapping[str, float]
    """Share of each gated tier's users that is let in; a tier not named is never gated."""
    moved_at: float
    """When the openness last changed."""
    reason: str
    retry_after_s: float
    safe_share: float


class KillPart(_Part):
    """A person's order to close a feature, which only ever narrows; times as in a gate's part."""

    feature: str
    version: int
    issued_at: float
    expires_at: float
    """Until when it holds."""
    tiers: tuple[str, ...] | None = None
    """Whom it closes the feature for; None for all."""
    by: str
    reason: str
    kept_until: float = 0.0
    """Until when it is remembered, ended or not: longer where it lifts an order than it holds."""
    token: str = ""
    """The order as signed, so that whoever holds it can publish it again."""


class Lane(_Part):
    """One tier's line: numbers are given out in order, called in order, and never given twice."""

    issued_below: int = 0
    """Lower numbers may have been given out; those that nobody got are nobody's."""
    called_below: int = 0
    """Whoever has a lower number may come, until the claim window is over."""
    expired_below: int = 0
    """Whoever has a lower number was called so long ago that the claim window is over."""
    gaps: tuple[tuple[int, int], ...] = ()
    """Numbers from the one to below the other were skipped after a loss, and are nobody's."""
    came: int = 0
    """How many of those called came, and are not expired yet."""
    credit: float = 0.0
    """A call that is due in part."""
    missed: float = 0.0
    """How many are to be called yet in place of those who did not come."""
    calls_per_s: float | None = None
    """How many are called a second, as of late; None where nobody is."""
    late: tuple[tuple[float, float], ...] = ()
    """How many times its forecast a wait took, of each kind of wait: at most the first as likely
    as not, at most the second nine times in ten; empty where nothing came true yet."""

    def waiters(self, start: int, end: int) -> int:
        """Count the numbers from `start` to below `end` that somebody may have."""
        skipped = sum(max(0, min(end, b) - max(start, a)) for a, b in self.gaps)
        return max(0, end - start - skipped)

    @property
    def waiting(self) -> int:
        """How many may be waiting to be called."""
        return self.waiters(self.called_below, self.issued_below)


class WaitlistPart(_Part):
    """One feature's waitlist; times as in a gate's part."""

    feature: str
    version: int
    issued_at: float
    expires_at: float
    lanes: Mapping[str, Lane]
    """By tier."""
    moves: tuple[tuple[float, Mapping[str, int]], ...] = ()
    """Until when those below which number of each tier may come, oldest first."""
    stopped_because: str | None = None
    """Why nobody is called; None while somebody is, or would be."""


class Snapshot(BaseModel):
    """Everything a decision needs, as last heard."""

    model_config = ConfigDict(frozen=True)

    intent: IntentPart | None = None
    gates: Mapping[str, GatePart] = Field(default_factory=dict)
    kills: Mapping[str, KillPart] = Field(default_factory=dict)
    """By feature."""
    waitlists: Mapping[str, WaitlistPart] = Field(default_factory=dict)
    """By feature."""

    def versions(self) -> dict[str, int]:
        """Return the version held of each part."""
        held = {gate_part(pool): gate.version for pool, gate in self.gates.items()}
        held |= {kill_part(feature): kill.version for feature, kill in self.kills.items()}
        held |= {waitlist_part(name): each.version for name, each in self.waitlists.items()}
        if self.intent is not None:
            held[INTENT] = self.intent.version
        return held


def lowest_tier(intent: IntentPart | None) -> str:
    """Return the tier that is served last, which everybody is of by default; "" without any."""
    tiers = {} if intent is None else intent.tiers
    by_rank = ((policy.rank, policy.gated, name) for name, policy in tiers.items())
    return max(by_rank, default=(0, True, ""))[2]


STAMPS: Final = frozenset({"version", "issued_at", "expires_at"})
"""The fields of a part that change when it is renewed as it was."""


def is_same_intent(one: IntentPart | None, other: IntentPart | None) -> bool:
    """Say whether two intents say the same, apart from when."""
    if one is None or other is None:
        return one is other
    # What was taken over as it was is the same object, which is all that is looked at then.
    return all(
        getattr(one, name) is getattr(other, name) or getattr(one, name) == getattr(other, name)
        for name in IntentPart.model_fields
        if name not in STAMPS
    )


def moved_gates(before: Snapshot, after: Snapshot) -> frozenset[str] | None:
    """Name the pools whose gates say something else; None where more than gates does."""
    if before.kills != after.kills or not is_same_intent(before.intent, after.intent):
        return None
    return frozenset(
        pool
        for pool in {*before.gates, *after.gates}
        if not _is_same_gate(before.gates.get(pool), after.gates.get(pool))
    )


def _is_same_gate(one: GatePart | None, other: GatePart | None) -> bool:
    if one is other or one is None or other is None:
        return one is other
    return all(value == getattr(other, name) for name, value in one if name not in STAMPS)


def changed_features(before: Snapshot, after: Snapshot) -> tuple[str, ...]:
    """Name the features whose answers may have changed between two snapshots, sorted.

    A gate's part is renewed each second, mostly unmoved, and renewing changes no answer.
    """
    is_as_before = moved_gates(before, after) == frozenset()
    if is_as_before and tiers_that_wait(before) == tiers_that_wait(after):
        return ()
    then, now = _decided_by(before), _decided_by(after)
    return tuple(sorted(name for name in {*then, *now} if then.get(name) != now.get(name)))


def _decided_by(snapshot: Snapshot) -> dict[str, tuple[object, ...]]:
    """Return what the answers about each feature depend on."""
    intent = snapshot.intent
    if intent is None:
        return {}
    gates = {pool: (gate.state, gate.ceilings) for pool, gate in snapshot.gates.items()}
    waits = tiers_that_wait(snapshot)
    return {
        name: (
            feature,
            intent.tiers,
            intent.models,
            gates.get(feature.pool),
            snapshot.kills.get(name),
            waits.get(name),
            # What it requires may require others in turn.
            (intent.features, snapshot.kills) if feature.requires else None,
        )
        for name, feature in intent.features.items()
    }


def tiers_that_wait(snapshot: Snapshot) -> dict[str, list[str]]:
    """Name the tiers of which somebody waits, by feature."""
    return {
        name: [tier for tier, lane in part.lanes.items() if lane.waiting]
        for name, part in snapshot.waitlists.items()
    }


def next_version(now: float, seen: int) -> int:
    """Return a hybrid-clock version: at least now in milliseconds, and above any seen."""
    return max(int(now * 1000), seen + 1)
