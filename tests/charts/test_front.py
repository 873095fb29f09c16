"""The chart's front, a real nginx with the rendered configuration, before a real gateway."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from embedded.ports import LOOPBACK, free_ports
from tests.charts.test_chart import LEAST, render
from tests.debian import needs_package
from tests.gateway.asking import CALLERS, KEY
from tests.gateway.running import running_gateway, version_now
from tests.real_redis import real_redis
from tests.tidegate.snapshots import gate, intent
from tidegate.callers import CallersSpec
from tidegate.clients.client import follow
from tidegate.edges.redis import Redis

pytestmark = [pytest.mark.integration, needs_package("nginx")]

WITHIN_S = 15.0
GIVEN: Mapping[str, Any] = {**LEAST, "callers": {"secret": {"name": "callers"}}}
BY_PROXY = CallersSpec.model_validate({"proxies": {"addresses": ["127.0.0.1"]}})


@dataclass
class Front:
    url: str
    redis: Redis
    http: aiohttp.ClientSession

    async def admit(self, **headers: str) -> int:
        asked = {"feature": "image", "user": "ada", "tier": "pro"}
        written = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.post(f"{self.url}/v1/admit", json=asked, headers=written) as answer:
            return answer.status

    async def status(self, path: str) -> int:
        async with self.http.get(self.url + path) as answer:
            return answer.status

    async def publish(self, free: float) -> None:
        now, version = time.time(), version_now()
        await self.redis.publish(intent(at=now, version=version))
        await self.redis.publish(gate({"free": free}, at=now, version=version))


@asynccontextmanager
async def front(
    folder: Path, values: Mapping[str, Any], callers: CallersSpec = CALLERS, read_s: str = "5s"
) -> AsyncIterator[Front]:
    """Start both; free is shut, so that only a tier that counts is let in."""
    (port,) = free_ports(1)
    async with (
        real_redis(folder) as (server, redis),
        running_gateway(folder, server.server.url, callers=callers) as gateway,
        aiohttp.ClientSession() as http,
    ):
        conf = folder / "nginx.conf"
        conf.write_text(configuration(values, port, gateway.port, folder, read_s))
        (folder / "logs").mkdir()
        binary = shutil.which("nginx")
        assert binary is not None
        argv = [binary, "-p", str(folder), "-c", str(conf), "-g", "daemon off;"]
        with (folder / "front.log").open("wb") as log:
            nginx = await asyncio.create_subprocess_exec(*argv, stdout=log, stderr=log)
        standing = Front(f"http://{LOOPBACK}:{port}", redis, http)
        try:
            await standing.publish(0.0)
            async with asyncio.timeout(WITHIN_S):
                while not await is_ready(standing):
                    assert nginx.returncode is None, (folder / "front.log").read_text()
                    await asyncio.sleep(0.05)
            await gateway.until_logged("intent.taken")
            yield standing
        finally:
            if nginx.returncode is None:
                nginx.terminate()
            await nginx.wait()


async def is_ready(standing: Front) -> bool:
    try:
        return await standing.status("/readyz") == 200
    except aiohttp.ClientError:
        return False


def configuration(
    values: Mapping[str, Any], port: int, gateway: int, folder: Path, read_s: str
) -> str:
    rendered = render(values)["tidegate/templates/front.yaml"]
    lines = rendered.split("nginx.conf: |\n", 1)[1].splitlines()
    text = "\n".join(line.removeprefix("    ") for line in lines)
    for stated, own in (
        ("listen 8081", f"listen {port}"),
        ("127.0.0.1:8080", f"127.0.0.1:{gateway}"),
        ("/tmp/", f"{folder}/"),
        ("proxy_read_timeout 5s", f"proxy_read_timeout {read_s}"),
    ):
        assert stated in text
        text = text.replace(stated, own)
    return text


def listing(*addresses: str) -> Mapping[str, Any]:
    return {**GIVEN, "gateway": {"front": {"image": "nginx", "proxies": list(addresses)}}}


async def test_a_key_vouches_through_the_front(tmp_path: Path) -> None:
    async with front(tmp_path, GIVEN) as standing:
        assert await standing.admit() == 429
        assert await standing.admit(X_API_Key=KEY) == 200


async def test_a_tier_that_a_client_writes_itself_is_taken_away(tmp_path: Path) -> None:
    async with front(tmp_path, GIVEN, BY_PROXY) as standing:
        assert await standing.admit(X_Tidegate_Tier="pro") == 429
        assert await standing.admit(x_tidegate_tier="pro") == 429


async def test_a_tier_that_a_listed_proxy_writes_is_passed_on(tmp_path: Path) -> None:
    async with front(tmp_path, listing("10.0.0.0/8", "127.0.0.0/8"), BY_PROXY) as standing:
        assert await standing.admit(X_Tidegate_Tier="pro") == 200
        assert await standing.admit() == 429


async def test_a_stream_is_told_at_once_and_outlives_silence(tmp_path: Path) -> None:
    # Any other answer that is silent for so long is cut.
    async with (
        front(tmp_path, GIVEN, read_s="300ms") as standing,
        standing.http.get(f"{standing.url}/ofrep/v1/events") as events,
        follow(standing.url, tmp_path / "client", api_key=KEY) as client,
        asyncio.timeout(WITHIN_S),
    ):
        assert await events.content.readline() == b": open\n"
        await asyncio.sleep(1.0)  # the silence itself
        assert not client.may_use("image", "ada", "free").allowed
        await standing.publish(1.0)
        while not (await events.content.readline()).startswith(b"data: "):
            pass
        while not client.may_use("image", "ada", "free").allowed:
            await asyncio.sleep(0.01)


async def test_without_callers_nobody_reads_the_snapshot_through_it(tmp_path: Path) -> None:
    async with front(tmp_path, LEAST, CallersSpec()) as standing:
        for path in ("/v1/snapshot", "/v1/snapshot/stream"):
            assert await standing.status(path) == 403
