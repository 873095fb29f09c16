"""How long one tick of the capacity loop and of the gate loop takes, by the number of pools."""

import resource
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

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
from tidegate.edges.redis import Redis


@asynccontextmanager
async def both_loops(
    fleet: Fleet, redis: Redis, folder: Path, now: float
) -> AsyncIterator[tuple[CapacityLoop, GateLoop]]:
    """Have both loops on one Redis, over a cluster in memory."""
    async with (
        Outbox(folder / "capacity.outbox", "/controllers/capacity", redis) as sizes,
        Outbox(folder / "gate.outbox", "/controllers/gate", redis) as gates,
    ):
        capacity = CapacityLoop(redis, HeldCluster(fleet, now), HeardBudgets(), sizes)
        yield capacity, GateLoop(redis, gates)


async def tick_ms(fleet: Fleet, redis: Redis, folder: Path, ticks: int) -> dict[str, float]:
    """Measure ticks on readings that are new each time, in milliseconds by the clock: medians.

    `cpu` is what both took of this process's core. `first` is a tick that tells the size of every
    pool and where every gate begins, once.
    """
    now = time.time()
    await redis.publish(intent_of(fleet, now, int(now * 1000)))
    took: dict[str, list[float]] = {"capacity": [], "gate": [], "cpu": []}
    async with both_loops(fleet, redis, folder, now) as (capacity, gate):
        for n in range(ticks + 1):
            await publish_readings(fleet, redis, now + n)
            cpu_s = time.process_time()
            for name, loop in (("capacity", capacity), ("gate", gate)):
                began_s = time.perf_counter()
                await loop.tick(now + n)
                took[name].append((time.perf_counter() - began_s) * 1e3)
            took["cpu"].append((time.process_time() - cpu_s) * 1e3)
    found = {name: round(statistics.median(each[1:]), 1) for name, each in took.items()}
    both = [capacity + gate for capacity, gate in zip(took["capacity"], took["gate"], strict=True)]
    return {**found, "both": round(statistics.median(both[1:]), 1), "first": round(both[0], 1)}


async def publish_readings(fleet: Fleet, redis: Redis, now: float) -> None:
    """Publish what every agent and every gateway of the fleet reads, as each of them does."""
    for node in nodes_of(fleet, now):
        await redis.publish_reading(node)
    for gateway in gateways_of(fleet, now):
        await redis.publish_reading(gateway)


def rss_mb() -> float:
    """Return the most memory that this process ever had, in MB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0, 1)
