"""A real Redis for one test, with what the test does to it behind the backs of its clients."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from redis import asyncio as redis_asyncio

from embedded.ports import LOOPBACK, free_ports
from embedded.redis import RedisServer, find_redis
from tidegate.edges.redis import Redis

_READY_WITHIN_S: Final = 10.0
STREAM: Final = "tidegate:events"


class RealRedis:
    """A server that can be stopped, started empty, emptied, and written to by hand."""

    def __init__(self, state_dir: Path) -> None:
        (port,) = free_ports(1)
        self._state_dir = state_dir
        self._process: asyncio.subprocess.Process | None = None
        self.server = RedisServer(find_redis(), port)
        self.raw = redis_asyncio.Redis(host=LOOPBACK, port=port, decode_responses=True)

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self.server.argv(self._state_dir), stdout=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(_READY_WITHIN_S):
            while not await self._is_ready():
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def flush(self) -> None:
        await self.raw.flushall()

    async def add(self, fields: dict[str, str | bytes], stream_id: str = "*") -> None:
        await self.raw.xadd(STREAM, fields, id=stream_id)  # type: ignore[arg-type]

    async def length(self) -> int:
        return int(await self.raw.xlen(STREAM))

    async def _is_ready(self) -> bool:
        try:
            return await self.server.is_ready()
        except OSError:
            return False


@asynccontextmanager
async def real_redis(state_dir: Path) -> AsyncIterator[tuple[RealRedis, Redis]]:
    """Start a server, and connect one of our clients to it."""
    server = RealRedis(state_dir)
    await server.start()
    try:
        async with Redis(server.server.url) as redis:
            yield server, redis
    finally:
        await server.raw.aclose()
        await server.stop()
