from pathlib import Path

import pytest

from console.history import History, Quantity
from console.reader import Reader
from tests.console.made_up import START, event, gate, gateway, intent, node
from tests.real_redis import real_redis

pytestmark = pytest.mark.integration


async def test_a_tick_reads_what_is_published_and_each_event_once(tmp_path: Path) -> None:
    async with real_redis(tmp_path) as (_, redis):
        await redis.publish(intent())
        await redis.publish(gate(0.4))
        await redis.publish_reading(node(START))
        await redis.publish_reading(gateway(START))
        await redis.append([event(n, "stage.due") for n in range(1, 1201)])
        reader = Reader(redis, history := History())
        await reader.tick(START)
        await redis.append([event(1201, "stage.approved")])
        await reader.tick(START + 1)
    assert history.events_heard == 1201
    assert history.series(Quantity.CEILING, "image", "free").last == 0.4
    assert history.series(Quantity.QUEUE_WAIT_S, "image").last == 0.5
    assert history.series(Quantity.ADMITTED_RPS, "image", "pro").last == 10.0


async def test_a_redis_that_comes_back_empty_is_read_on_and_loses_no_event(tmp_path: Path) -> None:
    async with real_redis(tmp_path) as (server, redis):
        reader = Reader(redis, history := History())
        await redis.append([event(1, "stage.due")])
        await reader.tick(START)
        await server.stop()
        await reader.tick(START + 1)
        assert (history.silent_because or "").startswith("redis: no answer")
        await server.start()
        # Producers append again what the recorder has not acknowledged.
        await redis.append([event(1, "stage.due"), event(2, "stage.approved")])
        await reader.tick(START + 2)
    assert not history.silent_because
    assert [e.sequence for e in history.events] == [1, 2]
