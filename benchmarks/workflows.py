"""Plans and entities on Temporal, beside a bare workflow: `python -m benchmarks.workflows`.

One dev server on its file database, one worker for ours and one for the bare workflow, asked in
turn, round after round. An update is acknowledged once the server has it durably; the event that
it tells is carried by an activity of its own, and how long that takes is told beside it.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from temporalio.client import Client

from benchmarks.bare import QUEUE, Bare
from controllers.worker import CACHED_WORKFLOWS, replayer
from embedded.ports import free_ports
from embedded.processes import Supervisor
from embedded.redis import RedisServer, find_redis, start_redis
from embedded.temporal import TemporalDevServer, start_temporal
from tidegate.catalogue import FeatureSpec
from tidegate.edges.redis import Redis
from tidegate.edges.temporal import ControlPlane, connect
from tidegate.messages.common import Act
from tidegate.messages.feature import ExposeOrder, feature_id
from tidegate.messages.rollout import RolloutOrder, rollout_id
from tidegate.plans import RolloutSpec, StageSpec
from tidegate.settings import variable
from tidegate.signing import load_keyring

_SIDE_BY_SIDE: Final = 8
"""Workflows that are asked at once, each one thing after the other."""
_UPDATES: Final = 40
_STARTS: Final = 40
_FEATURES: Final = 1_000
_PLANS: Final = 200
_AT_ONCE: Final = 16
_TRANSITIONS: Final = 300

Ask = Callable[[int, int], Awaitable[None]]
"""Ask workflow `i` for the `n`th time."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured on."""

    plane: ControlPlane
    redis: Redis
    supervisor: Supervisor


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Bench]:
    """Start the servers and both workers."""
    temporal_port, ui_port, redis_port = free_ports(3)
    temporal = TemporalDevServer(temporal_port, ui_port, folder / "temporal.db")
    redis = RedisServer(find_redis(), redis_port)
    environment = {
        variable("temporal"): temporal.address,
        variable("redis"): redis.url,
        variable("record"): f"sqlite:///{folder / 'record.db'}",
        variable("state"): str(folder),
    }
    keys = load_keyring(folder / "keys.json")
    async with Supervisor(folder) as supervisor, Redis(redis.url) as client:
        await start_temporal(supervisor, temporal)
        await start_redis(supervisor, redis, folder)
        for loop in ("recorder", "worker"):
            argv = [sys.executable, "-m", "controllers", loop]
            await supervisor.start(loop, argv, env=environment)
        argv = [sys.executable, "-m", "benchmarks.bare", temporal.address]
        await supervisor.start("bare", argv)
        plane = await connect(temporal.address, "default", keys)
        await plane.declare_feature("image", FeatureSpec(pool="image"))
        yield Bench(plane, client, supervisor)


def _order(name: str) -> RolloutOrder:
    """A plan that waits for its instant, a year ahead."""
    stage = StageSpec(
        name="all",
        tiers=("pro",),
        starts_at=datetime.now(UTC) + timedelta(days=365),
        bake=timedelta(hours=1),
    )
    return RolloutOrder(
        name=name,
        spec=RolloutSpec(feature="image", owner="benchmark", stages=(stage,)),
        pool="image",
        gpu_type="h100",
        lead_p50_s=60.0,
        lead_p90_s=120.0,
        reading_limit_s=10.0,
    )


async def updates_a_second(bench: Bench, rounds: int) -> dict[str, list[float]]:
    """Measure `pause` and `resume` of plans, and the bare workflow's one update, in turn."""
    client = bench.plane.client
    for i in range(_SIDE_BY_SIDE):
        await bench.plane.start_plan(_order(f"updated-{i}"), "a benchmark")
        await client.start_workflow(Bare.run, id=f"bare-{i}", task_queue=QUEUE)

    async def ours(i: int, n: int) -> None:
        verb = "resume" if n % 2 else "pause"
        await bench.plane.steer(rollout_id(f"updated-{i}"), verb, Act(by="ann", reason="a look"))

    async def bare(i: int, n: int) -> None:
        handle = client.get_workflow_handle_for(Bare.run, f"bare-{i}")
        await handle.execute_update(Bare.tell, f"{n}")

    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    for number in range(rounds + 1):
        for name, ask in (("bare", bare), ("ours", ours)):
            rate = await _rate(ask, number * _UPDATES)
            if number:  # the first round warms both up
                rates[name].append(rate)
                _tell(f"updates, round {number}: {name} {rate:.0f} a second")
    return rates


async def _rate(ask: Ask, first: int) -> float:
    began_at = time.perf_counter()

    async def one_after_the_other(i: int) -> None:
        for n in range(first, first + _UPDATES):
            await ask(i, n)

    await asyncio.gather(*(one_after_the_other(i) for i in range(_SIDE_BY_SIDE)))
    return _SIDE_BY_SIDE * _UPDATES / (time.perf_counter() - began_at)


async def published_after_ms(bench: Bench, number: int, *, apart_s: float) -> list[float]:
    """Measure from an update's acknowledgement until its event is on the stream.

    Each is asked for `apart_s` after the last was seen.
    """
    took: list[float] = []
    plan = rollout_id("updated-0")
    after = (await bench.redis.last_stream_id()) or "0"
    for n in range(number):
        await asyncio.sleep(apart_s)
        verb = "resume" if n % 2 else "pause"
        await bench.plane.steer(plan, verb, Act(by="ann", reason="a look"))
        began_at = time.perf_counter()
        told = False
        while not told:
            heard = await bench.redis.events(after=after, wait_s=1.0)
            after = heard.after
            told = any(event.subject == plan for event in heard.events)
        took.append((time.perf_counter() - began_at) * 1000.0)
    return took


