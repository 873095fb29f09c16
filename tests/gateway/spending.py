"""Spending quotas as gateways do, on a real Redis, at a settable time."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from gateway.quotas import Bounds, Quotas
from gateway.replies import Reply
from tests.gateway.asking import WITHIN_S
from tests.real_redis import RealRedis
from tests.tidegate.snapshots import NOW
from tidegate.edges.redis import Redis
from tidegate.edges.redis_quotas import QuotaBook
from tidegate.quotas import QuotaSpec
from tidegate.rules.outcome import Code, Outcome
from tidegate.rules.quota import compile_quotas

PATIENT = Bounds(wait_s=WITHIN_S, idle_s=0.05)
"""Waits for a busy machine, so that only what Redis knows decides; gives back soon."""


class Clock:
    """A time that only the test moves; in the middle of an hour."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Spender:
    """One gateway's quotas, and how long its last answer took."""

    def __init__(self, quotas: Quotas[Outcome], clock: Callable[[], float]) -> None:
        self.quotas = quotas
        self.clock = clock
        self.waited_s = 0.0

    def ask(self, outcome: Outcome, user: str = "ada") -> Outcome | asyncio.Future[Outcome]:
        return self.quotas.spend(user, outcome, self.clock(), lambda settled: settled)

    async def use(self, outcome: Outcome, user: str = "ada") -> Outcome:
        began = time.perf_counter()
        answer = self.ask(outcome, user)
        settled = await answer if isinstance(answer, asyncio.Future) else answer
        self.waited_s = time.perf_counter() - began
        return settled

    async def uses(self, outcome: Outcome, count: int, user: str = "ada") -> int:
        """Ask for many at once; returns how many were allowed."""
        settled = await asyncio.gather(*(self.use(outcome, user) for _ in range(count)))
        return sum(each.allowed for each in settled)


@asynccontextmanager
async def spending(
    redis: RealRedis,
    name: str = "one",
    *,
    bounds: Bounds = PATIENT,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[Spender]:
    """Run the quotas of a gateway; at the end it gives back what it holds."""
    async with Redis(redis.server.url, 0.5) as own:
        quotas = Quotas[Outcome](QuotaBook(own), clock, name, bounds)
        running = asyncio.create_task(quotas.run())
        try:
            yield Spender(quotas, clock)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def asked_with(redis: RealRedis) -> AsyncIterator[Quotas[Reply]]:
    """Run quotas to be asked over the application."""
    async with Redis(redis.server.url, 0.5) as own:
        quotas = Quotas[Reply](QuotaBook(own), lambda: NOW, "asked", PATIENT)
        running = asyncio.create_task(quotas.run())
        try:
            yield quotas
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def allowed(*uses: str, **more: str) -> Outcome:
    """An allowed use of the image feature that takes from these quotas."""
    specs = [QuotaSpec.model_validate({"uses": each, **more}) for each in uses]
    quotas = compile_quotas(specs)
    return Outcome(
        True,
        Code.ALLOWED,
        "image is open for free",
        "image",
        "free",
        "image",
        10,
        quotas=quotas,
    )


async def counted(redis: RealRedis) -> int:
    """Return what Redis counts as used or leased, of all users and windows."""
    keys = [key async for key in redis.raw.scan_iter("tidegate:quota:*")]
    fields = [await redis.raw.hgetall(key) for key in keys]
    return sum(int(value.split()[-1]) for each in fields for value in each.values())


async def until_settled(redis: RealRedis) -> int:
    """Wait until no lease is out; returns what is counted as used."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            keys = [key async for key in redis.raw.scan_iter("tidegate:quota:*")]
            fields = [field for key in keys for field in await redis.raw.hkeys(key)]
            if all(str(field).endswith("/") for field in fields):
                return await counted(redis)
            await asyncio.sleep(0.01)


async def commands(redis: RealRedis) -> int:
    """Return how many times a script was run since the server started."""
    stats = await redis.raw.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {}).get("calls", 0))
