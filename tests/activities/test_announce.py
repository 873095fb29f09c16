"""Announcing events to a real Redis: done once they are recorded, however often it is tried."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from activities.announce import Announce
from tests.embedded.until import until
from tests.real_redis import RealRedis, real_redis
from tidegate.edges.redis import Redis
from tidegate.errors import Unavailable
from tidegate.events import Event
from tidegate.messages.common import News

pytestmark = pytest.mark.integration

SOURCE = "/rollout/launch/1a2b3c4d"


def _events(*sequences: int) -> tuple[Event, ...]:
    at = datetime(2026, 3, 4, tzinfo=UTC)
    return tuple(
        Event(source=SOURCE, sequence=n, type="stage.due", at=at, subject="rollout/launch")
        for n in sequences
    )


@pytest_asyncio.fixture
async def servers(tmp_path: Path) -> AsyncIterator[tuple[RealRedis, Redis]]:
    async with real_redis(tmp_path) as servers:
        yield servers


async def test_it_is_done_once_the_record_has_acknowledged_the_last(
    servers: tuple[RealRedis, Redis],
) -> None:
    server, redis = servers
    announcing = asyncio.create_task(Announce(redis).announce(News(events=_events(1, 2, 3))))

    async def has_arrived() -> bool:
        return await server.length() == 3

    await until(has_arrived)
    heard = await redis.events(after="0")
    assert [event.sequence for event in heard.events] == [1, 2, 3]
    await redis.acknowledge({SOURCE: 2})
    _, pending = await asyncio.wait({announcing}, timeout=0.3)
    assert pending == {announcing}
    await redis.acknowledge({SOURCE: 3})
    await asyncio.wait_for(announcing, 1.0)


async def test_what_is_recorded_already_is_not_sent_again(
    servers: tuple[RealRedis, Redis],
) -> None:
    server, redis = servers
    await redis.acknowledge({SOURCE: 3})
    await Announce(redis).announce(News(events=_events(2, 3)))
    assert await server.length() == 0


async def test_without_a_recorder_it_is_to_be_tried_again_before_its_time_is_up(
    servers: tuple[RealRedis, Redis],
) -> None:
    _, redis = servers
    began_at = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable, match="3 is not recorded yet; is the recorder running") as lost:
        await Announce(redis).announce(News(events=_events(3)))
    assert lost.value.code == "not-recorded"
    assert asyncio.get_running_loop().time() - began_at < 2.0


async def test_without_redis_it_is_to_be_tried_again(servers: tuple[RealRedis, Redis]) -> None:
    server, redis = servers
    await server.stop()
    with pytest.raises(Unavailable) as lost:
        await Announce(redis).announce(News(events=_events(1)))
    assert lost.value.code == "redis-unavailable"


async def test_after_a_burst_it_lingers_and_after_a_single_act_it_does_not(
    servers: tuple[RealRedis, Redis],
) -> None:
    _, redis = servers
    await redis.acknowledge({SOURCE: 1})
    clock = asyncio.get_running_loop().time
    began_at = clock()
    await Announce(redis, linger_s=0.2).announce(News(events=_events(1), is_burst=True))
    assert clock() - began_at >= 0.2
    await asyncio.wait_for(Announce(redis, linger_s=3600.0).announce(News(events=_events(1))), 10.0)
