"""However tellings, losses and crashes interleave, each event is recorded once."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Literal, assert_never

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from controllers.recorder import Recorder
from tests.databases import BOTH
from tests.real_redis import RealRedis
from tidegate.edges.migrations import EMPTY, migrate
from tidegate.edges.outbox import Outbox
from tidegate.edges.record import Record
from tidegate.edges.redis import Redis
from tidegate.errors import Unavailable
from tidegate.events import Event


class Step(StrEnum):
    TELL = "a controller tells"
    WORKFLOW_TELLS = "a workflow tells"
    SEND_AGAIN = "the outbox ticks"
    WORKFLOW_SENDS_AGAIN = "the workflow's activity tries again"
    RECORD = "the recorder ticks"
    FLUSH = "Redis loses everything"
    CUT = "Redis can be reached no longer, or again"
    CUT_ACKNOWLEDGEMENTS = "the recorder dies between recording and acknowledging, or no longer"
    RESTART_PRODUCER = "the controller restarts"
    RESTART_RECORDER = "the recorder restarts"


Loss = Literal[
    Step.FLUSH,
    Step.CUT,
    Step.CUT_ACKNOWLEDGEMENTS,
    Step.RESTART_PRODUCER,
    Step.RESTART_RECORDER,
]


class Line(Redis):
    """The real Redis behind a line that the test cuts."""

    is_cut = False
    is_cut_for_acknowledgements = False

    async def append(self, events: Sequence[Event]) -> None:
        self._check(self.is_cut)
        await super().append(events)

    async def acknowledged(self, source: str) -> int | None:
        self._check(self.is_cut)
        return await super().acknowledged(source)

    async def last_stream_id(self) -> str | None:
        self._check(self.is_cut)
        return await super().last_stream_id()

    async def acknowledge(self, recorded: Mapping[str, int]) -> None:
        self._check(self.is_cut or self.is_cut_for_acknowledgements)
        await super().acknowledge(recorded)

    def _check(self, is_cut: bool) -> None:
        if is_cut:
            raise Unavailable("redis: the line is cut", code="redis-unavailable")


@dataclass
class World:
    """A controller with its outbox, a workflow with its count, and a recorder."""

    server: RealRedis
    redis: Line
    folder: Path
    outbox: Outbox
    record: Record
    recorder: Recorder
    now: datetime = datetime(2026, 3, 4, tzinfo=UTC)
    told: list[Event] = field(default_factory=list)
    of_workflow: list[Event] = field(default_factory=list)

    async def live(self, step: Step) -> None:
        self.now += timedelta(seconds=0.7)
        try:
            await self._take(step)
        except Unavailable:
            return  # each of them tries again at a later step

    async def _take(self, step: Step) -> None:
        match step:
            case Step.TELL:
                await self._tell()
            case Step.WORKFLOW_TELLS:
                await self._workflow_tells()
            case Step.SEND_AGAIN:
                await self.outbox.tick(self.now)
            case Step.WORKFLOW_SENDS_AGAIN:
                await self._workflow_sends()
            case Step.RECORD:
                await self.recorder.tick(self.now.timestamp())
            case _:
                await self._lose(step)

    async def _lose(self, step: Loss) -> None:
        match step:
            case Step.FLUSH:
                await self.server.flush()
            case Step.CUT:
                self.redis.is_cut = not self.redis.is_cut
            case Step.CUT_ACKNOWLEDGEMENTS:
                is_cut = self.redis.is_cut_for_acknowledgements
                self.redis.is_cut_for_acknowledgements = not is_cut
            case Step.RESTART_PRODUCER:
                self.outbox.close()
                self.outbox = Outbox(self.folder / "box.db", "/controller", self.redis)
            case Step.RESTART_RECORDER:
                self.recorder = Recorder(self.redis, self.record)
            case _:
                assert_never(step)

    async def _tell(self) -> None:
        number = len(self.told)
        self.told.append(await self.outbox.tell("x.told", subject="x", at=self.now, number=number))

    async def _workflow_tells(self) -> None:
        number = len(self.of_workflow) + 1
        self.of_workflow.append(
            Event(source="/workflow", sequence=number, type="x.told", at=self.now, subject="x")
        )
        await self._workflow_sends()

    async def _workflow_sends(self) -> None:
        recorded = await self.redis.acknowledged("/workflow") or 0
        await self.redis.append(self.of_workflow[recorded:])

    async def settle(self) -> None:
        self.redis.is_cut = self.redis.is_cut_for_acknowledgements = False
        for _ in range(30):
            for step in (Step.WORKFLOW_SENDS_AGAIN, Step.SEND_AGAIN, Step.RECORD):
                await self.live(step)
        assert await self.outbox.tick(self.now) == 0


@asynccontextmanager
async def world(server: RealRedis, database: str) -> AsyncIterator[World]:
    await server.flush()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = database or f"sqlite:///{folder}/r.db"
        async with Line(server.server.url) as redis, Record(url) as record:
            migrate(record.engine, EMPTY)
            outbox = Outbox(folder / "box.db", "/controller", redis)
            world = World(server, redis, folder, outbox, record, Recorder(redis, record))
            yield world
            world.outbox.close()


async def live_through(server: RealRedis, database: str, steps: Sequence[Step]) -> None:
    async with world(server, database) as it:
        for step in steps:
            await it.live(step)
        await it.settle()
        recorded = await it.record.events()
        assert sorted(recorded, key=lambda each: each.id) == sorted(
            it.told + it.of_workflow, key=lambda each: each.id
        )
        assert await it.record.gaps() == []
        assert it.recorder.gaps() == ()


Running = tuple[asyncio.Runner, RealRedis, str]


@pytest.fixture(scope="module", params=BOTH)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    database = ""
    if request.param == "postgresql":
        database = request.getfixturevalue("postgres").new_database()
    with asyncio.Runner() as runner:
        server = RealRedis(tmp_path_factory.mktemp("redis"))
        runner.run(server.start())
        yield runner, server, database
        runner.run(server.raw.aclose())
        runner.run(server.stop())


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.sampled_from(Step), max_size=40))
@example([Step.TELL, Step.CUT_ACKNOWLEDGEMENTS, Step.RECORD, Step.FLUSH, Step.TELL, Step.RECORD])
@example([Step.TELL, Step.FLUSH, Step.TELL, Step.RECORD, Step.RESTART_PRODUCER, Step.TELL])
def test_every_interleaving_ends_with_each_event_recorded_once_and_no_gap(
    running: Running, steps: list[Step]
) -> None:
    runner, server, database = running
    runner.run(live_through(server, database, steps))
