"""The loops' reaction and scale: `python -m benchmarks.control`.

A spike, from its first sample to the narrowed ceiling in force at a gateway, in sample periods; and
one tick of the capacity loop and of the gate loop over 10, 100 and 1,000 pools of 100 GPUs each.
Redis, the gate loop's process, the agents' and gateways' way of publishing and the gateway's way of
following are the real ones; the cluster and the budgets are in memory.
"""

import argparse
import asyncio
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from benchmarks.many_pools import Fleet
from benchmarks.spikes import PERIOD_S, reactions_s
from benchmarks.ticks import rss_mb, tick_ms
from controllers.loop import collect_rarely
from embedded.ports import free_ports
from embedded.processes import Supervisor
from embedded.redis import RedisServer, find_redis, start_redis
from tidegate.edges.redis import Redis

POOLS: Final = (10, 100, 1_000)
GPUS_OF_A_POOL: Final = 100
"""So that 1,000 pools have 100,000 GPUs in all."""


@asynccontextmanager
async def real_redis(folder: Path) -> AsyncIterator[Redis]:
    """Start an empty Redis, and connect to it."""
    (port,) = free_ports(1)
    server = RedisServer(find_redis(), port)
    async with Supervisor(folder) as supervisor:
        await start_redis(supervisor, server, folder)
        async with Redis(server.url, deadline_s=30.0) as redis:
            yield redis


async def measure(spikes: int, ticks: int, pools: Sequence[int]) -> dict[str, object]:
    """Measure the reaction first, then each size on a Redis of its own."""
    reactions: list[float] = []
    if spikes:
        with tempfile.TemporaryDirectory() as folder:
            async with real_redis(Path(folder)) as redis:
                reactions = await reactions_s(spikes, redis, Path(folder))
        _tell(f"{spikes} spikes: {statistics.median(reactions) * 1e3:.0f} ms in the middle")
    found: dict[str, dict[str, dict[str, float]]] = {}
    for count in pools:
        with tempfile.TemporaryDirectory() as folder:
            async with real_redis(Path(folder)) as redis:
                fleet = Fleet(count, count * GPUS_OF_A_POOL)
                began_s = time.perf_counter()
                found[str(count)] = await tick_ms(fleet, redis, Path(folder), ticks)
        _tell(f"{count} pools, after {time.perf_counter() - began_s:.0f} s, in ms:")
        for name, ms in found[str(count)].items():
            _tell(f"  {name:20} {ms['median']:8.1f} [{ms['least']:.1f}, {ms['most']:.1f}]")
    periods = sorted(each / PERIOD_S for each in reactions)
    return {
        "spikes": len(periods),
        "reaction_periods_p50": round(statistics.median(periods), 3) if periods else None,
        "reaction_periods_p99": round(_p99(periods), 3) if periods else None,
        "reaction_periods_max": round(periods[-1], 3) if periods else None,
        "tick_ms": {count: each["both"]["median"] for count, each in found.items()},
        "tick_cpu_ms": {count: each["cpu"]["median"] for count, each in found.items()},
        "cpu_ms_a_pool": {
            count: round(each["cpu"]["median"] / int(count), 3) for count, each in found.items()
        },
        "tick_ms_of": found,
        "rss_mb": rss_mb(),
    }


def _p99(ordered: Sequence[float]) -> float:
    return ordered[max(0, -(-len(ordered) * 99 // 100) - 1)]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - long work shows progress


def main() -> None:
    """Measure and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the last line only")
    parser.add_argument("--spikes", type=int, default=100)
    parser.add_argument("--ticks", type=int, default=5)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    collect_rarely()
    found = asyncio.run(measure(arguments.spikes, arguments.ticks, POOLS))
    if not arguments.json:
        for key, value in found.items():
            print(f"{key:24} {value}")  # noqa: T201 - what a benchmark is for
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
