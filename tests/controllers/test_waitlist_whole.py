"""A waitlist from the door to the call, through real processes that are killed and emptied."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.controllers.published import engine, node
from tests.controllers.test_processes import Loop, running
from tests.gateway.asking import AS_A_SERVER
from tests.gateway.running import RunningGateway, running_gateway
from tests.real_redis import RealRedis, real_redis
from tests.tidegate.snapshots import POOL, TIERS, feature
from tidegate.edges.redis import Redis
from tidegate.snapshot import IntentPart, WaitlistIntent

pytestmark = pytest.mark.integration

WITHIN_S = 30.0
PACE = WaitlistIntent(calls_per_s=50.0, claim_window_s=60.0)

Document = dict[str, Any]


@dataclass
class Launch:
    """A feature whose gate is shut at first, since nobody remembers it."""

    server: RealRedis
    redis: Redis
    gateway: RunningGateway
    http: aiohttp.ClientSession
    folder: Path
    record_url: str
    gate: Loop

    is_read: bool = False

    async def read_quiet(self) -> None:
        if self.is_read:
            await self.redis.publish_reading(node(time.time(), engine(queue_wait_s=0.1)))

    async def intend(self) -> None:
        now = time.time()
        held = (await self.redis.snapshot()).intent
        part = IntentPart(
            version=max(int(now * 1000), 1 + (held.version if held else 0)),
            issued_at=now,
            expires_at=now + 600.0,
            tiers=TIERS,
            features={"image": feature(waitlist=PACE)},
            pools={"image": POOL.model_copy(update={"safe_share": 0.0})},
        )
        assert await self.redis.publish(part)

    async def ask(self, path: str, user: str, ticket: str = "") -> tuple[int, Document]:
        headers = {**AS_A_SERVER, **({"Tidegate-Ticket": ticket} if ticket else {})}
        asked = {"feature": "image", "user": user, "tier": "free", "asks": "signup"}
        async with self.http.post(self.gateway.url + path, json=asked, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def until(self, path: str, user: str, status: int, ticket: str = "") -> Document:
        got = 0
        document: Document = {}
        try:
            async with asyncio.timeout(WITHIN_S):
                while got != status:
                    await self.read_quiet()
                    got, document = await self.ask(path, user, ticket)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"{path} still answers {got} to {user}: {document}")
        return document


@asynccontextmanager
async def gate_process(folder: Path, redis: Redis, record_url: str) -> AsyncIterator[Loop]:
    async with running(folder, "gate", redis=redis.url, record=record_url) as gate:
        yield gate


@pytest.fixture
async def launch(tmp_path: Path, record_url: str) -> AsyncIterator[Launch]:
    async with (
        real_redis(tmp_path) as (server, redis),
        running(tmp_path, "recorder", redis=redis.url, record=record_url),
        gate_process(tmp_path, redis, record_url) as gate,
        running_gateway(tmp_path, redis.url) as gateway,
        aiohttp.ClientSession() as http,
    ):
        launch = Launch(server, redis, gateway, http, tmp_path, record_url, gate)
        await launch.intend()
        yield launch


async def test_whoever_waits_is_called_though_the_gate_process_dies_and_redis_forgets_all(
    launch: Launch,
) -> None:
    tickets = {}
    for user in ("ada", "bob", "eve"):
        tickets[user] = await launch.until("/v1/waitlist", user, 202)
    numbers = [ticket["number"] for ticket in tickets.values()]
    assert numbers == sorted(set(numbers))
    await launch.gate.stops()
    await launch.server.flush()
    async with gate_process(launch.folder, launch.redis, launch.record_url):
        await launch.intend()
        late = await launch.until("/v1/waitlist", "dan", 202)
        assert late["number"] > numbers[-1]
        status, kept = await launch.ask("/v1/waitlist", "eve", tickets["eve"]["ticket"])
        assert (status, kept["number"]) == (202, numbers[-1])
        assert kept["ahead"] <= 2
        launch.is_read = True  # and quiet, so that the gate reopens step by step
        for user, ticket in {**tickets, "dan": late}.items():
            called = await launch.until("/v1/waitlist", user, 200, ticket["ticket"])
            assert called["state"] in {"called", "open"}
            status, answer = await launch.ask("/v1/admit", user, ticket["ticket"])
            assert (status, answer["allowed"]) == (200, True)
