"""Telling what was counted: the difference since the last time, and nothing of silent tiers."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.tally import Tally
from gateway.telling import AdmissionTeller
from tests.controllers.published import told
from tests.real_redis import RealRedis, real_redis
from tests.tidegate.snapshots import NOW
from tidegate.edges.outbox import Outbox
from tidegate.edges.redis import Redis
from tidegate.rules.outcome import Code, Outcome

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@dataclass
class House:
    server: RealRedis
    redis: Redis
    outbox: Outbox
    tally: Tally

    def __post_init__(self) -> None:
        self.teller = AdmissionTeller("one", self.tally, lambda: self.outbox)

    def count(self, tier: str, code: Code, times: int, pool: str = "image") -> None:
        allowed = code is Code.ALLOWED
        outcome = Outcome(allowed, code, "", "image", tier, pool, 1)
        for _ in range(times):
            self.tally.count(outcome, "ada", NOW)

    async def told(self) -> list[dict[str, object]]:
        events = await told(self.redis)
        assert all(event.type == "admission.counted" for event in events)
        return [dict(event.data) for event in events]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with (
        real_redis(tmp_path) as (server, redis),
        Outbox(tmp_path / "one.outbox", "/gateways/one", redis) as outbox,
    ):
        yield House(server, redis, outbox, Tally())


def counted(tier: str, admitted: int, refused: int = 0, hidden: int = 0) -> dict[str, object]:
    return {
        "gateway": "one",
        "pool": "image",
        "tier": tier,
        "admitted": admitted,
        "refused_by_gate": refused,
        "not_exposed": hidden,
    }


async def test_each_tier_is_told_what_is_new_since_the_last_time(house: House) -> None:
    house.count("pro", Code.ALLOWED, 3)
    house.count("free", Code.ALLOWED, 1)
    house.count("free", Code.GATE_SHED, 5)
    house.count("free", Code.NOT_EXPOSED, 2)
    await house.teller.tick(NOON)
    house.count("pro", Code.ALLOWED, 4)
    await house.teller.tick(after(2))
    assert await house.told() == [
        counted("free", 1, refused=5, hidden=2),
        counted("pro", 3),
        counted("pro", 4),
    ]


async def test_silence_and_other_refusals_are_not_told(house: House) -> None:
    await house.teller.tick(NOON)
    house.count("free", Code.SURFACE_CLOSED, 2)
    house.count("", Code.FEATURE_UNKNOWN, 2, pool="")
    await house.teller.tick(after(2))
    assert await house.told() == []


async def test_pools_are_told_apart(house: House) -> None:
    house.count("pro", Code.ALLOWED, 1)
    house.count("pro", Code.ALLOWED, 2, pool="chat")
    await house.teller.tick(NOON)
    events = await told(house.redis)
    assert [(event.subject, event.data["admitted"]) for event in events] == [
        ("pool/chat", 2),
        ("pool/image", 1),
    ]


async def test_what_is_counted_while_redis_is_away_is_told_once_it_is_back(house: House) -> None:
    await house.server.stop()
    for second in (0, 2):
        house.count("free", Code.GATE_SHED, 1)
        await house.teller.tick(after(second))
    await house.server.start()
    await house.teller.tick(after(20))
    assert await house.told() == [counted("free", 0, refused=1)] * 2


async def test_what_is_told_again_after_a_loss_counts_nothing_twice(house: House) -> None:
    house.count("pro", Code.ALLOWED, 3)
    await house.teller.tick(NOON)
    await house.server.flush()
    await house.teller.tick(after(2))
    assert await house.told() == [counted("pro", 3)]


async def test_it_runs_by_itself_until_it_is_cancelled(house: House) -> None:
    running = asyncio.create_task(house.teller.run())
    house.count("pro", Code.ALLOWED, 1)
    async with asyncio.timeout(10.0):
        while not await told(house.redis):
            await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
