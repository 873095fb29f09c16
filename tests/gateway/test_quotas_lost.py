"""Quotas while Redis is frozen or gone: nobody waits long, and what was let in is booked later."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from gateway.quotas import Bounds
from tests.gateway.spending import (
    Clock,
    Spender,
    allowed,
    counted,
    spending,
    until_settled,
)
from tests.real_redis import RealRedis, real_redis
from tidegate.rules.outcome import Code

pytestmark = pytest.mark.integration

WITHIN_S = 15.0
HOLDS = Bounds(idle_s=60.0)
"""As in production, but that nothing is given back while the test lasts."""


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RealRedis]:
    async with real_redis(tmp_path) as (server, _):
        yield server


@contextmanager
def frozen(redis: RealRedis) -> Iterator[None]:
    """Stop the process, while its sockets stay open and the kernel takes what is sent to them."""
    assert redis.pid is not None
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(redis.pid, signal.SIGCONT)


async def until_known(one: Spender) -> None:
    """Wait until Redis was heard, with a user that nobody else is."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            before = one.quotas.unknown
            await one.use(allowed("1 a day"), f"nobody-{time.monotonic_ns()}")
            if one.quotas.unknown == before:
                return
            await asyncio.sleep(0.01)


async def test_a_frozen_redis_delays_no_answer_by_more_than_50_ms(redis: RealRedis) -> None:
    worst_s: list[float] = []
    middle_s: list[float] = []
    for round_ in range(5):
        async with spending(redis, f"round-{round_}", bounds=HOLDS) as one:
            await until_known(one)
            delays_s: list[float] = []

            async def timed(user: str, one: Spender = one, to: list[float] = delays_s) -> None:
                began = time.perf_counter()
                assert (await one.use(allowed("5 a day"), user)).allowed
                to.append(time.perf_counter() - began)

            with frozen(redis):
                for burst in range(10):
                    users = [timed(f"{round_}-{burst}-{n}") for n in range(5)]
                    await asyncio.gather(*users)
                    await asyncio.sleep(0.01)
            assert one.quotas.unknown >= 50
        worst_s.append(max(delays_s))
        middle_s.append(median(delays_s))
    worst_ms = [round(each * 1000, 1) for each in worst_s]
    print(f"worst of each round: {worst_ms} ms")  # noqa: T201 - the figure to look at
    # What a busy machine adds now and then is not the quotas': the best of five rounds has none.
    assert min(worst_s) < 0.05
    assert max(middle_s) < 0.05


async def test_what_is_leased_is_spent_before_the_fail_mode_decides(redis: RealRedis) -> None:
    daily = allowed("100 a day", on_lost="close")
    async with spending(redis, bounds=HOLDS) as one:
        await until_known(one)
        assert (await one.use(daily)).allowed
        with frozen(redis):
            assert await one.uses(daily, 30) == 9
            refused = await one.use(daily)
            assert (refused.code, refused.until) == (Code.QUOTA_UNKNOWN, None)
            assert refused.retry_after_s
            assert refused.reason == (
                "what was used of image cannot be asked for now; its quota is 100 a day, UTC"
            )
        await until_known(one)
        assert (await one.use(daily)).allowed


async def test_while_redis_is_known_to_be_lost_nobody_waits_at_all(redis: RealRedis) -> None:
    async with spending(redis, bounds=HOLDS) as one:
        await until_known(one)
        with frozen(redis):
            await one.use(allowed("5 a day"), "the first")
            for n in range(20):
                answer = one.ask(allowed("5 a day"), f"user-{n}")
                assert not isinstance(answer, asyncio.Future)
                await asyncio.sleep(0)


async def test_an_open_quota_lets_in_up_to_the_limit_and_books_it_once(redis: RealRedis) -> None:
    daily = allowed("20 a day")
    async with spending(redis, bounds=HOLDS) as one:
        await until_known(one)
        assert await one.uses(daily, 3) == 3
        with frozen(redis):
            assert await one.uses(daily, 50) == 17
            refused = await one.use(daily)
            assert (refused.code, refused.until is None) == (Code.QUOTA_EXCEEDED, False)
        await until_known(one)
        assert await one.uses(daily, 5) == 0
    settled = await until_settled(redis)
    nobodies = len(await redis.raw.keys("tidegate:quota:*")) - 1
    assert settled - nobodies == 20


async def test_what_was_let_in_unknown_counts_for_all_gateways_later(redis: RealRedis) -> None:
    daily = allowed("10 a day")
    async with spending(redis, "a", bounds=HOLDS) as one, spending(redis, "b") as two:
        await until_known(one)
        with frozen(redis):
            assert await one.uses(daily, 8) == 8
        await until_known(one)
        async with asyncio.timeout(WITHIN_S):
            while await counted(redis) < 8:
                await asyncio.sleep(0.01)
        assert await two.uses(daily, 10) == 2


async def test_of_several_quotas_one_that_is_closed_refuses_and_none_is_taken(
    redis: RealRedis,
) -> None:
    daily, hourly = allowed("9 a day"), allowed("9 an hour", on_lost="close")
    use = replace(daily, quotas=(*daily.quotas, *hourly.quotas))
    async with spending(redis, bounds=HOLDS) as one:
        await until_known(one)
        with frozen(redis):
            assert (await one.use(use)).code is Code.QUOTA_UNKNOWN
        await until_known(one)
        assert await one.uses(allowed("9 a day"), 20) == 9


async def test_who_was_refused_before_stays_refused(redis: RealRedis) -> None:
    clock, daily = Clock(), allowed("2 a day")
    async with spending(redis, bounds=HOLDS, clock=clock) as one:
        await until_known(one)
        assert await one.uses(daily, 5) == 2
        clock.now += 60.0
        with frozen(redis):
            before = one.quotas.unknown
            assert (await one.use(daily)).code is Code.QUOTA_EXCEEDED
            assert one.quotas.unknown == before


async def test_a_redis_that_is_gone_and_comes_back_empty_is_told_what_leases_used(
    redis: RealRedis,
) -> None:
    daily = allowed("10 a day")
    async with spending(redis, bounds=HOLDS) as one:
        await until_known(one)
        assert await one.uses(daily, 4) == 4
        await redis.stop()
        assert await one.uses(daily, 3) == 3
        assert one.waited_s < WITHIN_S
        await redis.start()
        await until_known(one)
        assert await one.uses(daily, 10) == 3


async def test_leases_of_users_who_were_let_in_unknown_are_bounded(redis: RealRedis) -> None:
    few = Bounds(idle_s=60.0, most=10)
    async with spending(redis, bounds=few) as one:
        await until_known(one)
        with frozen(redis):
            for n in range(100):
                await one.use(allowed("5 a day"), f"user-{n}")
            assert one.quotas.leases <= 10
            assert len(one.quotas._asking) <= 30


async def test_it_ends_while_redis_is_frozen(redis: RealRedis) -> None:
    with frozen(redis):
        async with asyncio.timeout(WITHIN_S):
            async with spending(redis, bounds=HOLDS) as one:
                assert (await one.use(allowed("5 a day"))).allowed
