"""Snapshots to ask questions of: one that reads well, and Hypothesis' worst."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from hypothesis import strategies as st

from tidegate.audience import AttributeTest, AudienceSpec, LayerSlice, Segment, VersionRange
from tidegate.rules.gate import derive_ceilings
from tidegate.snapshot import (
    DateRange,
    FeatureIntent,
    GatePart,
    GateState,
    IntentPart,
    Opening,
    PoolIntent,
    Signups,
    Snapshot,
    TierPolicy,
)

NOW: Final = 1_772_000_000.0
"""An instant in the middle of an hour."""

TIERS: Final = {
    "pro": TierPolicy(rank=0, gated=False),
    "plus": TierPolicy(rank=1, gated=False),
    "free": TierPolicy(rank=2, gated=True),
}

OPENS: Final = DateRange(
    p50=datetime(2026, 3, 4, 9, tzinfo=UTC), p90=datetime(2026, 3, 6, 18, tzinfo=UTC)
)

POOL: Final = PoolIntent(
    model="image-2",
    gpu_type="h100",
    gpus_per_replica=1,
    capacity_rps=4.0,
    target_utilisation=0.7,
    queue_wait_target_s=1.0,
    min_replicas=1,
    max_replicas=8,
    required_readings=(),
    reading_limit_s=5.0,
    actuation_lag_s=2.0,
    cold_start_p50_s=4.0,
    cold_start_p90_s=6.0,
    scale_down_window_s=30.0,
    safe_share=0.3,
    floor_gpus=1,
    ceiling_gpus=8,
)

FEATURE: Final = FeatureIntent(
    pool="image", surfaces=("api", "web"), exposure={"pro": 1.0, "plus": 1.0, "free": 1.0}
)


def feature(**changes: object) -> FeatureIntent:
    """The image feature, open for all, but for these changes."""
    return FEATURE.model_copy(update=changes)


def intent(
    features: Mapping[str, FeatureIntent] | None = None,
    *,
    version: int = 10,
    at: float = NOW,
    expires_at: float | None = None,
    tiers: Mapping[str, TierPolicy] = TIERS,
) -> IntentPart:
    """What people decided: without features, the image feature open for all."""
    return IntentPart(
        version=version,
        issued_at=at,
        expires_at=at + 600.0 if expires_at is None else expires_at,
        tiers=tiers,
        features={"image": FEATURE} if features is None else features,
        pools={"image": POOL},
    )


def gate(
    ceilings: Mapping[str, float] | None = None,
    *,
    version: int = 11,
    at: float = NOW,
    expires_at: float | None = None,
    safe_share: float = 0.3,
) -> GatePart:
    """The image pool's gate: without ceilings, open."""
    return GatePart(
        pool="image",
        version=version,
        issued_at=at,
        expires_at=at + 60.0 if expires_at is None else expires_at,
        state=GateState.THROTTLED if ceilings else GateState.OPEN,
        stale=False,
        openness=1.0,
        ceilings=ceilings or {"free": 1.0},
        moved_at=at,
        reason="queue wait is at 140% of its limit" if ceilings else "open",
        retry_after_s=8.0,
        safe_share=safe_share,
    )


def snapshot(intent_part: IntentPart | None = None, *gates: GatePart) -> Snapshot:
    """A whole snapshot: without gates, the image pool's is open."""
    held = gates or (gate(),)
    return Snapshot(intent=intent_part or intent(), gates={g.pool: g for g in held})


texts = st.builds(str.__add__, st.text(max_size=12), st.sampled_from(["", "\ud800", "\udfff"]))
"""Any text at all, halves of surrogate pairs included."""
users = st.text(min_size=1, max_size=12)
shares = st.floats(0.0, 1.0)
any_float = st.floats()
instants = st.floats(0.0, 4e9)


@st.composite
def tier_policies(draw: st.DrawFn) -> dict[str, TierPolicy]:
    """Some tiers, ranked in their order, the lower ones gated."""
    names = draw(st.lists(st.sampled_from("abcdef"), min_size=1, unique=True))
    first_gated = draw(st.integers(0, len(names)))
    return {
        name: TierPolicy(rank=rank, gated=rank >= first_gated) for rank, name in enumerate(names)
    }


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """A feature on a pool, under a gate that the law could have derived, or under none."""
    tiers = draw(tier_policies())
    exposed = feature(
        exposure={tier: draw(shares) for tier in tiers},
        on_stale=draw(st.sampled_from(["keep", "close"])),
        held_because=draw(st.none() | st.just("legal")),
    )
    part = intent({"image": exposed}, tiers=tiers, expires_at=draw(instants))
    if not draw(st.booleans()):
        return Snapshot(intent=part)
    ceilings = derive_ceilings(draw(st.floats(0.0, len(tiers))), tiers)
    shut = gate(ceilings, expires_at=draw(instants), safe_share=draw(shares))
    return snapshot(part, shut)


attributes = st.dictionaries(
    st.sampled_from(["region", "cohorts", "appVersion", "seats", "country", "plan"]) | texts,
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.sampled_from(["eu", "de", "2.4.0", ["beta"], [["beta"]], {"a": 1}]),
    max_size=6,
)
"""What a caller may say of a user: anything that JSON can hold."""

_NAMES: Final = ("image", "chat", "video")

_audiences = st.builds(
    AudienceSpec,
    regions=st.sampled_from([(), ("eu",)]),
    cohorts=st.sampled_from([(), ("beta",)]),
    app_version=st.sampled_from([None, VersionRange(at_least="2.0", below="3.0")]),
    attributes=st.sampled_from([(), (AttributeTest(name="seats", at_least=10),)]),
)


def openings(tiers: list[str]) -> st.SearchStrategy[Opening]:
    """A part of a tier that is exposed by itself."""
    segment = st.builds(
        Segment,
        surfaces=st.sampled_from([(), ("api",), ("web",)]),
        regions=st.sampled_from([(), ("eu",)]),
        cohorts=st.sampled_from([(), ("beta",)]),
    )
    return st.builds(Opening, tier=st.sampled_from(tiers), segment=segment, share=shares)


@st.composite
def conditioned_snapshots(draw: st.DrawFn) -> Snapshot:
    """Several features with all that one may ask of a user, circles and unknown names included."""
    tiers = draw(tier_policies())
    features = {
        name: feature(
            exposure={tier: draw(shares) for tier in tiers},
            openings=tuple(draw(st.lists(openings(list(tiers)), max_size=2))),
            audience=draw(st.none() | _audiences),
            invited=draw(st.sampled_from([(), ("ada",)])),
            requires=tuple(draw(st.lists(st.sampled_from([*_NAMES, "gone"]), max_size=2))),
            layer=draw(st.sampled_from([None, LayerSlice(name="labs", start=0.2, end=0.7)])),
            on_stale=draw(st.sampled_from(["keep", "close"])),
            signups=Signups(
                state=draw(st.sampled_from(["open", "suspended"])),
                cohorts=draw(st.sampled_from([(), ("beta",)])),
                share=draw(st.just(0.0) | shares),
            ),
        )
        for name in draw(st.lists(st.sampled_from(_NAMES), min_size=1, unique=True))
    }
    part = intent(features, tiers=tiers, expires_at=draw(instants))
    ceilings = derive_ceilings(draw(st.floats(0.0, len(tiers))), tiers)
    shut = gate(ceilings, expires_at=draw(instants), safe_share=draw(shares))
    return snapshot(part, shut) if draw(st.booleans()) else Snapshot(intent=part)
