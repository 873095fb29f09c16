"""The gate loop wakes on a reading that moves a level, and waits for its period otherwise."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from controllers.loop import run
from tests.controllers.published import NOW, engine, gateway, node
from tests.embedded.until import until
from tests.real_redis import RealRedis, real_redis
from tidegate.edges.redis import Redis
from tidegate.edges.redis_readings import CHANGED
from tidegate.readings import DemandReading, GpuReading, NodeReading, SickGpu

PERIOD_S = 60.0


class Ticks:
    """Counts how often it was asked."""

    def __init__(self) -> None:
        self.count = 0

    async def tick(self, now: float) -> None:  # noqa: ARG002 - as the protocol has it
        self.count += 1


@dataclass
class House:
    server: RealRedis
    redis: Redis

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Ticks]:
        """Have a loop of a long period that wakes on readings."""
        ticks, stopping = Ticks(), asyncio.Event()
        async with self.redis.reading_changes() as changes:
            loop = run("gate", ticks, period_s=PERIOD_S, wake=changes.wait, stopping=stopping)
            running = asyncio.create_task(loop)
            await until(lambda: ticks.count == 1)
            yield ticks
            stopping.set()
            await running


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with real_redis(tmp_path) as (server, redis):
        yield House(server, redis)


async def test_a_wait_that_doubles_wakes_the_loop_at_once(house: House) -> None:
    await house.redis.publish_reading(node(NOW, engine(queue_wait_s=0.1)))
    async with house.running() as ticks:
        await house.redis.publish_reading(node(NOW + 1.0, engine(queue_wait_s=9.0)))
        await until(lambda: ticks.count == 2)


async def test_readings_that_stay_at_their_level_wake_nobody(house: House) -> None:
    await house.redis.publish_reading(node(NOW, engine(queue_wait_s=5.0)))
    told = house.server.raw.pubsub(ignore_subscribe_messages=True)
    await told.subscribe(CHANGED)
    for n in range(5):
        await house.redis.publish_reading(node(NOW + n, engine(queue_wait_s=5.0 + 0.5 * n)))
    await house.redis.publish_reading(node(NOW, engine(queue_wait_s=9.0), name="other"))
    heard = None
    while heard is None:
        heard = await told.get_message(timeout=5.0)
    assert heard["data"] == "node/other"
    await told.aclose()  # type: ignore[no-untyped-call]


async def test_levels_that_move_together_wake_the_loop_once(house: House) -> None:
    async with house.running() as ticks:
        spikes = [node(NOW, engine(queue_wait_s=9.0), name=f"node-{n}") for n in range(20)]
        await asyncio.gather(*map(house.redis.publish_reading, spikes))
        await until(lambda: ticks.count == 2)
        await house.redis.publish_reading(node(NOW + 1.0, engine(queue_wait_s=0.1), name="node-1"))
        await until(lambda: ticks.count == 3)


@pytest.mark.parametrize(
    ("reading", "levels"),
    [
        (node(NOW, engine(queue_wait_s=None)), {"image": 0}),
        (node(NOW, engine(queue_wait_s=0.1)), {"image": 0}),
        (node(NOW, engine(queue_wait_s=float("nan"))), {"image": 0}),
        (node(NOW, engine(queue_wait_s=0.1), engine(queue_wait_s=2.0)), {"image": 4}),
        (node(NOW, engine(queue_wait_s=3.9)), {"image": 4}),
        (node(NOW, engine(queue_wait_s=4.0)), {"image": 5}),
        (node(NOW), {}),
        (gateway(NOW, 2.0), {"image": 4}),
        (gateway(NOW, 200.0), {"image": 10}),
    ],
)
def test_levels_are_doublings_of_the_longest_wait_or_of_what_is_admitted(
    reading: NodeReading | DemandReading, levels: dict[str, int]
) -> None:
    assert reading.levels == levels


async def test_what_each_card_reads_is_there_where_it_is_asked_for(house: House) -> None:
    cards = (GpuReading(index=0, utilisation=0.5), GpuReading(index=1, fault="GPU_IS_LOST"))
    whole = node(NOW, engine(), gpus=cards)
    await house.redis.publish_reading(whole)
    ((with_cards,), _) = await house.redis.readings()
    ((without,), _) = await house.redis.readings(gpus=False)
    sick = (SickGpu(index=1, reason="NVML answers GPU_IS_LOST"),)
    assert with_cards == replace(whole, sick_gpus=sick, well_gpus=(0,))
    assert (without.gpus, without.sick_gpus, without.well_gpus) == (None, sick, (0,))
    unread = replace(whole, gpus=None, gpus_absent_because="no driver")
    await house.redis.publish_reading(unread)
    ((after,), _) = await house.redis.readings()
    assert (after.gpus, after.sick_gpus, after.well_gpus) == (None, (), ())
