"""Quotas on a real Redis: exact, all or none, and spent without asking anybody."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.leases import Lease
from gateway.quotas import Bounds
from tests.gateway.spending import (
    PATIENT,
    Clock,
    Spender,
    allowed,
    commands,
    counted,
    spending,
    until_settled,
)
from tests.real_redis import RealRedis, real_redis
from tests.tidegate.snapshots import NOW
from tidegate.edges.redis import Redis
from tidegate.edges.redis_quotas import Ask, Granted, QuotaBook
from tidegate.rules.outcome import Code

pytestmark = pytest.mark.integration

WITHIN_S = 10.0
HOLDS = Bounds(wait_s=WITHIN_S, idle_s=60.0)
"""Gives nothing back while the test lasts."""


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RealRedis]:
    async with real_redis(tmp_path) as (server, _):
        yield server


@pytest.fixture
async def three(redis: RealRedis) -> AsyncIterator[list[Spender]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(spending(redis, name)) for name in ("a", "b", "c")]


async def test_one_gateway_lets_in_exactly_the_limit(redis: RealRedis) -> None:
    daily = allowed("37 a day")
    async with spending(redis) as one:
        assert await one.uses(daily, 100) == 37
        assert await one.uses(daily, 100) == 0
        assert await one.uses(daily, 100, user="bob") == 37


async def test_who_is_refused_is_told_when_the_window_ends(redis: RealRedis) -> None:
    clock, daily = Clock(), allowed("1 image a day", time_zone="Europe/Berlin")
    async with spending(redis, clock=clock) as one:
        assert (await one.use(daily)).allowed
        refused = await one.use(daily)
        assert refused.code is Code.QUOTA_EXCEEDED
        assert refused.reason == "the quota of image is used up: 1 image a day, Europe/Berlin"
        assert refused.until is not None
        clock.now = refused.until - 1.0
        assert (await one.use(daily)).until == refused.until
        clock.now = refused.until
        assert (await one.use(daily)).allowed


async def test_three_gateways_together_never_let_in_more_than_the_limit(
    three: list[Spender],
) -> None:
    daily = allowed("50 a day")
    let_in = await asyncio.gather(*(each.uses(daily, 60) for each in three))
    assert sum(let_in) <= 50
    # A part may be held by one that did not use it, for as long as it keeps it.
    assert sum(let_in) > 50 - 50 // 10 * 2


async def test_all_of_the_limit_can_be_used_though_it_is_spread_over_gateways(
    three: list[Spender], redis: RealRedis
) -> None:
    daily, let_in = allowed("40 a day"), 0
    async with asyncio.timeout(WITHIN_S):
        while let_in < 40:
            for each in three:
                let_in += (await each.use(daily)).allowed
            await asyncio.sleep(0.01)
    assert await until_settled(redis) == 40
    assert [(await each.use(daily)).allowed for each in three] == [False, False, False]


async def test_a_lease_is_spent_without_asking_redis(redis: RealRedis) -> None:
    daily = allowed("1000 a day")
    async with spending(redis, bounds=HOLDS) as one:
        assert (await one.use(daily)).allowed
        before = await commands(redis)
        for _ in range(70):
            assert not isinstance(one.ask(daily), asyncio.Future)
            await asyncio.sleep(0)
        assert await commands(redis) == before
        assert await counted(redis) == 100


async def test_more_is_leased_before_what_there_is_has_run_out(redis: RealRedis) -> None:
    daily = allowed("1000 a day")
    async with spending(redis, bounds=HOLDS) as one:
        await one.use(daily)
        while (await counted(redis)) == 100:
            assert not isinstance(one.ask(daily), asyncio.Future)
            await asyncio.sleep(0.005)


async def test_a_use_takes_from_all_its_quotas_or_from_none(redis: RealRedis) -> None:
    clock, both = Clock(), allowed("3 a day", "2 in 10s")
    async with spending(redis, clock=clock) as one:
        assert [(await one.use(both)).code for _ in range(6)] == [
            *[Code.ALLOWED] * 2,
            *[Code.RATE_LIMITED] * 4,
        ]
        clock.now += 12.0
        assert [(await one.use(both)).code for _ in range(3)] == [
            Code.ALLOWED,
            Code.QUOTA_EXCEEDED,
            Code.QUOTA_EXCEEDED,
        ]
        clock.now += 86_400.0
        assert await one.uses(both, 6) == 2


async def test_a_burst_is_let_in_again_when_it_has_rolled_out(redis: RealRedis) -> None:
    clock, burst = Clock(), allowed("5 in 10s")
    async with spending(redis, clock=clock) as one:
        for _ in range(5):
            assert (await one.use(burst)).allowed
            clock.now += 1.0
        refused = await one.use(burst)
        assert refused.code is Code.RATE_LIMITED
        assert refused.until == NOW + 11.0  # when the first has rolled out, and no later
        for n in range(5):
            clock.now = NOW + 11.0 + n
            assert await one.uses(burst, 3) == 1


async def test_a_changed_limit_counts_on(redis: RealRedis) -> None:
    async with spending(redis) as one:
        assert await one.uses(allowed("3 a day"), 9) == 3
        assert await one.uses(allowed("5 images a day"), 9) == 2
        assert await one.uses(allowed("4 a day"), 9) == 0
        assert await one.uses(allowed("100 a day"), 10) == 10
        # What was leased ahead of a limit is not spent once that is lowered.
        assert await one.uses(allowed("16 a day"), 9) == 1


async def test_a_quota_of_another_window_zone_or_feature_is_another(redis: RealRedis) -> None:
    async with spending(redis) as one:
        for quota in ({}, {"window": "rolling"}, {"time_zone": "Europe/Berlin"}):
            assert await one.uses(allowed("2 a day", **quota), 5) == 2


async def test_what_is_held_is_given_back_at_the_end(redis: RealRedis) -> None:
    async with spending(redis, bounds=HOLDS) as one:
        await one.use(allowed("1000 a day"))
        assert await counted(redis) == 100
    assert await until_settled(redis) == 1


async def test_what_lies_unused_is_given_back(redis: RealRedis) -> None:
    async with spending(redis) as one:
        await one.use(allowed("1000 a day"))
        assert await until_settled(redis) == 1
        assert one.quotas.leases == 0


async def test_whoever_hangs_up_while_waiting_has_used_nothing(redis: RealRedis) -> None:
    daily = allowed("5 a day")
    async with spending(redis) as one:
        waiting = one.ask(daily)
        assert isinstance(waiting, asyncio.Future)
        waiting.cancel()
        assert await one.uses(daily, 9) == 5


async def test_memory_is_bounded_and_forgets_no_use(redis: RealRedis) -> None:
    few, daily = Bounds(wait_s=WITHIN_S, idle_s=60.0, most=10), allowed("20 a day")
    async with spending(redis, bounds=few) as one:
        for round_ in range(2):
            for n in range(50):
                await one.use(daily, f"user-{n}")
                assert one.quotas.leases <= 10
            del round_
    assert await until_settled(redis) == 100


async def test_an_emptied_redis_only_ever_forgets_uses(redis: RealRedis) -> None:
    daily = allowed("10 a day")
    async with spending(redis, bounds=HOLDS) as one, spending(redis, "two") as two:
        assert await one.uses(daily, 6) == 6
        await redis.flush()
        # What a lease used is told anew with its next ask; what nobody holds is forgotten.
        assert await one.uses(daily, 10) == 4
        assert await two.uses(daily, 10) == 0
        await redis.flush()
        assert await two.uses(daily, 20, user="bob") == 10
    assert await until_settled(redis) <= 20


def ask(lease: str, number: int, held: int, needed: int, *, ends: bool = False) -> Ask:
    return Ask("image:day:ada", lease, number, 10, 1_000, 1_000, 60_000, held, needed, ends)


async def test_an_ask_that_comes_twice_or_late_counts_once(
    redis: RealRedis, tmp_path: Path
) -> None:
    del tmp_path
    async with Redis(redis.server.url) as own:
        book = QuotaBook(own)
        assert await book.lease([ask("a", 1, 0, 3)]) == [Granted(3, 0)]
        assert await book.lease([ask("a", 2, 3, 2), ask("a", 2, 3, 2)]) == [Granted(5, 0)] * 2
        await book.lease([ask("a", 1, 0, 3)])  # was on its way since long ago
        assert await counted(redis) == 5
        ends = ask("a", 3, 4, 0, ends=True)
        await book.lease([ends, ends])
        assert await counted(redis) == 4
        assert await book.lease([ask("b", 1, 0, 9)]) == [Granted(6, 1_000)]
        assert await book.lease([]) == []


@pytest.mark.parametrize("seed", range(5))
async def test_however_leases_come_and_go_they_never_hold_more_than_the_limit(
    redis: RealRedis, seed: int
) -> None:
    drawn = random.Random(seed)
    held: dict[str, int] = {}
    sent: dict[str, list[Ask]] = {}
    ended = 0
    async with Redis(redis.server.url) as own:
        book = QuotaBook(own)
        for step in range(150):
            names = [*held, f"lease-{step}"]
            name = drawn.choice(names)
            has, before = held.get(name, 0), sent.get(name, [])
            if before and drawn.random() < 0.3:
                # Again, because nobody heard the answer; or late, from a connection that was slow.
                await book.lease([drawn.choice(before)])
            elif before and drawn.random() < 0.2:
                used = drawn.randint(0, has)
                ends = ask(name, len(before) + 1, used, 0, ends=True)
                await book.lease([ends] * drawn.randint(1, 2))
                ended += used
                del held[name]
            else:
                asked = ask(name, len(before) + 1, has, drawn.randint(0, 3))
                (granted,) = await book.lease([asked])
                assert granted.held >= has
                held[name] = granted.held
                sent.setdefault(name, []).append(asked)
            assert ended + sum(held.values()) == await counted(redis) <= 10


async def test_whoever_is_told_to_end_while_asking_ends(redis: RealRedis) -> None:
    async with Redis(redis.server.url) as own:

        async def ask_on() -> None:
            while True:
                await own.ping()

        for turns in range(40):
            asking = asyncio.create_task(ask_on())
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking], timeout=WITHIN_S)
            assert asking.cancelled()


def test_a_lease_that_asks_for_more_goes_on_holding_what_it_holds() -> None:
    (quota,) = allowed("40 a day").quotas
    lease = Lease("image:day@UTC:ada", "one.1", quota, quota.part(NOW))
    lease.take_in(lease.ask(), Granted(4, 0), NOW)
    lease.used = 3
    asked = lease.ask()
    lease.used = 4  # the last one is spent while the answer is on its way
    lease.take_in(asked, Granted(asked.held, 0), NOW)
    assert (asked.held, lease.held, lease.units) == (4, 4, 0)


def test_a_lease_that_only_tells_does_not_forget_that_nothing_was_left() -> None:
    (quota,) = allowed("2 a day").quotas
    part = quota.part(NOW)
    lease = Lease("image:day@UTC:ada", "one.1", quota, part)
    asked = lease.ask()._replace(needed=1)
    lease.take_in(asked, Granted(0, part.start_ms), NOW)
    lease.take_in(lease.ask(), Granted(0, 0), NOW)
    assert lease.frees_at == part.end


async def test_no_name_of_a_user_is_in_redis(redis: RealRedis) -> None:
    async with spending(redis, bounds=PATIENT) as one:
        await one.use(allowed("5 a day"), "ada-lovelace@example.org")
        (key,) = [key async for key in redis.raw.scan_iter("tidegate:quota:*")]
        assert "ada" not in key
        assert key.startswith("tidegate:quota:image:day@UTC:")
        assert 0 < await redis.raw.pttl(key) <= 2 * 86_400_000
