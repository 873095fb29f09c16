"""What stands around a loop in its tests: the intent, readings, a cluster and what was told."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from tests.strategies import pool_intent
from tidegate.cluster import ClusterState, Pod, PodPhase, PoolStatus
from tidegate.edges.redis import Redis
from tidegate.edges.temporal import ControlPlane
from tidegate.errors import Refused, Unavailable
from tidegate.events import Event
from tidegate.messages.budget import Observation
from tidegate.readings import DemandReading, EngineReading, GpuReading, NodeReading, TierDemand
from tidegate.snapshot import FeatureIntent, IntentPart, PoolIntent, TierPolicy

NOW = 1_772_000_000.0
TIERS = {
    "pro": TierPolicy(rank=0, gated=False),
    "free": TierPolicy(rank=1, gated=True),
}
POOL = pool_intent(actuation_lag_s=2.0, reading_limit_s=5.0, scale_down_window_s=20.0)
"""One-GPU replicas of 10 requests a second, sized to half of that; safe share 20 %."""


async def publish_intent(
    redis: Redis,
    pool: PoolIntent = POOL,
    tiers: Mapping[str, TierPolicy] = TIERS,
    features: Mapping[str, FeatureIntent] | None = None,
) -> None:
    held = (await redis.snapshot()).intent
    part = IntentPart(
        version=1 + (held.version if held else 0),
        issued_at=NOW,
        expires_at=NOW + 3600.0,
        tiers=tiers,
        features=features or {},
        pools={"image": pool},
    )
    assert await redis.publish(part)


def engine(replica: int = 1, **read: float | None) -> EngineReading:
    """One idle replica, but for what is given."""
    idle = {"running": 1.0, "waiting": 0.0, "kv_cache_use": 0.1, "queue_wait_s": 0.1}
    return msgspec.convert(
        {"pool": "image", "replica": f"image-{replica}", "gpu": replica, **idle, **read},
        EngineReading,
    )


def node(
    at: float, *engines: EngineReading, name: str = "local", gpus: tuple[GpuReading, ...] = ()
) -> NodeReading:
    return NodeReading(node=name, at=at, gpus=gpus, engines=engines)


def gateway(
    at: float, admitted_rps: float = 0.0, refused_rps: float = 0.0, **more: object
) -> DemandReading:
    free = TierDemand(
        admitted_rps=admitted_rps, refused_by_gate_rps=refused_rps, not_exposed_rps=1000.0
    )
    reading = DemandReading(gateway="one", at=at, demand={"image": {"free": free}})
    return msgspec.structs.replace(reading, **more)


async def told(redis: Redis) -> list[Event]:
    """Return what was told, as a recorder would keep it: what is sent again counts once."""
    heard = (await redis.events(after="0")).events
    return sorted({event.id: event for event in heard}.values(), key=lambda event: event.sequence)


class Budgets(ControlPlane):
    """Hears what budgets are signalled, unless Temporal is away."""

    def __init__(self) -> None:
        self.heard: list[Observation] = []
        self.is_away = False

    async def observe(self, gpu_type: str, seen: Observation) -> None:
        assert gpu_type == "h100"
        if self.is_away:
            raise Unavailable("temporal: no answer", code="temporal-unavailable")
        self.heard.append(seen)


@dataclass
class MemoryCluster:
    """A cluster of one pool, whose replicas are ready as soon as they are wanted."""

    state: ClusterState = field(
        default_factory=lambda: ClusterState(
            revision=1, gpus={"h100": 8}, pools={"image": PoolStatus("image", 0, 1, ())}
        )
    )
    scaled_by: str | None = None
    is_away: bool = False
    asked: list[int] = field(default_factory=list)
    """Replicas of each call of `scale`, refused or not."""

    async def observe(
        self,
        *,
        after: int | None = None,  # noqa: ARG002 - as the protocol has it
        wait_s: float = 0.0,  # noqa: ARG002
    ) -> ClusterState:
        if self.is_away:
            raise Unavailable("cluster: no answer", code="cluster-unavailable")
        return self.state

    async def scale(self, pool: str, replicas: int) -> None:
        self.asked.append(replicas)
        if self.scaled_by is not None:
            message = f'pool "{pool}": {self.scaled_by} already scales it.'
            raise Refused(message, code="owned")
        self.hold(replicas)

    def hold(self, replicas: int, phase: PodPhase = PodPhase.READY) -> None:
        """Have so many replicas, all in this phase."""
        pods = tuple(
            Pod(f"image-{n}", phase, f"http://127.0.0.1:1/{n}", NOW, gpu=n) for n in range(replicas)
        )
        status = PoolStatus("image", replicas, 1, pods)
        self.state = replace(self.state, revision=self.state.revision + 1, pools={"image": status})

    def install(self, gpus: int) -> None:
        self.state = replace(self.state, revision=self.state.revision + 1, gpus={"h100": gpus})
