"""A fleet of many pools, as large as is asked: what its agents, gateways and cluster say."""

import random
from dataclasses import dataclass, field, replace
from typing import Final

from tidegate.cluster import ClusterState, Pod, PodPhase, PoolStatus
from tidegate.edges.temporal import ControlPlane
from tidegate.messages.budget import Observation
from tidegate.readings import DemandReading, EngineReading, GpuReading, NodeReading, TierDemand
from tidegate.snapshot import IntentPart, PoolIntent, TierPolicy

GPU_TYPE: Final = "h100"
TARGET_S: Final = 2.0
"""A queue wait that puts full pressure on a gate."""
_CAPACITY_RPS: Final = 10.0
_GPUS_OF_A_NODE: Final = 8
_TIERS: Final = {
    "pro": TierPolicy(rank=0, gated=False),
    "free": TierPolicy(rank=1, gated=True),
}


@dataclass(frozen=True, slots=True)
class Fleet:
    """Pools of one size that share the GPUs; a node has eight, all of one pool."""

    pools: int
    gpus: int
    gpus_per_replica: int = 8
    gateways: int = 8

    @property
    def replicas(self) -> int:
        """Replicas of each pool."""
        return self.gpus // self.pools // self.gpus_per_replica

    @property
    def names(self) -> list[str]:
        """Every pool's name."""
        return [f"pool-{n}" for n in range(self.pools)]


def intent_of(fleet: Fleet, now: float, version: int) -> IntentPart:
    """Write what is declared of the fleet, and what the ledger allows it."""
    most = fleet.gpus // fleet.pools
    pool = PoolIntent(
        model="image-2",
        gpu_type=GPU_TYPE,
        gpus_per_replica=fleet.gpus_per_replica,
        capacity_rps=_CAPACITY_RPS,
        target_utilisation=0.6,
        queue_wait_target_s=TARGET_S,
        min_replicas=1,
        max_replicas=2 * fleet.replicas,
        required_readings=("queue_wait", "demand"),
        reading_limit_s=10.0,
        actuation_lag_s=2.0,
        cold_start_p50_s=60.0,
        cold_start_p90_s=120.0,
        scale_down_window_s=600.0,
        safe_share=0.2,
        floor_gpus=most // 2,
        ceiling_gpus=most,
    )
    return IntentPart(
        version=version,
        issued_at=now,
        expires_at=now + 3600.0,
        tiers=_TIERS,
        features={},
        pools=dict.fromkeys(fleet.names, pool),
    )


def nodes_of(fleet: Fleet, now: float, wait_s: float = 0.1) -> list[NodeReading]:
    """Have each node's agent read its GPUs and engines at `now`, each a little otherwise."""
    chance = random.Random(now)
    beside = max(1, _GPUS_OF_A_NODE // fleet.gpus_per_replica)
    return [
        NodeReading(
            node=f"{pool}-{first}",
            at=now,
            gpus=tuple(_gpu(index, chance) for index in range(_GPUS_OF_A_NODE)),
            engines=tuple(
                _engine(pool, first + n, n * fleet.gpus_per_replica, wait_s, chance)
                for n in range(min(beside, fleet.replicas - first))
            ),
        )
        for pool in fleet.names
        for first in range(0, fleet.replicas, beside)
    ]


def gateways_of(fleet: Fleet, now: float) -> list[DemandReading]:
    """Have each gateway tell what it admitted: together half of what the replicas can do."""
    rps = fleet.replicas * _CAPACITY_RPS / 2.0 / fleet.gateways
    tiers = {
        tier: TierDemand(admitted_rps=rps / 2.0, refused_by_gate_rps=0.0, not_exposed_rps=1.0)
        for tier in _TIERS
    }
    demand = dict.fromkeys(fleet.names, tiers)
    return [
        DemandReading(gateway=f"gateway-{n}", at=now, demand=demand) for n in range(fleet.gateways)
    ]


def _gpu(index: int, chance: random.Random) -> GpuReading:
    return GpuReading(
        index=index,
        uuid=f"GPU-{chance.getrandbits(128):032x}",
        name="NVIDIA H100 80GB HBM3",
        utilisation=round(chance.random(), 2),
        memory_used_bytes=chance.randrange(80 << 30),
        memory_total_bytes=80 << 30,
        power_w=round(300.0 + 400.0 * chance.random(), 1),
        temperature_c=60.0,
        ecc_errors=0,
    )


def _engine(
    pool: str, replica: int, gpu: int, wait_s: float, chance: random.Random
) -> EngineReading:
    return EngineReading(
        pool=pool,
        replica=f"{pool}-{replica}",
        gpu=gpu,
        running=float(chance.randrange(1, 9)),
        waiting=0.0,
        kv_cache_use=round(0.5 * chance.random(), 3),
        requests_total=float(chance.randrange(1 << 20)),
        tokens_total=float(chance.randrange(1 << 30)),
        queue_wait_s=wait_s,
    )


class HeldCluster:
    """A cluster in memory: it says what it was told to hold, and holds what it is asked to."""

    def __init__(self, fleet: Fleet, now: float) -> None:
        pools = {
            name: PoolStatus(
                name,
                fleet.replicas,
                fleet.gpus_per_replica,
                tuple(
                    Pod(f"{name}-{n}", PodPhase.READY, f"http://{name}-{n}", now, now)
                    for n in range(fleet.replicas)
                ),
            )
            for name in fleet.names
        }
        self.state = ClusterState(1, {GPU_TYPE: fleet.gpus}, pools)

    async def observe(self, *, after: int | None = None, wait_s: float = 0.0) -> ClusterState:  # noqa: ARG002
        """Return the state at once."""
        return self.state

    async def scale(self, pool: str, replicas: int) -> None:
        """Want so many replicas; their pods stay as they are."""
        pools = self.state.pools
        status = replace(pools[pool], replicas=replicas)
        self.state = replace(self.state, pools={**pools, pool: status})


@dataclass
class HeardBudgets(ControlPlane):
    """Hears what budgets are signalled; Temporal is measured by `benchmarks.workflows`."""

    heard: list[Observation] = field(default_factory=list)

    async def observe(self, gpu_type: str, seen: Observation) -> None:  # noqa: ARG002
        """Keep it."""
        self.heard.append(seen)
