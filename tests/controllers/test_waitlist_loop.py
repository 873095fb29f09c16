"""The waitlist loop on a real Redis and a real record: what it calls, keeps, and survives."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from controllers.lanes import SPARE, Came
from controllers.waitlist import WaitlistLoop
from tests.controllers.published import NOW, POOL, gateway, told
from tests.databases import NewDatabase
from tests.real_redis import RealRedis, real_redis
from tests.tidegate.snapshots import feature, gate
from tidegate.edges.migrations import migrate
from tidegate.edges.outbox import Outbox
from tidegate.edges.record import LaneMark, Record
from tidegate.edges.redis import Redis, as_json
from tidegate.edges.redis_numbers import NumberBook
from tidegate.errors import Unavailable
from tidegate.kills import sign_order
from tidegate.readings import LaneUse
from tidegate.rules.waiting import Standing, place_of
from tidegate.signing import Key, Keyring
from tidegate.snapshot import (
    IntentPart,
    KillPart,
    Lane,
    TierPolicy,
    WaitlistIntent,
    WaitlistPart,
    waitlist_part,
)

PACE = WaitlistIntent(calls_per_s=2.0, claim_window_s=60.0)
TIERS = {
    "pro": TierPolicy(rank=0, gated=False),
    "plus": TierPolicy(rank=1, gated=True),
    "free": TierPolicy(rank=2, gated=True),
}


@dataclass
class House:
    server: RealRedis
    redis: Redis
    record: Record
    outbox: Outbox
    loop: WaitlistLoop
    at: float = NOW

    @property
    def book(self) -> NumberBook:
        return NumberBook(self.redis)

    async def intend(self, *, tiers: Mapping[str, TierPolicy] = TIERS, **changes: object) -> None:
        held = (await self.redis.snapshot()).intent
        part = IntentPart(
            version=1 + (held.version if held else 0),
            issued_at=NOW,
            expires_at=NOW + 1e6,
            tiers=tiers,
            features={"image": feature(waitlist=PACE, **changes)},
            pools={"image": POOL},
        )
        assert await self.redis.publish(part)

    async def open_gate(self, free: float = 1.0) -> None:
        held = (await self.redis.snapshot()).gates.get("image")
        version = 1 + (held.version if held else 0)
        part = gate({"plus": 1.0, "free": free}, version=version, expires_at=NOW + 1e6)
        assert await self.redis.publish(part)

    async def tick(self, seconds: int = 1) -> WaitlistPart:
        for _ in range(seconds):
            self.at += 1.0
            await self.loop.tick(self.at)
        return (await self.redis.snapshot()).waitlists["image"]

    async def lease(self, count: int, tier: str = "free") -> range:
        return await self.book.lease("image", tier, count)

    def another_loop(self) -> None:
        self.loop = WaitlistLoop(self.redis, self.record, self.outbox)

    async def echo(self, part: WaitlistPart, leased_below: int) -> None:
        reading = gateway(
            self.at,
            waitlists={"image": as_json(part)},
            lanes={"image": {"free": LaneUse(leased_below=leased_below)}},
            seen={waitlist_part("image"): part.version},
            began_at=NOW,
        )
        await self.redis.publish_reading(reading)


@pytest.fixture
async def house(tmp_path: Path, record_url: str) -> AsyncIterator[House]:
    async with (
        real_redis(tmp_path) as (server, redis),
        Outbox(tmp_path / "waitlist.outbox", "/controllers/waitlist", redis) as outbox,
        Record(record_url) as record,
    ):
        migrate(record.engine)
        house = House(server, redis, record, outbox, WaitlistLoop(redis, record, outbox))
        await house.intend()
        await house.open_gate()
        yield house


async def test_numbers_are_opened_only_when_it_is_on_record_that_they_may_be_given_out(
    house: House,
) -> None:
    with pytest.raises(Unavailable):
        await house.lease(1)
    await house.tick()
    assert await house.lease(3) == range(3)
    assert await house.record.lane_mark("image", "free") == LaneMark(SPARE, 0, 0)
    numbers = await house.book.look("image", "free")
    assert numbers.below == SPARE


async def test_more_numbers_are_opened_before_they_run_out(house: House) -> None:
    await house.tick()
    await house.lease(SPARE - 10)
    await house.tick()
    numbers = await house.book.look("image", "free")
    assert numbers.below >= 2 * SPARE - 10
    assert (await house.record.lane_mark("image", "free")).reserved_below == numbers.below


async def test_those_who_wait_are_called_in_order_at_the_pace_and_tiers_in_turn(
    house: House,
) -> None:
    await house.tick()
    await house.lease(100)
    await house.lease(100, "plus")
    part = await house.tick(30)
    assert 39 <= part.lanes["plus"].called_below <= 40
    assert 19 <= part.lanes["free"].called_below <= 20
    assert place_of(part, "free", 0, house.at).standing is Standing.CALLED
    assert "pro" not in part.lanes


async def test_nobody_is_called_while_the_gate_is_shut_held_or_suspended(house: House) -> None:
    await house.tick()
    await house.lease(100)
    await house.open_gate(free=0.0)
    await house.redis.publish(gate({"plus": 0.0, "free": 0.0}, version=99, expires_at=NOW + 1e6))
    assert (await house.tick(20)).lanes["free"].called_below == 0
    await house.redis.publish(gate({"plus": 1.0, "free": 1.0}, version=100, expires_at=NOW + 1e6))
    await house.intend(held_because="legal: review")
    held = await house.tick(20)
    assert (held.lanes["free"].called_below, held.stopped_because) == (
        0,
        "the feature is on hold: legal: review",
    )
    await house.intend()
    assert (await house.tick(5)).lanes["free"].called_below == 10
    types = [event.type for event in await told(house.redis) if event.type != "waitlist.forecast"]
    assert types[:3] == ["waitlist.stopped", "waitlist.stopped", "waitlist.resumed"]


# --- losses ---


async def test_a_lost_redis_repeats_no_number_and_loses_nobodys_place(house: House) -> None:
    await house.tick()
    given = await house.lease(50)
    before = await house.tick(10)
    last = max(await house.lease(7))  # given out, and never seen by the loop
    await house.echo(before, leased_below=last + 1)
    await house.server.flush()
    await house.intend()
    await house.open_gate()
    await house.echo(before, leased_below=last + 1)
    after = await house.tick()
    new = await house.lease(5)
    assert new.start > last
    assert new.start == SPARE
    lane = after.lanes["free"]
    assert before.lanes["free"].called_below <= lane.called_below <= lane.issued_below
    # Whoever waited stands where they stood, and who joins now stands right behind the last.
    assert place_of(after, "free", given[-1], house.at).ahead == 49 - lane.called_below
    assert place_of(after, "free", new.start, house.at).ahead == 57 - lane.called_below
    assert after.version > before.version


async def test_a_redis_that_starts_anew_with_an_old_copy_repeats_no_number(house: House) -> None:
    await house.tick()
    await house.lease(5)
    await house.tick()
    old = await house.server.raw.dump("tidegate:numbers:image/free")
    assert old is not None
    given = await house.lease(20)
    await house.server.stop()
    await house.server.start()
    await house.server.raw.restore("tidegate:numbers:image/free", 0, old)
    await house.intend()
    await house.open_gate()
    await house.tick()
    assert (await house.lease(1)).start > given[-1]


async def test_when_everything_but_the_record_is_lost_numbers_go_on_above_and_calls_where_they_were(
    house: House,
) -> None:
    await house.tick()
    await house.lease(100)
    await house.tick(30)
    given = await house.lease(10)
    await house.server.flush()
    house.another_loop()
    await house.intend()
    await house.open_gate()
    after = await house.tick()
    lane = after.lanes["free"]
    assert (await house.lease(1)).start > given[-1]
    marked = await house.record.lane_mark("image", "free")
    assert marked.called_below <= lane.called_below < 70
    assert place_of(after, "free", 99, house.at).ahead <= 99 - marked.called_below
    # Those whose call was forgotten have one window more, and replace nobody.
    assert place_of(after, "free", 0, house.at).standing is Standing.CALLED
    await house.lease(500)
    later = await house.tick(62)
    assert later.lanes["free"].waiters(lane.called_below, later.lanes["free"].called_below) <= 130


async def test_without_the_record_those_who_wait_are_called_and_no_more_numbers_are_opened(
    new_database: NewDatabase, house: House
) -> None:
    await house.tick()
    await house.lease(100)
    async with Record(new_database()) as nowhere:
        house.loop = WaitlistLoop(house.redis, nowhere, house.outbox)
        assert (await house.tick(10)).lanes["free"].called_below >= 18
        await house.server.raw.delete("tidegate:numbers:image/free")
        await house.tick(2)
        with pytest.raises(Unavailable):
            await house.lease(1)
    house.another_loop()
    await house.tick()
    assert (await house.lease(1)).start == SPARE


async def test_a_loop_that_starts_anew_takes_up_the_newest_echo_above_every_version(
    house: House,
) -> None:
    await house.tick()
    await house.lease(100)
    held = await house.tick(10)
    await house.server.raw.hdel("tidegate:parts", waitlist_part("image"))
    ahead = held.model_copy(update={"version": held.version + 60_000})
    await house.echo(ahead, leased_below=100)
    house.another_loop()
    part = await house.tick()
    assert part.version == ahead.version + 1
    assert part.lanes["free"].called_below >= held.lanes["free"].called_below
    assert part.moves[0] == held.moves[0]


async def test_numbers_that_redis_forgets_between_a_look_and_an_opening_are_not_opened_there(
    house: House,
) -> None:
    await house.tick()
    found = await house.book.look("image", "free")
    await house.lease(30)
    await house.server.flush()
    # As a loop would that looked before: what was open is not taken for what is there now.
    assert not await house.book.open("image", "free", found, 0, 2 * SPARE)
    with pytest.raises(Unavailable):
        await house.lease(1)
    closed = await house.book.look("image", "free")
    assert not closed.is_open
    assert await house.book.open("image", "free", closed, SPARE, 2 * SPARE)
    # Nor is it opened anew by one that has not seen that it is open.
    assert not await house.book.open("image", "free", closed, 0, SPARE)
    assert (await house.lease(1)).start == SPARE


async def test_a_record_that_was_replaced_repeats_no_number(
    house: House, new_database: NewDatabase
) -> None:
    await house.tick()
    await house.lease(50)
    await house.tick()
    async with Record(new_database()) as new:
        migrate(new.engine)
        house.loop = WaitlistLoop(house.redis, new, house.outbox)
        await house.tick(2)
        given = await house.lease(20)
        await house.server.flush()
        await house.intend()
        await house.open_gate()
        await house.tick()
        assert (await house.lease(1)).start > given[-1]


async def test_a_lane_that_left_the_catalogue_comes_back_where_it_was(house: House) -> None:
    await house.tick()
    await house.lease(100)
    before = await house.tick(40)
    tiers = {**TIERS, "free": TierPolicy(rank=2, gated=False)}
    await house.intend(tiers=tiers)
    assert "free" not in (await house.tick()).lanes
    await house.intend()
    after = await house.tick()
    marked = before.lanes["free"].called_below - 2 * 10  # it is kept every ten seconds
    assert after.lanes["free"].called_below >= marked > 0


async def test_after_losing_everything_twice_nobody_stands_behind_numbers_that_nobody_has(
    house: House,
) -> None:
    await house.tick()
    await house.lease(100)
    await house.tick(15)
    for _ in range(2):
        await house.server.flush()
        house.another_loop()
        await house.intend()
        await house.open_gate()
        await house.tick(12)
    part = await house.tick()
    assert part.lanes["free"].waiting <= 100


async def test_a_record_that_is_away_stops_nobody_from_being_called_in_time(
    house: House, new_database: NewDatabase
) -> None:
    await house.tick()
    await house.lease(100)
    async with Record(new_database()) as nowhere:
        house.loop = WaitlistLoop(house.redis, nowhere, house.outbox)
        part = await house.tick(10)
    assert part.lanes["free"].called_below >= 18


async def test_nobody_is_called_once_the_feature_is_closed_by_a_signed_order(
    house: House,
) -> None:
    keys = Keyring((Key("test", b"k" * 32),))
    house.loop = WaitlistLoop(house.redis, house.record, house.outbox, keys)
    await house.tick()
    await house.lease(100)
    order = KillPart(
        feature="image",
        version=9,
        issued_at=NOW,
        expires_at=NOW + 600.0,
        by="sam",
        reason="it leaks",
    )
    signed = sign_order(order, keys)
    assert await house.redis.publish_kill(signed, over="")
    part = await house.tick(5)
    assert part.lanes["free"].called_below == 0
    assert part.stopped_because == "image was closed by sam: it leaks"


# --- what is told ---


async def test_forecasts_are_told_recorded_and_closed_when_they_come_true(house: House) -> None:
    await house.tick()
    await house.lease(30)
    await house.tick(40)
    events = await told(house.redis)
    await house.record.add(events, events[0].at)
    forecasts = await house.record.forecasts(subject="waitlist/image")
    first = forecasts[0]
    assert first.what == "free/29"
    assert first.came_true_at is not None
    assert first.p50 is not None
    assert abs((first.p50 - first.made_at).total_seconds() - 15.0) < 2.0
    assert abs((first.came_true_at - first.made_at).total_seconds() - 15.0) < 3.0


def test_who_came_is_added_up_from_what_each_gateway_counted_since_it_began() -> None:
    came = Came()

    def count(gateway_name: str, began_at: float, number: int) -> object:
        lanes = {"image": {"free": LaneUse(came=number)}}
        reading = gateway(NOW, began_at=began_at, lanes=lanes)
        return msgspec.structs.replace(reading, gateway=gateway_name)

    def since(*readings: object) -> int:
        return came.since_last(readings)["image", "free"]  # type: ignore[arg-type]

    assert since(count("one", 1.0, 500)) == 0
    assert since(count("one", 1.0, 503)) == 3
    assert since(count("one", 1.0, 503), count("two", 2.0, 4)) == 0
    assert since(count("one", 9.0, 2), count("two", 2.0, 6)) == 2, "one began anew"


async def test_a_lane_that_was_never_heard_of_begins_at_nothing(house: House) -> None:
    part = await house.tick()
    assert part.lanes["free"].model_copy(update={"late": ()}) == Lane()
