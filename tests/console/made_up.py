"""A made-up installation to look at: one feature on one pool, four tiers, Free gated."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from console.history import History
from tidegate.events import Event
from tidegate.readings import DemandReading, EngineReading, GpuReading, NodeReading, TierDemand
from tidegate.snapshot import (
    DateRange,
    FeatureIntent,
    GatePart,
    GateState,
    IntentPart,
    PoolIntent,
    Signups,
    Snapshot,
    TierPolicy,
)

START = 1_772_618_400.0
"""2026-03-04 10:00 UTC."""

TIERS = {
    "free": TierPolicy(rank=3, gated=True),
    "pro": TierPolicy(rank=0, gated=False),
    "plus": TierPolicy(rank=1, gated=False),
    "team": TierPolicy(rank=2, gated=False),
}
OPEN = Signups()
PAID = {"pro": 1.0, "plus": 1.0, "team": 1.0}


def utc(at: float) -> datetime:
    """The clock that tests read."""
    return datetime.fromtimestamp(at, UTC)


def between(p50_s: float, p90_s: float) -> DateRange:
    return DateRange(p50=utc(START + p50_s), p90=utc(START + p90_s))


def feature(
    exposure: Mapping[str, float] = PAID,
    *,
    opens: Mapping[str, DateRange | None] | None = None,
    waits_for: Mapping[str, str] | None = None,
    held_because: str | None = None,
    signups: Signups = OPEN,
) -> FeatureIntent:
    return FeatureIntent(
        pool="image",
        surfaces=("chat", "api"),
        exposure=exposure,
        opens=opens or {},
        waits_for=waits_for or {},
        held_because=held_because,
        signups=signups,
    )


def intent(image: FeatureIntent | None = None, *, expires_at: float = START + 1e6) -> IntentPart:
    pool = PoolIntent(
        model="image-2",
        gpu_type="h100",
        gpus_per_replica=1,
        capacity_rps=8.0,
        target_utilisation=0.6,
        queue_wait_target_s=1.0,
        min_replicas=1,
        max_replicas=64,
        required_readings=("queue_wait",),
        reading_limit_s=5.0,
        actuation_lag_s=1.0,
        cold_start_p50_s=2.0,
        cold_start_p90_s=4.0,
        scale_down_window_s=60.0,
        safe_share=0.2,
        floor_gpus=1,
        ceiling_gpus=8,
    )
    return IntentPart(
        version=1,
        issued_at=START,
        expires_at=expires_at,
        tiers=TIERS,
        features={"image": image or feature()},
        pools={"image": pool},
    )


def gate(
    ceiling: float = 1.0,
    *,
    state: GateState = GateState.OPEN,
    reason: str = "",
    stale: bool = False,
    expires_at: float = START + 1e6,
) -> GatePart:
    return GatePart(
        pool="image",
        version=1,
        issued_at=START,
        expires_at=expires_at,
        state=state,
        stale=stale,
        openness=ceiling,
        ceilings={"free": ceiling},
        moved_at=START,
        reason=reason,
        retry_after_s=5.0,
        safe_share=0.2,
    )


def snapshot(image: FeatureIntent | None = None, part: GatePart | None = None) -> Snapshot:
    return Snapshot(intent=intent(image), gates={"image": part or gate()})


def node(
    at: float,
    waits_s: Sequence[float | None] = (0.5,),
    *,
    use: float | None = 0.5,
    absent_because: str | None = None,
) -> NodeReading:
    gpus = None if use is None else (GpuReading(index=0, utilisation=use),)
    engines = tuple(
        EngineReading(pool="image", replica=f"image-{i}", gpu=i, queue_wait_s=wait_s)
        for i, wait_s in enumerate(waits_s)
    )
    return NodeReading(
        node="local", at=at, gpus=gpus, gpus_absent_because=absent_because, engines=engines
    )


def gateway(at: float, *, admitted_rps: float = 10.0, name: str = "gw-1") -> DemandReading:
    demand = TierDemand(admitted_rps=admitted_rps, refused_by_gate_rps=2.0, not_exposed_rps=3.0)
    return DemandReading(gateway=name, at=at, demand={"image": {"pro": demand, "free": demand}})


def event(
    sequence: int, name: str, at: float = START, subject: str = "rollout/launch", **data: object
) -> Event:
    return Event.model_validate(
        {
            "source": "test",
            "sequence": sequence,
            "type": name,
            "at": utc(at),
            "subject": subject,
            "data": data,
        }
    )


def sized(sequence: int, at: float, **gpus: int) -> Event:
    figures = {"needed": 9, "ready": 2, "loading": 1, "booked": 3, "installed": 8} | gpus
    data = {f"{name}_gpus": count for name, count in figures.items()}
    return event(sequence, "pool.sized", at, "pool/image", pool="image", **data)


def launched() -> History:
    """A minute of a launch day: three tiers open, Free waits, the gate narrows, GPUs load."""
    history = History()
    events = [
        event(1, "stage.advanced", START + 5, feature="image", stage="pro", tier="pro", after=1.0),
        sized(2, START + 6),
        event(
            3, "stage.forecast", START + 20, feature="image", stage="free-first", tier="free",
            p50=utc(START + 50).isoformat(), p90=utc(START + 70).isoformat(), reason="4 GPUs lack",
        ),
        event(
            4, "gate.tightened", START + 30, "pool/image", pool="image", tier="free", before=1.0,
            after=0.4, reason="queue wait 2.10 s is over 1.00 s",
        ),
        event(
            5, "stage.advanced", START + 55, feature="image", stage="free-first", tier="free",
            after=0.25, reason="stage free-first opens for free",
        ),
    ]  # fmt: skip
    for second in range(60):
        now = START + second
        exposure = PAID if second >= 5 else {}
        waiting = feature(
            exposure | ({"free": 0.25} if second >= 55 else {}),
            opens={"free": between(50, 70)},
            waits_for={"free": "4 GPUs: 2 of 8 are unclaimed"},
        )
        narrowed = gate(0.4, state=GateState.THROTTLED, reason="queue wait 2.10 s is over 1.00 s")
        history.hear(
            now,
            snapshot(waiting, narrowed if second >= 30 else gate()),
            [node(now, (None,) if 40 <= second < 43 else (second / 30,))],
            [gateway(now, admitted_rps=float(second))],
            [e for e in events if now <= e.at.timestamp() < now + 1],
        )
    return history
