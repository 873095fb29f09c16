"""A gateway answers whatever its disk does, and tells its last seconds before it ends."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.loops import keep_running
from tests.controllers.published import told
from tests.gateway.running import RunningGateway, running_gateway, version_now
from tests.real_redis import real_redis
from tests.tidegate.snapshots import intent
from tidegate.edges.redis import Redis

WITHIN_S = 20.0


async def admitted(redis: Redis) -> float:
    """Return how many requests were told of as admitted."""
    return sum(float(event.data["admitted"] or 0) for event in await told(redis))


async def until_admitted(redis: Redis, count: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while await admitted(redis) < count:
            await asyncio.sleep(0.05)
    assert await admitted(redis) == count


@asynccontextmanager
async def answering(folder: Path) -> AsyncIterator[tuple[Redis, RunningGateway, Path]]:
    """A gateway named one that lets everybody in, and where its outbox is."""
    async with (
        real_redis(folder) as (server, redis),
        running_gateway(folder, server.server.url, "--name", "one") as gateway,
    ):
        await redis.publish(intent(version=version_now(), at=time.time()))
        await gateway.until(lambda: lets_in(gateway))
        await until_admitted(redis, 1)
        yield redis, gateway, folder / "state" / "gateway-one.outbox"


async def lets_in(gateway: RunningGateway) -> bool:
    return (await gateway.admit("ada", "pro"))[0] == 200


def damage(outbox: Path) -> None:
    """Overwrite the file with zeros, and what SQLite keeps beside it."""
    for each in outbox.parent.glob(f"{outbox.name}*"):
        with each.open("r+b") as file:
            file.write(bytes(each.stat().st_size))


def move_away(outbox: Path) -> None:
    for each in outbox.parent.glob(f"{outbox.name}*"):
        each.rename(each.with_name(f"damaged-{each.name}"))


@pytest.mark.integration
async def test_a_damaged_outbox_is_told_once_and_requests_are_answered(tmp_path: Path) -> None:
    async with answering(tmp_path) as (redis, gateway, outbox):
        damage(outbox)
        assert await lets_in(gateway)
        await gateway.until_logged("admissions.untold")
        assert await lets_in(gateway)
        assert gateway.log.count("admissions.untold") == 1
        move_away(outbox)
        await gateway.until_logged("admissions.told_again")
        await until_admitted(redis, 3)
        assert await gateway.stop() == 0


@pytest.mark.integration
async def test_it_starts_with_an_outbox_that_cannot_be_used(tmp_path: Path) -> None:
    outbox = tmp_path / "state" / "gateway-one.outbox"
    outbox.parent.mkdir()
    outbox.write_bytes(bytes(8192))
    async with (
        real_redis(tmp_path) as (server, redis),
        running_gateway(tmp_path, server.server.url, "--name", "one") as gateway,
    ):
        await redis.publish(intent(version=version_now(), at=time.time()))
        await gateway.until(lambda: lets_in(gateway))
        await gateway.until_logged("admissions.untold")
        assert await lets_in(gateway)
        move_away(outbox)
        await until_admitted(redis, 2)


@pytest.mark.integration
async def test_what_was_counted_last_is_told_before_the_end(tmp_path: Path) -> None:
    async with answering(tmp_path) as (redis, gateway, _):
        for _ in range(5):
            assert await lets_in(gateway)
        assert await gateway.stop() == 0
        assert await admitted(redis) == 6
        (reading,) = (await redis.readings())[1]
        assert reading.demand["image"]["pro"].admitted_rps > 1.0


async def test_a_loop_that_fails_is_told_once_and_begins_again() -> None:
    began = asyncio.Queue[int]()

    async def fail() -> None:
        began.put_nowait(1)
        raise ValueError("a defect")

    running = asyncio.create_task(keep_running("failing", fail, again_in_s=0.001))
    async with asyncio.timeout(WITHIN_S):
        for _ in range(3):
            await began.get()
    assert not running.done()
    await ended(running)


async def test_a_loop_that_fails_while_it_is_cancelled_ends_all_the_same() -> None:
    began = asyncio.Event()

    async def fail_at_the_end() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            raise ValueError("a defect")

    running = asyncio.create_task(keep_running("failing", fail_at_the_end, again_in_s=0.001))
    await began.wait()
    await ended(running)


async def ended(running: asyncio.Task[None]) -> None:
    running.cancel()
    async with asyncio.timeout(WITHIN_S):
        await asyncio.gather(running, return_exceptions=True)
    assert running.done()
