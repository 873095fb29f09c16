"""A real gateway process, asked over HTTP."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from embedded.ports import LOOPBACK, free_ports
from tests.gateway.asking import AS_A_SERVER, CALLERS, NOBODY
from tidegate.callers import CallersSpec

WITHIN_S = 30.0


class RunningGateway:
    """One process with its log, and a client of it."""

    def __init__(
        self, process: asyncio.subprocess.Process, port: int, log: Path, http: aiohttp.ClientSession
    ) -> None:
        self.process = process
        self.port = port
        self.url = f"http://{LOOPBACK}:{port}"
        self._log = log
        self._http = http

    @property
    def log(self) -> str:
        return self._log.read_text()

    async def admit(self, user: str = "ada", tier: str = "free", **more: object) -> tuple[int, Any]:
        asked = {"feature": "image", "user": user, "tier": tier, **more}
        async with self._http.post(f"{self.url}/v1/admit", json=asked) as answer:
            return answer.status, await answer.json(content_type=None)

    async def get(self, path: str) -> tuple[int, Any]:
        async with self._http.get(self.url + path) as answer:
            return answer.status, await answer.json(content_type=None)

    async def versions(self) -> dict[str, int]:
        held: dict[str, int] = (await self.get("/readyz"))[1]["versions"]
        return held

    async def until(self, is_so: Callable[[], Awaitable[bool]], within_s: float = WITHIN_S) -> None:
        async with asyncio.timeout(within_s):
            while not await is_so():
                await asyncio.sleep(0.005)

    async def until_holding(self, part: str, version: int, within_s: float = WITHIN_S) -> None:
        async def is_held() -> bool:
            return (await self.versions()).get(part) == version

        await self.until(is_held, within_s)

    async def until_logged(self, event: str) -> None:
        async def is_logged() -> bool:
            return event in self.log

        await self.until(is_logged)

    async def is_alive(self) -> bool:
        try:
            return (await self.get("/healthz"))[0] == 200
        except aiohttp.ClientError:
            return False

    async def stop(self, by: signal.Signals = signal.SIGTERM) -> int:
        if self.process.returncode is None:
            self.process.send_signal(by)
        return await asyncio.wait_for(self.process.wait(), WITHIN_S)


@asynccontextmanager
async def running_gateway(
    folder: Path, redis: str = NOBODY, *arguments: str, callers: CallersSpec = CALLERS
) -> AsyncIterator[RunningGateway]:
    """Start a gateway that keeps its state and log in `folder`, and wait until it answers."""
    (port,) = free_ports(1)
    log = folder / f"{port}.log"
    process = await start(
        ["--port", str(port), *arguments], log, environment(folder, redis, callers)
    )
    async with aiohttp.ClientSession(headers=AS_A_SERVER) as http:
        gateway = RunningGateway(process, port, log, http)
        try:
            await gateway.until(gateway.is_alive)
            yield gateway
        finally:
            await gateway.stop(signal.SIGKILL)


async def start(
    arguments: list[str], log: Path, env: Mapping[str, str]
) -> asyncio.subprocess.Process:
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", *arguments, stdout=output, stderr=output, env=env
        )


def environment(
    folder: Path, redis: str = NOBODY, callers: CallersSpec = CALLERS
) -> dict[str, str]:
    written = folder / "callers.json"
    written.write_text(callers.model_dump_json(by_alias=True, exclude_defaults=True))
    return {
        **os.environ,
        "TIDEGATE_REDIS": redis,
        "TIDEGATE_STATE": str(folder / "state"),
        "TIDEGATE_CALLERS": str(written),
    }


def version_now() -> int:
    return int(time.time() * 1000)