async def starts_a_second(bench: Bench, rounds: int) -> dict[str, list[float]]:
    """Measure starts of plans, each looked for first, and of bare workflows."""
    client = bench.plane.client

    async def ours(i: int) -> None:
        await bench.plane.start_plan(_order(f"started-{i}"), "a benchmark")

    async def bare(i: int) -> None:
        await client.start_workflow(Bare.run, id=f"bare-started-{i}", task_queue=QUEUE)

    prefixes = {"ours": rollout_id("started-"), "bare": "bare-started-"}
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    for number in range(rounds + 1):
        for name, start in (("bare", bare), ("ours", ours)):
            began_at = time.perf_counter()
            first = number * _STARTS
            await _each(range(first, first + _STARTS), start)
            if number:
                rates[name].append(_STARTS / (time.perf_counter() - began_at))
                _tell(f"starts, round {number}: {name} {rates[name][-1]:.0f} a second")
            await _taken_up(client, prefixes[name], range(first, first + _STARTS))
    return rates


async def _taken_up(client: Client, prefix: str, numbers: range) -> None:
    """Wait until a worker has taken up each: a backlog would be charged to the next round."""

    async def one(i: int) -> None:
        handle = client.get_workflow_handle(f"{prefix}{i}")
        await handle.query("__stack_trace", rpc_timeout=timedelta(seconds=60))

    await _each(numbers, one)


async def at_scale(bench: Bench) -> dict[str, float]:
    """Have many features and plans live at once, and weigh the worker, in MiB."""
    before = _memory_mib(bench)

    async def declare(i: int) -> None:
        await bench.plane.declare_feature(f"feature-{i}", FeatureSpec(pool="image"))

    async def start(i: int) -> None:
        await bench.plane.start_plan(_order(f"plan-{i}"), "a benchmark")

    await _each(range(_FEATURES), declare)
    with_features = _memory_mib(bench)
    _tell(f"{_FEATURES} features: {with_features - before:.0f} MiB more")
    await _each(range(_PLANS), start)
    with_plans = _memory_mib(bench)
    _tell(f"{_PLANS} plans: {with_plans - with_features:.0f} MiB more")
    return {
        "worker_mib_before": round(before, 1),
        "features_mib": round(with_features - before, 1),
        "plans_mib": round(with_plans - with_features, 1),
    }


async def transitions(bench: Bench) -> dict[str, float]:
    """Change one feature many times: what its history grows by, and how long its replay takes."""
    await bench.plane.declare_feature("changed", FeatureSpec(pool="image"))
    client = bench.plane.client
    handle = client.get_workflow_handle(feature_id("changed"))
    first = len((await handle.fetch_history()).events)
    for n in range(_TRANSITIONS):
        order = ExposeOrder(
            order_id=f"{n}", stage="all", tiers=("pro",), share=n / _TRANSITIONS, reason="a step"
        )
        await bench.plane.ask_feature("changed", "expose", order)
    history = await handle.fetch_history()
    took: list[float] = []
    for _ in range(3):
        began_at = time.perf_counter()
        await replayer().replay_workflow(history)
        took.append(time.perf_counter() - began_at)
    return {
        "events_a_transition": round((len(history.events) - first) / _TRANSITIONS, 1),
        "replay_of_1000_transitions_s": round(statistics.median(took) * 1000.0 / _TRANSITIONS, 2),
    }


async def measure(rounds: int) -> dict[str, object]:
    """Measure everything on one server."""
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder)) as bench:
            updates = await updates_a_second(bench, rounds)
            burst = await published_after_ms(bench, 20, apart_s=0.0)
            alone = await published_after_ms(bench, 20, apart_s=1.5)
            starts = await starts_a_second(bench, rounds)
            history = await transitions(bench)
            scale = await at_scale(bench)
    return {
        **_beside("updates", updates),
        "published_in_a_burst_ms": [round(statistics.median(burst), 1), round(max(burst), 1)],
        "published_alone_ms": [round(statistics.median(alone), 1), round(max(alone), 1)],
        **_beside("starts", starts),
        **history,
        "cached_workflows": CACHED_WORKFLOWS,
        "features": _FEATURES,
        "plans": _PLANS,
        **scale,
    }


def main() -> None:
    """Measure and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the last line only")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    found = asyncio.run(measure(arguments.rounds))
    if not arguments.json:
        for key, value in found.items():
            print(f"{key:32} {value}")  # noqa: T201 - what a benchmark is for
    print(json.dumps(found))  # noqa: T201


def _beside(what: str, rates: dict[str, list[float]]) -> dict[str, object]:
    ours, bare = (statistics.median(rates[name]) for name in ("ours", "bare"))
    return {
        f"{what}_a_second": round(ours, 1),
        f"bare_{what}_a_second": round(bare, 1),
        f"ratio_{what}": round(ours / bare, 3),
        f"spread_{what}": {
            name: [round(min(each), 1), round(max(each), 1)] for name, each in rates.items()
        },
    }


async def _each(numbers: range, do: Callable[[int], Awaitable[None]]) -> None:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def in_turn(i: int) -> None:
        async with gate:
            await do(i)

    await asyncio.gather(*map(in_turn, numbers))


def _memory_mib(bench: Bench) -> float:
    status = Path(f"/proc/{bench.supervisor.pids()['worker']}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(resident.split()[1]) / 1024.0


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - long work shows progress


if __name__ == "__main__":
    main()
