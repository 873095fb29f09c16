"""What every contestant decides: one flag, four tiers, 20 % of Free, users from 1,000,000."""

from collections.abc import Mapping
from typing import Final

from tidegate.snapshot import FeatureIntent, GatePart, GateState, IntentPart, PoolIntent, TierPolicy

TIERS: Final = ("pro", "team", "plus", "free")
FREE_SHARE: Final = 0.2
USERS: Final = 1_000_000
_LIVES_S: Final = 86_400.0


def the_snapshot(
    now: float, more: Mapping[str, FeatureIntent] | None = None
) -> tuple[IntentPart, GatePart]:
    """Return the parts to publish at `now`, in seconds since the epoch, with `more` features."""
    version = int(now * 1000)
    intent = IntentPart(
        version=version,
        issued_at=now,
        expires_at=now + _LIVES_S,
        tiers={name: TierPolicy(rank=i, gated=name == "free") for i, name in enumerate(TIERS)},
        features={"image": the_feature(), **(more or {})},
        pools={"image": _POOL},
    )
    gate = GatePart(
        pool="image",
        version=version,
        issued_at=now,
        expires_at=now + _LIVES_S,
        state=GateState.OPEN,
        stale=False,
        openness=1.0,
        ceilings={"free": 1.0},
        moved_at=now,
        reason="open",
        retry_after_s=5.0,
        safe_share=0.2,
    )
    return intent, gate


def the_feature(**changes: object) -> FeatureIntent:
    """Return the feature that is decided, open for 20 % of Free and for all others."""
    exposure = {**dict.fromkeys(TIERS, 1.0), "free": FREE_SHARE}
    feature = FeatureIntent(pool="image", surfaces=("api",), exposure=exposure)
    return feature.model_copy(update=changes)


_POOL: Final = PoolIntent(
    model="image-2",
    gpu_type="h100",
    gpus_per_replica=1,
    capacity_rps=1.0,
    target_utilisation=0.6,
    queue_wait_target_s=2.0,
    min_replicas=0,
    max_replicas=1,
    required_readings=(),
    reading_limit_s=15.0,
    actuation_lag_s=10.0,
    cold_start_p50_s=60.0,
    cold_start_p90_s=120.0,
    scale_down_window_s=600.0,
    safe_share=0.2,
    floor_gpus=0,
    ceiling_gpus=None,
)
