"""How long one tick of the capacity loop and of the gate loop takes, by the number of pools."""

import resource
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from benchmarks.many_pools import (
    Fleet,
    HeardBudgets,
    HeldCluster,
    gateways_of,
    intent_of,
    nodes_of,
)
from controllers.capacity import CapacityLoop
from controllers.gate import GateLoop
from tidegate.edges.outbox import Outbox
from tidegate.edges.redis import Part, Published, Redis
from tidegate.events import Event
from tidegate.readings import DemandReading, NodeReading

_STAGES: Final = ("parts", "readings", "publish", "events")
_EVERY: Final = 1 << 40
"""No event's sequence is as high."""


class WatchedRedis(Redis):
    """A Redis that remembers how long each stage of a tick took that reads or writes parts."""

    def __init__(self, url: str) -> None:
        super().__init__(url, deadline_s=30.0)
        self.took_ms: dict[str, float] = {}

    async def published(
        self, held: Mapping[str, int] | None = None, *, only: str = ""
    ) -> Published:
        """Read the parts."""
        with self._watched("parts"):
            return await super().published(held, only=only)

    async def readings(
        self, *, gpus: bool = True
    ) -> tuple[tuple[NodeReading, ...], tuple[DemandReading, ...]]:
        """Read what every node and every gateway reads."""
        with self._watched("readings"):
            return await super().readings(gpus=gpus)

    async def publish_all(self, parts: Sequence[Part]) -> tuple[bool, ...]:
        """Write parts."""
        with self._watched("publish"):
            return await super().publish_all(parts)

    async def append(self, events: Sequence[Event]) -> None:
        """Append events."""
        with self._watched("events"):
            await super().append(events)

    @contextmanager
    def _watched(self, stage: str) -> Iterator[None]:
        began_s = time.perf_counter()
        yield
        took_ms = (time.perf_counter() - began_s) * 1e3
        self.took_ms[stage] = self.took_ms.get(stage, 0.0) + took_ms


@asynccontextmanager
async def both_loops(
    fleet: Fleet, redis: Redis, folder: Path, now: float
) -> AsyncIterator[Mapping[str, tuple[CapacityLoop | GateLoop, Outbox]]]:
    """Have both loops on one Redis, over a cluster in memory, each with its outbox."""
    async with (
        Outbox(folder / "capacity.outbox", "/controllers/capacity", redis) as sizes,
        Outbox(folder / "gate.outbox", "/controllers/gate", redis) as gates,
    ):
        capacity = CapacityLoop(redis, HeldCluster(fleet, now), HeardBudgets(), sizes)
        yield {"capacity": (capacity, sizes), "gate": (GateLoop(redis, gates), gates)}


async def tick_ms(
    fleet: Fleet, redis: Redis, folder: Path, ticks: int
) -> dict[str, dict[str, float]]:
    """Measure ticks on readings that are new each time, in milliseconds: medians and extremes.

    A loop, its stages and `both` are by the clock; `cpu` is what both took of this process's
    core. `decide` is what is left of a loop beside its stages. `first` is a tick that tells the
    size of every pool and where every gate begins, once.
    """
    now = time.time()
    await redis.publish(intent_of(fleet, now, int(now * 1000)))
    took: list[dict[str, float]] = []
    async with (
        WatchedRedis(redis.url) as watched,
        both_loops(fleet, watched, folder, now) as loops,
    ):
        for n in range(ticks + 1):
            await publish_readings(fleet, redis, now + n)
            cpu_s = time.process_time()
            each: dict[str, float] = {}
            for name, (loop, _) in loops.items():
                each |= await _one_tick(name, loop, watched, now + n)
            each["cpu"] = (time.process_time() - cpu_s) * 1e3
            each["both"] = each["capacity"] + each["gate"]
            took.append(each)
            # As the recorder does: what it has is not sent again.
            await redis.acknowledge({outbox.source: _EVERY for _, outbox in loops.values()})
    found = {name: _spread([each.get(name, 0.0) for each in took[1:]]) for name in took[-1]}
    return {**found, "first": _spread([took[0]["both"]])}


async def _one_tick(
    name: str, loop: CapacityLoop | GateLoop, redis: WatchedRedis, now: float
) -> dict[str, float]:
    redis.took_ms = dict.fromkeys(_STAGES, 0.0)
    began_s = time.perf_counter()
    await loop.tick(now)
    whole_ms = (time.perf_counter() - began_s) * 1e3
    stages = {f"{name}/{stage}": ms for stage, ms in redis.took_ms.items()}
    decide_ms = whole_ms - sum(stages.values())
    return {name: whole_ms, **stages, f"{name}/decide": decide_ms}


def _spread(each_ms: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(each_ms), 1),
        "least": round(min(each_ms), 1),
        "most": round(max(each_ms), 1),
    }


async def publish_readings(fleet: Fleet, redis: Redis, now: float) -> None:
    """Publish what every agent and every gateway of the fleet reads, as each of them does."""
    for node in nodes_of(fleet, now):
        await redis.publish_reading(node)
    for gateway in gateways_of(fleet, now):
        await redis.publish_reading(gateway)


def rss_mb() -> float:
    """Return the most memory that this process ever had, in MB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0, 1)
