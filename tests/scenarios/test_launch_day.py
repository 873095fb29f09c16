"""The launch day as a user plays it: undisturbed, on a real trace, disturbed, and interrupted."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import pytest
import pytest_asyncio
from redis import asyncio as redis_asyncio

from tests.scenarios.live import ROOT, LiveDemo
from tidegate.edges.redis import Redis
from tidegate.edges.temporal import ControlPlane, connect
from tidegate.errors import Refused, Unavailable
from tidegate.events import Event
from tidegate.messages.common import Act
from tidegate.signing import load_keyring

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="module"),
]

TRACE: Final = ROOT.parent / "shared/data/servegen-multimodal-mm-image.csv.gz"
DEMANDS: Final = {"generated": ""} | ({"trace": str(TRACE)} if TRACE.exists() else {})
SNAPSHOT_WITHIN_S: Final = 5.0
GOES_ON_WITHIN_S: Final = 30.0
"""It takes 2 to 3 s on two idle cores, which no test may count on."""


@pytest.mark.parametrize("demand", DEMANDS)
async def test_a_launch_day_holds_all_that_it_promises_and_leaves_nothing_behind(
    demand: str, tmp_path: Path
) -> None:
    async with LiveDemo(tmp_path, {"DEMAND": DEMANDS[demand]}) as demo:
        await demo.until_recorded("stage.due")
        addresses = demo.addresses()
        assert await demo.ends() == 0, demo.output()
        assert "9 of 9 held" in demo.output()
        assert "process.ended" not in demo.output(), "a loop that fails is restarted, and hides"
        assert demo.left_behind(addresses) == []


@dataclass
class Disturbed:
    """What was done to a run while it played, and how it went on."""

    exit_code: int
    output: str
    worker_went_on_s: float
    gate_before: float
    gate_after: float
    snapshot_back_s: float
    version_lost: int
    version_accepted: int
    events: list[Event]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def disturbed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Disturbed]:
    async with LiveDemo(tmp_path_factory.mktemp("disturbed"), {}) as demo:
        await demo.until_recorded("stage.waiting", lambda e: e.data["stage"] == "free-first")
        went_on_s = await _kill_the_worker(demo)
        before, after = await _kill_the_gate(demo)
        await demo.until_recorded("stage.advanced", lambda e: e.data["stage"] == "free-first")
        back_s, lost, accepted = await _lose_redis(demo)
        events = await _all_events_before_the_end(demo)
        yield Disturbed(
            await demo.ends(),
            demo.output(),
            went_on_s,
            before,
            after,
            back_s,
            lost,
            accepted,
            events,
        )


async def test_a_killed_worker_changes_nothing_and_goes_on_in_seconds(
    disturbed: Disturbed,
) -> None:
    assert disturbed.exit_code == 0, disturbed.output
    assert disturbed.worker_went_on_s <= GOES_ON_WITHIN_S


async def test_a_killed_gate_controller_goes_on_where_it_stood(disturbed: Disturbed) -> None:
    assert disturbed.exit_code == 0, disturbed.output
    assert disturbed.gate_after == pytest.approx(disturbed.gate_before, abs=0.35)
    started = [e for e in disturbed.events if e.type == "gate.started"]
    assert len(started) == 1, "only a gate that nobody remembers begins anew"


async def test_a_flushed_redis_loses_nothing_and_has_its_snapshot_back_in_seconds(
    disturbed: Disturbed,
) -> None:
    assert disturbed.exit_code == 0, disturbed.output
    assert disturbed.snapshot_back_s <= SNAPSHOT_WITHIN_S
    assert disturbed.version_accepted > disturbed.version_lost


async def test_an_interrupted_demo_leaves_no_process_and_no_port_behind(tmp_path: Path) -> None:
    async with LiveDemo(tmp_path, {}) as demo:
        await demo.until_recorded("stage.approved")
        addresses = demo.addresses()
        demo.send(signal.SIGINT)
        assert await demo.ends() == 130, demo.output()
        assert demo.left_behind(addresses) == []


async def _kill_the_worker(demo: LiveDemo) -> float:
    """Kill it, and return how long until another has taken a person's word to the rollout."""
    demo.kill("worker")
    killed_at = time.monotonic()
    plane = await connect(
        demo.addresses()["temporal"], "default", load_keyring(demo.folder / "keys.json")
    )
    await _pause(plane)
    went_on_s = time.monotonic() - killed_at
    await plane.steer("rollout/image-launch", "resume", Act(by="test", reason="somebody is"))
    return went_on_s


async def _pause(plane: ControlPlane) -> None:
    """Pause the rollout, asking again while no worker answers."""
    async with asyncio.timeout(GOES_ON_WITHIN_S):
        while True:
            try:
                await plane.steer(
                    "rollout/image-launch", "pause", Act(by="test", reason="who is there")
                )
            except Unavailable:
                continue
            except Refused:  # an earlier pause was taken, and only its answer came late
                return
            return


async def _kill_the_gate(demo: LiveDemo) -> tuple[float, float]:
    async with Redis(demo.addresses()["redis"]) as redis:
        before = (await redis.snapshot()).gates["image"]
        demo.kill("gate")
        while True:
            after = (await redis.snapshot()).gates["image"]
            if after.issued_at > before.issued_at + 1.5:
                return before.openness, after.openness
            await asyncio.sleep(0.05)


async def _lose_redis(demo: LiveDemo) -> tuple[float, int, int]:
    addresses = demo.addresses()
    async with Redis(addresses["redis"]) as redis, _control(demo) as raw:
        held = (await redis.snapshot()).intent
        assert held is not None
        await raw.flushall()
        flushed_at = time.monotonic()
        while True:
            snapshot = await redis.snapshot()
            if snapshot.intent is not None and "image" in snapshot.gates:
                break
            await asyncio.sleep(0.02)
        back_s = time.monotonic() - flushed_at
        accepted = await _version_held_by_gateway(addresses["gateway"], above=held.version)
    return back_s, held.version, accepted


async def _version_held_by_gateway(gateway: str, *, above: int) -> int:
    async with aiohttp.ClientSession() as session, asyncio.timeout(SNAPSHOT_WITHIN_S):
        while True:
            async with session.get(f"{gateway}/readyz") as response:
                version = int((await response.json())["versions"]["intent"])
            if version > above:
                return version
            await asyncio.sleep(0.05)


async def _all_events_before_the_end(demo: LiveDemo) -> list[Event]:
    await demo.until_recorded("rollout.finished")
    return await demo.recorded("gate.started", "stage.advanced")


def _control(demo: LiveDemo) -> "redis_asyncio.Redis":
    return redis_asyncio.Redis.from_url(demo.addresses()["redis"])
