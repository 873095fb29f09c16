"""`python -m controllers NAME` as a person starts and ends it: real processes, real servers."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from embedded.ports import LOOPBACK, free_ports
from embedded.processes import Supervisor
from embedded.temporal import TemporalDevServer, start_temporal
from tests.controllers.published import publish_intent
from tests.debian import needs_package
from tests.embedded.until import until
from tests.house.checkout import ROOT
from tests.real_postgres import real_postgres
from tests.real_redis import real_redis
from tests.tidegate.snapshots import feature
from tidegate.settings import TASK_QUEUE
from tidegate.snapshot import WaitlistIntent

pytestmark = pytest.mark.integration

WITHIN_S: Final = 30.0
LOOPS: Final = ("worker", "agent", "capacity", "gate", "publisher", "recorder", "notifier")


class Loop:
    """One loop's process and what it says."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def said(self) -> str:
        return self._log.read_text()

    async def ends(self) -> int:
        return await asyncio.wait_for(self.process.wait(), WITHIN_S)

    async def stops(self, by: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(by)
        return await self.ends()


@asynccontextmanager
async def running(folder: Path, *arguments: str, **settings: str) -> AsyncIterator[Loop]:
    """Start `python -m controllers`; settings are those of the environment, in small letters."""
    environment: Mapping[str, str] = {
        **os.environ,
        "TIDEGATE_STATE": str(folder / "state"),
        **{f"TIDEGATE_{name.upper()}": value for name, value in settings.items()},
    }
    log = folder / f"{'-'.join(arguments)}-{len(list(folder.iterdir()))}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "controllers", *arguments),
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        yield Loop(process, log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def nobody() -> str:
    """Return an address where nobody answers."""
    (port,) = free_ports(1)
    return f"{LOOPBACK}:{port}"


@pytest.mark.parametrize("arguments", [[], ["gates"], ["gate", "agent"]])
async def test_a_name_that_is_no_loop_shows_those_that_are(
    tmp_path: Path, arguments: list[str]
) -> None:
    async with running(tmp_path, *arguments) as loop:
        assert await loop.ends() == 2
        assert loop.said == f"usage: python -m controllers {'|'.join(LOOPS)}\n"


async def test_a_wrong_setting_is_named_in_one_line(tmp_path: Path) -> None:
    async with running(tmp_path, "gate", redis="localhost") as loop:
        assert await loop.ends() == 1
        assert loop.said == (
            'TIDEGATE_REDIS: got "localhost", expected a URL. '
            'Write it like "redis://127.0.0.1:6379/0".\n'
        )


async def test_without_redis_there_is_one_clear_line_and_exit_1(tmp_path: Path) -> None:
    url = f"redis://{nobody()}/0"
    async with running(tmp_path, "gate", redis=url) as loop:
        assert await loop.ends() == 1
        (line,) = loop.said.splitlines()
    assert line.startswith(f"redis: no answer from {url} (")
    assert line.endswith("Start it, or set TIDEGATE_REDIS to where it is.")


async def test_without_temporal_there_is_one_clear_line_and_exit_1(tmp_path: Path) -> None:
    temporal = nobody()
    async with real_redis(tmp_path) as (_, redis):
        for name in ("worker", "publisher", "capacity"):
            async with running(tmp_path, name, redis=redis.url, temporal=temporal) as loop:
                assert await loop.ends() == 1
                assert loop.said == (
                    f"temporal: no answer from {temporal}. "
                    "Start it, or set TIDEGATE_TEMPORAL to where it is.\n"
                )


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
async def test_a_gate_loop_publishes_and_ends_with_exit_0_when_told_to(
    tmp_path: Path, by: signal.Signals
) -> None:
    async with real_redis(tmp_path) as (_, redis):
        await publish_intent(redis)

        async def has_published() -> bool:
            return "image" in (await redis.snapshot()).gates

        async with running(tmp_path, "gate", redis=redis.url) as loop:
            await until(has_published, WITHIN_S)
            assert await loop.stops(by) == 0
            assert loop.said == ""


async def test_what_goes_away_is_said_once_and_when_it_is_back(tmp_path: Path) -> None:
    async with real_redis(tmp_path) as (server, redis):
        await publish_intent(redis)
        async with running(tmp_path, "gate", redis=redis.url) as loop:

            async def has_published() -> bool:
                return "image" in (await redis.snapshot()).gates

            await until(has_published, WITHIN_S)
            await server.stop()
            await until(lambda: "loop.held" in loop.said, WITHIN_S)
            await server.start()
            await publish_intent(redis)
            await until(lambda: loop.said.count("loop.recovered") == 2, WITHIN_S)
            assert await loop.stops() == 0
            said = [line for line in loop.said.splitlines() if "loop." in line]
            for name in ("gate", "waitlist"):  # both run in this process
                of_it = [line for line in said if f"loop={name}" in line]
                assert ["loop.held" in of_it[0], "loop.recovered" in of_it[-1]] == [True, True]
                assert len(of_it) == 2


async def test_a_record_that_is_broken_ends_no_gate(tmp_path: Path) -> None:
    (tmp_path / "broken.db").write_bytes(b"this is no database" * 100)
    record = f"sqlite:///{tmp_path}/broken.db"
    async with real_redis(tmp_path) as (_, redis):
        waiting = feature(waitlist=WaitlistIntent(calls_per_s=1.0, claim_window_s=60.0))
        await publish_intent(redis, features={"image": waiting})
        async with running(tmp_path, "gate", redis=redis.url, record=record) as loop:
            await until(lambda: "waitlist.numbers_held" in loop.said, WITHIN_S)
            version = (await redis.snapshot()).gates["image"].version

            async def goes_on() -> bool:
                return (await redis.snapshot()).gates["image"].version > version

            await until(goes_on, WITHIN_S)
            assert await loop.stops() == 0


@needs_package("postgresql")
async def test_a_recorder_says_once_that_its_database_is_away_and_goes_on_when_it_is_back(
    tmp_path: Path,
) -> None:
    with real_postgres() as server:
        url = server.new_database()
        server.stop()
        record = url.replace("@", ":hunter2@")
        async with (
            real_redis(tmp_path) as (_, redis),
            running(tmp_path, "recorder", redis=redis.url, record=record) as loop,
        ):
            await until(lambda: "loop.held" in loop.said, WITHIN_S)
            server.start()
            await until(lambda: "loop.recovered" in loop.said, WITHIN_S)
            assert await loop.stops() == 0
            held, recovered = (line for line in loop.said.splitlines() if "loop." in line)
    assert f"record: no answer from {url.replace('@', ':***@')} (Connection refused)" in held
    assert "loop=recorder" in recovered
    assert "hunter2" not in loop.said


@asynccontextmanager
async def temporal(folder: Path) -> AsyncIterator[str]:
    port, ui_port = free_ports(2)
    server = TemporalDevServer(port, ui_port, folder / "temporal.db")
    async with Supervisor(folder / "temporal") as supervisor:
        await start_temporal(supervisor, server)
        yield server.address


def polled_by(client: Client, pid: int) -> Callable[[], Awaitable[bool]]:
    """Return what says whether this worker asks Temporal for work."""

    async def is_polled() -> bool:
        asked = DescribeTaskQueueRequest(
            namespace="default",
            task_queue=TaskQueue(name=TASK_QUEUE),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
        answer = await client.workflow_service.describe_task_queue(asked)
        return any(poller.identity.startswith(f"{pid}@") for poller in answer.pollers)

    return is_polled


async def test_workers_that_are_told_to_stop_end_with_exit_0_each_time(tmp_path: Path) -> None:
    async with real_redis(tmp_path) as (_, redis), temporal(tmp_path) as address:
        client = await Client.connect(address)
        for number in range(5):
            async with running(tmp_path, "worker", redis=redis.url, temporal=address) as worker:
                await until(polled_by(client, worker.process.pid), WITHIN_S)
                assert await worker.stops() == 0, worker.said
                # The first of its build says that it has the work now; nothing else is said.
                assert ("worker.build_is_current" in worker.said) is (number == 0)
                assert len(worker.said.splitlines()) == (number == 0)
