"""The recorder: everything told is recorded once, whatever Redis forgets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from controllers.recorder import Recorder
from tests.real_redis import RealRedis, real_redis
from tidegate.edges.outbox import Outbox
from tidegate.edges.record import Gap, MeanDemand, Record
from tidegate.edges.redis import Redis
from tidegate.errors import Unavailable
from tidegate.events import Event
from tidegate.readings import DemandReading, TierDemand

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def event(sequence: int, type_: str = "gate.tightened", source: str = "/gate") -> Event:
    return Event(source=source, sequence=sequence, type=type_, at=NOON, subject="image")


@dataclass
class House:
    """One producer, one recorder, and what they stand on."""

    server: RealRedis
    redis: Redis
    record: Record
    recorder: Recorder
    outbox: Outbox

    async def recorded(self) -> list[str]:
        return [event.id for event in await self.record.events()]


@pytest.fixture
async def house(tmp_path: Path, record_url: str) -> AsyncIterator[House]:
    async with real_redis(tmp_path) as (server, redis):
        record = Record(record_url)
        async with record, Outbox(tmp_path / "gate.db", "/gate", redis) as outbox:
            yield House(server, redis, record, Recorder(redis, record), outbox)


class Forgetful(Redis):
    """Loses everything at the worst moment: when what was recorded is to be acknowledged."""

    def __init__(self, server: RealRedis, *, dies: bool) -> None:
        super().__init__(server.server.url)
        self._server = server
        self._dies = dies

    async def acknowledge(self, recorded: Mapping[str, int]) -> None:
        was_recorded = any(source.startswith("/gate/") for source in recorded)
        if was_recorded:
            await self._server.flush()
        if was_recorded and self._dies:
            raise Unavailable("redis: gone", code="redis-unavailable")
        await super().acknowledge(recorded)


async def test_what_is_told_is_recorded_and_acknowledged(house: House) -> None:
    told = [await house.outbox.tell("x.told", subject="image", at=NOON) for _ in range(3)]
    assert await house.recorder.tick(NOON.timestamp()) == 3
    assert await house.record.events() == told
    assert await house.redis.acknowledged(told[0].source) == 3
    assert await house.outbox.tick(after(5)) == 0
    assert await house.recorder.tick(after(1).timestamp()) == 0


async def test_more_than_a_page_is_recorded_in_one_tick(house: House) -> None:
    await house.redis.append([event(n) for n in range(1, 1202)])
    assert await house.recorder.tick(NOON.timestamp()) == 1201
    assert await house.redis.acknowledged("/gate") == 1201


async def test_a_restarted_recorder_hears_everything_again_and_does_nothing_twice(
    house: House,
) -> None:
    await house.redis.append([event(1), event(2)])
    await house.recorder.tick(NOON.timestamp())
    restarted = Recorder(house.redis, house.record)
    assert await restarted.tick(after(1).timestamp()) == 0
    await house.redis.append([event(2), event(3)])
    assert await restarted.tick(after(2).timestamp()) == 1
    assert await house.recorded() == ["/gate/1", "/gate/2", "/gate/3"]


async def test_two_recorders_that_start_at_once_make_the_tables_once_and_record_all_once(
    house: House, record_url: str
) -> None:
    await house.redis.append([event(n, source=f"/{n % 3}") for n in range(1, 601)])
    async with Record(record_url) as other_record:
        both = [house.recorder, Recorder(house.redis, other_record)]
        new = await asyncio.gather(*(recording(each) for each in both))
    assert sum(new) == 600
    assert len(set(await house.recorded())) == 600
    assert {mark.highest for mark in (await house.record.marks()).values()} == {598, 599, 600}


async def recording(recorder: Recorder) -> int:
    """Tick as the loop does: what is away is asked again."""
    while True:
        with contextlib.suppress(Unavailable):
            return await recorder.tick(NOON.timestamp())


async def test_a_workflow_that_sends_until_it_is_acknowledged_is_recorded_once(
    house: House,
) -> None:
    for _ in range(3):
        await house.redis.append([event(1)])
    assert await house.recorder.tick(NOON.timestamp()) == 1
    await house.server.flush()
    await house.redis.append([event(1)])
    assert await house.recorder.tick(after(0.1).timestamp()) == 0
    assert await house.redis.acknowledged("/gate") == 1


async def test_flushall_before_reading_loses_nothing(house: House) -> None:
    told = await house.outbox.tell("x.told", subject="image", at=NOON)
    await house.server.flush()
    assert await house.recorder.tick(after(1).timestamp()) == 0
    assert await house.outbox.tick(after(2)) == 1
    assert await house.recorder.tick(after(2).timestamp()) == 1
    assert await house.recorded() == [told.id]
    assert await house.outbox.tick(after(3)) == 0


@pytest.mark.parametrize("dies", [False, True])
async def test_flushall_between_recording_and_acknowledging_loses_nothing(
    house: House, *, dies: bool
) -> None:
    told = await house.outbox.tell("x.told", subject="image", at=NOON)
    async with Forgetful(house.server, dies=dies) as forgetful:
        if dies:
            with pytest.raises(Unavailable):
                await Recorder(forgetful, house.record).tick(NOON.timestamp())
        else:
            await Recorder(forgetful, house.record).tick(NOON.timestamp())
    await house.server.flush()
    assert await house.outbox.tick(after(2)) == 1
    assert await house.recorder.tick(after(2).timestamp()) == 0
    assert await house.recorded() == [told.id]
    assert await house.outbox.tick(after(3)) == 0


async def test_flushall_after_acknowledging_has_every_source_acknowledged_within_2_s(
    house: House,
) -> None:
    await house.redis.append([event(1), event(2), event(1, source="/budget")])
    await house.recorder.tick(NOON.timestamp())
    await house.recorder.tick(after(2).timestamp())
    await house.server.flush()
    await house.redis.append([event(3)])
    assert await house.recorder.tick(after(4).timestamp()) == 1
    assert await house.redis.acknowledged("/gate") == 3
    assert await house.redis.acknowledged("/budget") == 1


async def test_a_stream_whose_ids_start_lower_after_a_loss_is_heard(house: House) -> None:
    await house.redis.append([event(1)])
    assert await house.recorder.tick(NOON.timestamp()) == 1
    await house.server.flush()
    body = event(2).model_dump_json()
    await house.server.add({"event": body}, stream_id="1000-0")
    assert await house.recorder.tick(after(0.5).timestamp()) == 0
    assert await house.recorder.tick(after(2).timestamp()) == 1
    assert await house.recorded() == ["/gate/1", "/gate/2"]


async def test_the_recorder_wakes_when_something_is_told(house: House) -> None:
    await house.recorder.tick(NOON.timestamp())
    waking = asyncio.create_task(house.recorder.wake(60.0))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(waking), 0.2)
    await house.redis.append([event(1)])
    await asyncio.wait_for(waking, 1.0)
    assert await house.recorder.tick(after(1).timestamp()) == 1


async def test_a_redis_that_is_away_is_unavailable_and_nothing_is_lost(house: House) -> None:
    await house.recorder.tick(NOON.timestamp())
    await house.server.stop()
    told = await house.outbox.tell("x.told", subject="image", at=NOON)
    with pytest.raises(Unavailable):
        await house.recorder.tick(after(1).timestamp())
    await house.server.start()
    await house.outbox.tick(after(2))
    assert await house.recorder.tick(after(2).timestamp()) == 1
    assert await house.recorded() == [told.id]


async def test_a_gap_is_reported_since_when_until_it_is_filled(house: House) -> None:
    await house.redis.append([event(1), event(5)])
    with capture_logs() as logs:
        await house.recorder.tick(NOON.timestamp())
        await house.redis.append([event(2)])
        await house.recorder.tick(after(1).timestamp())
    (open_gap,) = house.recorder.gaps()
    assert (open_gap.gap, open_gap.since) == (Gap("/gate", range(3, 5)), NOON)
    assert await house.redis.acknowledged("/gate") == 2
    assert [log["event"] for log in logs] == ["gap.noticed"]
    restarted = Recorder(house.redis, house.record)
    await restarted.tick(after(2).timestamp())
    assert [each.gap for each in restarted.gaps()] == [open_gap.gap]
    await house.redis.append([event(4), event(3)])
    with capture_logs() as logs:
        await house.recorder.tick(after(3).timestamp())
    assert [log["event"] for log in logs] == ["gap.filled"]
    assert house.recorder.gaps() == ()
    assert await house.redis.acknowledged("/gate") == 5


async def test_an_entry_that_is_no_event_is_named_and_stops_nothing(house: House) -> None:
    await house.redis.append([event(1)])
    await house.server.add({"event": "{}"})
    await house.server.add({"other": "x"})
    await house.server.add({"event": b"\xff\xfe"})
    await house.server.add(
        {"event": event(3).model_copy(update={"sequence": -1}).model_dump_json()}
    )
    await house.redis.append([event(2)])
    with capture_logs() as logs:
        assert await house.recorder.tick(NOON.timestamp()) == 2
        assert await house.recorder.tick(after(1).timestamp()) == 0
    assert house.recorder.unreadable == 4
    assert [log["event"] for log in logs] == ["event.unreadable"]
    assert await house.recorded() == ["/gate/1", "/gate/2"]


async def test_a_changed_event_is_an_error_once_and_the_first_one_stays(house: House) -> None:
    await house.redis.append([event(1)])
    await house.recorder.tick(NOON.timestamp())
    with capture_logs() as logs:
        for second in (1, 2):
            await house.redis.append([event(1, "gate.relaxed")])
            await house.recorder.tick(after(second).timestamp())
    assert [(log["event"], log["id"], log["log_level"]) for log in logs] == [
        ("event.conflict", "/gate/1", "error")
    ]
    assert await house.record.events() == [event(1)]


def demand(gateway: str, at: datetime, admitted_rps: float) -> DemandReading:
    tiers = {
        "free": TierDemand(admitted_rps=admitted_rps, refused_by_gate_rps=1, not_exposed_rps=0)
    }
    return DemandReading(gateway=gateway, at=at.timestamp(), demand={"image": tiers})


async def test_demand_is_kept_as_means_of_ten_seconds_over_all_gateways(house: House) -> None:
    for second in range(12):
        now = after(second)
        await house.redis.publish_reading(demand("a", now, admitted_rps=second))
        if second % 3 == 0:  # this one misses readings, and is no smaller for it
            await house.redis.publish_reading(demand("b", now, admitted_rps=10))
        await house.recorder.tick(now.timestamp())
    (mean,) = await house.record.demand("image", since=NOON, until=after(60))
    assert mean == MeanDemand(NOON, "image", "free", 14.5, 2.0, 0.0)


async def test_nothing_is_said_of_demand_that_nobody_read(house: House) -> None:
    await house.redis.publish_reading(demand("a", NOON, admitted_rps=5))
    for second in range(30, 60):
        await house.recorder.tick(after(second).timestamp())
    assert await house.record.demand("image", since=NOON, until=after(60)) == []
