"""Pools without machines: GPUs, cold starts and queues, in whatever time the driver says it is."""

from collections.abc import Iterator, Mapping
from random import Random

from rehearsal.replicas import SimulatedPool
from tidegate.catalogue import PoolSpec
from tidegate.cluster import ClusterState, PodPhase
from tidegate.errors import Refused
from tidegate.readings import GpuReading, NodeReading


class SimulatedPools:
    """A `Cluster` whose replicas are numbers; time passes in `advance` and nowhere else.

    `installed` gives GPUs by type; `now` is in seconds since the epoch. The same seed draws the
    same cold starts for a pool, whatever the others do.
    """

    def __init__(
        self, pools: Mapping[str, PoolSpec], installed: Mapping[str, int], *, seed: int, now: float
    ) -> None:
        self._now = now
        self._step_s = 1.0
        self._revision = 1
        self._installed = dict(installed)
        self._pools = {
            name: SimulatedPool(name, spec, Random(f"{seed}/{name}"))
            for name, spec in pools.items()
        }

    async def observe(self, *, after: int | None = None, wait_s: float = 0.0) -> ClusterState:  # noqa: ARG002 - nothing changes while somebody waits
        """Return the state at once: it changes when the driver steps, never while one waits."""
        return ClusterState(
            revision=self._revision,
            gpus=dict(self._installed),
            pools={name: pool.status() for name, pool in self._pools.items()},
        )

    async def scale(self, pool: str, replicas: int) -> None:
        """Want this many replicas from now on; raises Refused where there is no such pool."""
        if pool not in self._pools:
            known = ", ".join(f'"{name}"' for name in self._pools) or "none"
            message = f'pool "{pool}" is not rehearsed, known are: {known}. Add it to the plan.'
            raise Refused(message, code="unknown_pool")
        self._pools[pool].wanted = replicas
        self._settle()

    def install(self, gpu_type: str, gpus: int) -> None:
        """Add GPUs of a type."""
        self._installed[gpu_type] = self._installed.get(gpu_type, 0) + gpus
        self._settle()

    def advance(self, now: float, admitted_rps: Mapping[str, float], step_s: float) -> None:
        """Let the last `step_s` before `now` have passed, with these admissions to each pool."""
        for name, pool in self._pools.items():
            pool.advance(now - step_s, now, admitted_rps.get(name, 0.0))
        self._now, self._step_s = now, step_s
        self._settle()

    def backlog(self, pool: str) -> float:
        """Return how many requests wait before a pool."""
        return self._pools[pool].flow.backlog

    def readings(self) -> Iterator[NodeReading]:
        """Read everything, each GPU type as one node."""
        for gpu_type, installed in self._installed.items():
            pools = [p for p in self._pools.values() if p.spec.gpu_type == gpu_type]
            yield NodeReading(
                node=gpu_type,
                at=self._now,
                gpus=tuple(
                    GpuReading(index=index, utilisation=busy)
                    for index, busy in enumerate(_duty_cycles(pools, installed))
                ),
                engines=tuple(engine for pool in pools for engine in pool.engines(self._step_s)),
            )

    def _settle(self) -> None:
        """Bring replicas nearer to what is wanted, as far as GPUs reach; the oldest load first."""
        self._revision += 1
        for pool in self._pools.values():
            pool.settle(self._now)
        pending = [
            (replica.created_at, replica.number, pool, replica)
            for pool in self._pools.values()
            for replica in pool.those(PodPhase.PENDING)
        ]
        free = {gpu_type: self._free_gpus(gpu_type) for gpu_type in self._installed}
        for _, _, pool, replica in sorted(pending, key=lambda each: each[:2]):
            left = free.get(pool.spec.gpu_type, [])
            needed = pool.spec.gpus_per_replica
            if needed <= len(left):
                pool.load(replica, tuple(left[:needed]), self._now)
                del left[:needed]

    def _free_gpus(self, gpu_type: str) -> list[int]:
        taken = {
            gpu
            for pool in self._pools.values()
            if pool.spec.gpu_type == gpu_type
            for replica in pool.replicas
            for gpu in replica.gpus
        }
        return [gpu for gpu in range(self._installed[gpu_type]) if gpu not in taken]


def _duty_cycles(pools: list[SimulatedPool], installed: int) -> list[float]:
    busy = [0.0] * installed
    for pool in pools:
        for replica in pool.those(PodPhase.READY):
            for gpu in replica.gpus:
                busy[gpu] = pool.flow.busy
    return busy
