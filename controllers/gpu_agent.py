"""The GPU agent: one a node, reads its GPUs and the engines beside them, once a second."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec.structs import replace

from tidegate.cluster import Beside, Pod, PodPhase
from tidegate.edges.engine_metrics import EngineMetrics, EngineTarget
from tidegate.edges.nvml import NvmlReader
from tidegate.edges.redis_link import RedisLink
from tidegate.errors import Unavailable
from tidegate.readings import Absent, EngineReading, GpuReading, NodeReading


class Owners(Protocol):
    """Who knows which pods have which GPU: the kubelet."""

    async def owners(self) -> Mapping[str, tuple[str, ...]] | Absent:
        """Return the names of the pods that have each device, by the device's id."""
        ...


@dataclass(frozen=True, slots=True)
class Node:
    """The machine of an agent, the type of its GPUs, as their budget is named, and its kubelet."""

    name: str
    gpu_type: str | None = None
    kubelet: Owners | None = None


class GpuAgent:
    """Publishes one reading a tick; what cannot be read is absent in it, never zero."""

    def __init__(
        self, node: Node, redis: RedisLink, beside: Beside, nvml: NvmlReader, engines: EngineMetrics
    ) -> None:
        self._node = node
        self._redis = redis
        self._beside = beside
        self._nvml = nvml
        self._engines = engines
        self.last: NodeReading | None = None
        """What was read last, for whoever asks this agent."""

    async def tick(self, now: float) -> None:
        """Read and publish."""
        gpus, engines = await asyncio.gather(self._read_gpus(), self._read_engines())
        absent = gpus.reason if isinstance(gpus, Absent) else None
        reading = NodeReading(
            node=self._node.name,
            at=now,
            gpu_type=self._node.gpu_type,
            gpus=None if isinstance(gpus, Absent) else gpus,
            gpus_absent_because=absent,
            engines=tuple(_placed(engine, pod, gpus) for pod, engine in engines),
        )
        self.last = reading
        await self._redis.publish_reading(reading)

    async def _read_gpus(self) -> tuple[GpuReading, ...] | Absent:
        """Read the GPUs, each with the pods that the kubelet says have it, if it says anything."""
        gpus, owners = await asyncio.gather(self._nvml.read(), self._owners())
        if isinstance(gpus, Absent) or isinstance(owners, Absent):
            return gpus
        return tuple(_owned(gpu, owners) for gpu in gpus)

    async def _owners(self) -> Mapping[str, tuple[str, ...]] | Absent:
        kubelet = self._node.kubelet
        return Absent("no kubelet to ask") if kubelet is None else await kubelet.owners()

    async def _read_engines(self) -> list[tuple[Pod, EngineReading]]:
        beside = await self._beside.pods()
        serving = [
            (pool, pod)
            for pool, pods in beside.items()
            for pod in pods
            if pod.phase is PodPhase.READY
        ]
        read = await asyncio.gather(*(self._read_engine(pool, pod) for pool, pod in serving))
        return [
            (pod, reading)
            for (_, pod), readings in zip(serving, read, strict=True)
            for reading in readings
        ]

    async def _read_engine(self, pool: str, pod: Pod) -> tuple[EngineReading, ...]:
        if pod.address is None:
            return ()
        try:
            return await self._engines.scrape(
                EngineTarget(pool=pool, replica=pod.name, address=pod.address, gpu=pod.gpu)
            )
        except Unavailable:
            return ()  # gone, or too busy to say: absent until it answers


def _owned(gpu: GpuReading, owners: Mapping[str, tuple[str, ...]]) -> GpuReading:
    """Say which pods have a card, or a MIG instance of it."""
    if gpu.uuid is None:
        return gpu
    if gpu.instances is None:
        return replace(gpu, pods=owners.get(gpu.uuid, ()))
    parts = tuple(replace(each, pods=owners.get(each.uuid, ())) for each in gpu.instances)
    of_parts = (pod for each in parts for pod in each.pods or ())
    pods = tuple(dict.fromkeys((*owners.get(gpu.uuid, ()), *of_parts)))
    return replace(gpu, pods=pods, instances=parts)


def _placed(engine: EngineReading, pod: Pod, gpus: Sequence[GpuReading] | Absent) -> EngineReading:
    """Say which GPU an engine is on, and which MIG instance: the first that its pod has."""
    if engine.gpu is not None or isinstance(gpus, Absent):
        return engine
    names = {pod.name, pod.uid}
    gpu = next((gpu for gpu in gpus if not names.isdisjoint(gpu.pods or ())), None)
    if gpu is None:
        return engine
    parts = (each.uuid for each in gpu.instances or () if not names.isdisjoint(each.pods or ()))
    return replace(engine, gpu=gpu.index, instance=next(parts, None))
