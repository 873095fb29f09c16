"""The GPU agent: one a node, reads its GPUs and the engines beside them, once a second."""

import asyncio
from dataclasses import dataclass

from tidegate.cluster import Cluster, Pod, PodPhase
from tidegate.edges.engine_metrics import EngineMetrics, EngineTarget
from tidegate.edges.nvml import NvmlReader
from tidegate.edges.redis import Redis
from tidegate.errors import Unavailable
from tidegate.readings import Absent, EngineReading, NodeReading


@dataclass(frozen=True, slots=True)
class Node:
    """The machine of an agent, and the type of its GPUs, as their budget is named."""

    name: str
    gpu_type: str | None = None


class GpuAgent:
    """Publishes one reading a tick; what cannot be read is absent in it, never zero."""

    def __init__(
        self, node: Node, redis: Redis, cluster: Cluster, nvml: NvmlReader, engines: EngineMetrics
    ) -> None:
        self._node = node
        self._redis = redis
        self._cluster = cluster
        self._nvml = nvml
        self._engines = engines

    async def tick(self, now: float) -> None:
        """Read and publish."""
        gpus, engines = await asyncio.gather(self._nvml.read(), self._read_engines())
        absent = gpus.reason if isinstance(gpus, Absent) else None
        await self._redis.publish_reading(
            NodeReading(
                node=self._node.name,
                at=now,
                gpu_type=self._node.gpu_type,
                gpus=None if isinstance(gpus, Absent) else gpus,
                gpus_absent_because=absent,
                engines=engines,
            )
        )

    async def _read_engines(self) -> tuple[EngineReading, ...]:
        seen = await self._cluster.observe()
        serving = [
            (pool.name, pod)
            for pool in seen.pools.values()
            for pod in pool.pods
            if pod.phase is PodPhase.READY
        ]
        read = await asyncio.gather(*(self._read_engine(pool, pod) for pool, pod in serving))
        return tuple(reading for readings in read for reading in readings)

    async def _read_engine(self, pool: str, pod: Pod) -> tuple[EngineReading, ...]:
        if pod.address is None:
            return ()
        try:
            return await self._engines.scrape(
                EngineTarget(pool=pool, replica=pod.name, address=pod.address, gpu=pod.gpu)
            )
        except Unavailable:
            return ()  # gone, or too busy to say: absent until it answers
