"""Measuring: a stage's check against what the agents last read of its pool."""

import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from activities.measure import Measure
from tests.real_redis import real_redis
from tidegate.edges.redis import Redis
from tidegate.messages.rollout import Measurement
from tidegate.plans import CheckSpec
from tidegate.readings import EngineReading, NodeReading
from tidegate.rules.verdict import Verdict

pytestmark = pytest.mark.integration

CHECK = Measurement(
    pool="image", check=CheckSpec(queue_wait_below=timedelta(seconds=2)), limit_s=5.0
)


@pytest_asyncio.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Redis]:
    async with real_redis(tmp_path) as (_, redis):
        yield redis


async def _read(redis: Redis, wait_s: float, *, age_s: float = 0.0, pool: str = "image") -> None:
    engine = EngineReading(pool=pool, replica="r1", queue_wait_s=wait_s, waiting=1.0)
    reading = NodeReading(node="n1", at=time.time() - age_s, engines=(engine,))
    await redis.publish_reading(reading)


@pytest.mark.parametrize(("wait_s", "verdict"), [(1.9, Verdict.PASS), (2.0, Verdict.FAIL)])
async def test_a_fresh_reading_passes_or_fails(
    redis: Redis, wait_s: float, verdict: Verdict
) -> None:
    await _read(redis, wait_s)
    assert await Measure(redis).measure(CHECK) == verdict


async def test_missing_and_old_readings_are_inconclusive(redis: Redis) -> None:
    assert await Measure(redis).measure(CHECK) == Verdict.INCONCLUSIVE
    await _read(redis, 0.0, pool="chat")
    assert await Measure(redis).measure(CHECK) == Verdict.INCONCLUSIVE
    await _read(redis, 0.0, age_s=6.0)
    assert await Measure(redis).measure(CHECK) == Verdict.INCONCLUSIVE
