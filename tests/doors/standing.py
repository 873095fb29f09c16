"""A proxy in front of an application, a gateway that it asks, and clients of both."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web

from embedded.ports import LOOPBACK, free_ports
from tests.gateway.provider import ISSUER, RSA_KEY, providing, signed
from tests.gateway.running import RunningGateway, running_gateway
from tests.real_redis import real_redis
from tests.tidegate.snapshots import FEATURE, gate, intent
from tidegate.callers import CallersSpec
from tidegate.edges.redis import Redis
from tidegate.snapshot import FeatureIntent, ModelIntent

EXAMPLES: Final = Path(__file__).parents[2] / "docs" / "examples" / "proxies"
_WITHIN_S: Final = 15.0


@dataclass(frozen=True)
class Answer:
    """What the client got."""

    status: int
    headers: Mapping[str, str]
    body: str


@dataclass
class Door:
    """A client's view of the proxy, and the hands that move what is behind it."""

    url: str
    redis: Redis
    gateway: RunningGateway
    http: aiohttp.ClientSession
    passed_on: list[Mapping[str, str]] = field(default_factory=list)
    """The headers of each request that reached the application."""

    async def ask(self, tier: str | None = "free", path: str = "/draw?x=1", **sent: str) -> Answer:
        """Ask as a user of this tier; None comes without a token."""
        headers = {name.replace("_", "-"): value for name, value in sent.items()}
        if tier is not None:
            headers["Authorization"] = f"Bearer {token(tier)}"
        async with self.http.post(self.url + path, data=b"a cat", headers=headers) as answer:
            return Answer(answer.status, answer.headers, await answer.text())

    async def publish(
        self,
        image: FeatureIntent = FEATURE,
        *,
        ceiling: float = 1.0,
        models: Mapping[str, ModelIntent] | None = None,
    ) -> None:
        """Publish, and wait until the gateway decides by it."""
        now = time.time()
        version = int(now * 1000)
        part = intent({"image": image}, version=version, at=now)
        await self.redis.publish(part.model_copy(update={"models": models or {}}))
        await self.redis.publish(gate({"free": ceiling}, version=version, at=now))
        await self.gateway.until_holding("intent", version)
        await self.gateway.until_holding("gate/image", version)

    async def until_status(self, status: int) -> None:
        """Ask until the answer has this status."""
        async with asyncio.timeout(_WITHIN_S):
            while (await self.ask("pro")).status != status:
                await asyncio.sleep(0.05)


def token(tier: str) -> str:
    """Return the token that the identity provider gives ada, who is of this tier."""
    return signed(RSA_KEY, "rsa", "RS256", tier=tier)


Command = Callable[[Path, str], tuple[Sequence[str], Mapping[str, str]]]
"""Given a folder and a configuration, returns what starts the proxy, and its environment."""


@asynccontextmanager
async def standing(
    folder: Path, example: str, command: Command, edits: Mapping[str, str] | None = None
) -> AsyncIterator[Door]:
    """Start all of it, with the example's own configuration on other ports, and any `edits`."""
    proxy_port, app_port = free_ports(2)
    seen: list[Mapping[str, str]] = []
    async with (
        real_redis(folder) as (server, redis),
        providing() as provider,
        running_gateway(folder, server.server.url, callers=_callers(provider.url)) as gateway,
        _application(app_port, seen),
        aiohttp.ClientSession() as http,
    ):
        written = (EXAMPLES / example).read_text()
        for before, after in (edits or {}).items():
            assert before in written
            written = written.replace(before, after)
        for stated, port in ((8080, gateway.port), (8000, proxy_port), (9000, app_port)):
            assert str(stated) in written
            written = written.replace(str(stated), str(port))
        argv, environment = command(folder, written)
        with (folder / "proxy.log").open("wb") as log:
            proxy = await asyncio.create_subprocess_exec(
                *argv, stdout=log, stderr=log, env=dict(environment)
            )
        try:
            door = Door(f"http://{LOOPBACK}:{proxy_port}", redis, gateway, http, seen)
            await door.publish()
            await _until_listening(proxy, proxy_port, folder / "proxy.log")
            await door.until_status(200)
            seen.clear()
            yield door
        finally:
            if proxy.returncode is None:
                proxy.terminate()
            await proxy.wait()


def _callers(jwks: str) -> CallersSpec:
    jwt = {
        "jwks": jwks,
        "issuer": ISSUER,
        "audience": "tidegate",
        "algorithms": ["RS256"],
        "claim": "tier",
        "userClaim": "sub",
    }
    return CallersSpec.model_validate({"jwt": jwt})


@asynccontextmanager
async def _application(port: int, seen: list[Mapping[str, str]]) -> AsyncIterator[None]:
    async def draw(request: web.Request) -> web.Response:
        await request.read()
        seen.append(request.headers)
        return web.Response(text="a picture")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", draw)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, port).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def _until_listening(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    async with asyncio.timeout(_WITHIN_S):
        while True:
            assert process.returncode is None, log.read_text()
            try:
                _, writer = await asyncio.open_connection(LOOPBACK, port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
