"""A gateway process follows a real Redis, and outlives every loss of it."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import pytest
from redis import asyncio as redis_asyncio

from embedded.redis import RedisServer, RedisSource, find_redis
from tests.debian import needs_package
from tests.gateway.running import RunningGateway, running_gateway, version_now
from tests.real_redis import RealRedis, real_redis
from tests.tidegate.snapshots import feature, gate, intent
from tidegate.edges.redis import Redis
from tidegate.edges.stored import SnapshotFile
from tidegate.readings import DemandReading
from tidegate.snapshot import GatePart, IntentPart

pytestmark = pytest.mark.integration


def open_for_all(version: int = 0, **changes: object) -> IntentPart:
    now = time.time()
    features = {"image": feature(**changes)}
    return intent(features, version=version or version_now(), at=now)


def gate_at(ceiling: float, version: int = 0, lasts_s: float = 600.0) -> GatePart:
    now = time.time()
    return gate(
        {"free": ceiling}, version=version or version_now(), at=now, expires_at=now + lasts_s
    )


@asynccontextmanager
async def following(folder: Path) -> AsyncIterator[tuple[RealRedis, Redis, RunningGateway]]:
    """A gateway that holds intent version 10 and gate version 11, open for all."""
    async with (
        real_redis(folder) as (server, redis),
        running_gateway(folder, server.server.url, "--name", "one") as gateway,
    ):
        await redis.publish(open_for_all(10))
        await redis.publish(gate_at(1.0, 11))
        await gateway.until_holding("intent", 10)
        await gateway.until_holding("gate/image", 11)
        yield server, redis, gateway


async def test_what_is_published_is_in_force_within_250_ms(tmp_path: Path) -> None:
    async with following(tmp_path) as (_, redis, gateway):
        took_s = []
        for version in range(12, 21):
            expected = 429 if version % 2 == 0 else 200
            await redis.publish(gate_at(0.0 if expected == 429 else 1.0, version))
            published = time.monotonic()
            while (await gateway.admit())[0] != expected:
                await asyncio.sleep(0.001)
            took_s.append(time.monotonic() - published)
        assert median(took_s) < 0.25


@pytest.mark.parametrize(
    ("source", "release"),
    [
        pytest.param(RedisSource.WHEEL, "6.2.", id="6.2"),
        pytest.param(RedisSource.SYSTEM, "7.", id="7", marks=needs_package("redis-server")),
    ],
)
async def test_both_releases_of_redis_do(tmp_path: Path, source: RedisSource, release: str) -> None:
    server = RealRedis(tmp_path)
    server.server = RedisServer(find_redis(source), server.server.port)
    assert (await server.server.version()).startswith(release)
    await server.start()
    try:
        async with (
            Redis(server.server.url) as redis,
            running_gateway(tmp_path, server.server.url) as gateway,
        ):
            await redis.publish(open_for_all(10))
            await gateway.until_holding("intent", 10, within_s=5.0)
            await until_read(redis, lambda reading: reading.seen == {"intent": 10})
    finally:
        await server.raw.aclose()
        await server.stop()


async def test_an_older_part_is_refused_though_redis_holds_it(tmp_path: Path) -> None:
    async with following(tmp_path) as (server, redis, gateway):
        await server.flush()
        assert await redis.publish(gate_at(0.0, 5))
        await redis.publish(open_for_all(12))
        await gateway.until_holding("intent", 12)
        assert (await gateway.versions())["gate/image"] == 11
        assert (await gateway.admit())[0] == 200


async def test_an_emptied_redis_loses_nothing_and_what_comes_after_is_taken(
    tmp_path: Path,
) -> None:
    async with following(tmp_path) as (server, redis, gateway):
        await server.flush()
        # The next reading echoes what is held, so it was written after the loss was read.
        await until_read(redis, lambda reading: reading.seen == {"intent": 10, "gate/image": 11})
        assert (await gateway.admit())[0] == 200
        await redis.publish(gate_at(0.0, 12))
        await gateway.until_holding("gate/image", 12, within_s=2.0)
        assert (await gateway.admit())[0] == 429
        assert (await gateway.admit("ada", "pro"))[0] == 200


async def test_without_redis_it_answers_and_finds_it_again_by_itself(tmp_path: Path) -> None:
    async with following(tmp_path) as (server, redis, gateway):
        await server.stop()
        await gateway.until_logged("redis.lost")
        for _ in range(50):
            assert (await gateway.admit())[0] == 200
        await server.start()
        await redis.publish(gate_at(0.0, 12))
        await gateway.until_holding("gate/image", 12, within_s=5.0)
        assert gateway.log.count("redis.lost") == 1
        assert gateway.log.count("redis.found") == 2


async def test_it_starts_from_disk_where_redis_is_away(tmp_path: Path) -> None:
    async with following(tmp_path) as (server, redis, gateway):
        await redis.publish(gate_at(0.0, 12))
        await gateway.until_holding("gate/image", 12)
        assert await gateway.stop() == 0
        await server.stop()
    async with running_gateway(tmp_path, "redis://127.0.0.1:1/0", "--name", "one") as again:
        assert await again.versions() == {"intent": 10, "gate/image": 12}
        assert (await again.admit())[0] == 429
        assert (await again.admit("ada", "pro"))[0] == 200
    async with running_gateway(tmp_path, "redis://127.0.0.1:1/0", "--name", "two") as other:
        assert (await other.admit())[0] == 503


async def test_intent_that_is_only_renewed_is_not_told_again(tmp_path: Path) -> None:
    async with following(tmp_path) as (_, redis, gateway):
        for version in (20, 21):
            await redis.publish(open_for_all(version))
            await gateway.until_holding("intent", version)
        assert gateway.log.count("intent.taken") == 1
        await redis.publish(open_for_all(22, exposure={"pro": 1.0}))
        await gateway.until_holding("intent", 22)
        assert gateway.log.count("intent.taken") == 2


async def test_what_people_decided_is_on_disk_before_it_is_in_force(tmp_path: Path) -> None:
    async with following(tmp_path) as (_, redis, gateway):
        await redis.publish(open_for_all(20))
        await gateway.until_holding("intent", 20)
        await gateway.stop(signal.SIGKILL)
    saved = SnapshotFile(tmp_path / "state" / "gateway-one.json").load()
    assert saved.versions()["intent"] == 20


@pytest.mark.parametrize("written", ["99 {", "no version at all", '99 {"version": 99}', ""])
async def test_a_part_that_cannot_be_read_stops_neither_answers_nor_the_next_part(
    tmp_path: Path, written: str
) -> None:
    async with following(tmp_path) as (_, redis, gateway):
        raw = redis_asyncio.Redis.from_url(redis.url)
        await raw.hset("tidegate:parts", "intent", written)
        await raw.hset("tidegate:parts", "gate/other", written)
        await raw.aclose()
        await redis.publish(gate_at(0.0, 12))
        await gateway.until_holding("gate/image", 12, within_s=2.0)
        assert (await gateway.versions())["intent"] == 10
        assert await redis.publish(open_for_all(100))
        await gateway.until_holding("intent", 100, within_s=2.0)


async def test_a_gate_that_expires_narrows_free_and_leaves_paying_tiers_open(
    tmp_path: Path,
) -> None:
    async with following(tmp_path) as (_, redis, gateway):
        users = [f"user-{n}" for n in range(60)]
        await redis.publish(gate_at(0.9, 12))
        await gateway.until_holding("gate/image", 12)
        before = {user for user in users if (await gateway.admit(user))[0] == 200}
        await redis.publish(gate_at(0.9, 13, lasts_s=0.1))
        await gateway.until_holding("gate/image", 13)

        async def has_expired() -> bool:
            why = await gateway.get("/v1/why?feature=image&user=ada&tier=free")
            return bool(why[1]["gate"]["expired"])

        await gateway.until(has_expired)
        after = {user for user in users if (await gateway.admit(user))[0] == 200}
        assert after < before
        assert 5 < len(after) < 35
        for tier in ("pro", "plus"):
            assert {(await gateway.admit(user, tier))[0] for user in users} == {200}


async def test_demand_and_what_is_held_are_published_each_second(tmp_path: Path) -> None:
    async with following(tmp_path) as (_, redis, gateway):
        shut = gate_at(0.0, 12)
        await redis.publish(shut)
        await gateway.until_holding("gate/image", 12)
        for n in range(40):
            await gateway.admit(f"user-{n}", "pro")
            await gateway.admit(f"user-{n}", "free")
        reading = await until_read(
            redis, lambda r: "image" in r.demand and r.demand["image"]["pro"].admitted_rps > 5.0
        )
        assert reading.gateway == "one"
        assert reading.demand["image"]["free"].refused_by_gate_rps > 5.0
        assert reading.demand["image"]["free"].admitted_rps < 5.0
        assert GatePart.model_validate_json(reading.gates["image"]) == shut
        assert reading.seen == {"intent": 10, "gate/image": 12}


async def until_read(redis: Redis, is_so: object) -> DemandReading:
    """Wait for a gateway's reading that is as it should be."""
    assert callable(is_so)
    async with asyncio.timeout(5.0):
        while True:
            for reading in (await redis.readings())[1]:
                if is_so(reading):
                    return reading
            await asyncio.sleep(0.02)
