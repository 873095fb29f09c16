"""An ASGI application on the loopback that ends its own work before it goes."""

import asyncio
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import uvicorn

from embedded.ports import LOOPBACK


class GracefulServer(uvicorn.Server):
    """A uvicorn server that on SIGTERM or SIGINT awaits `wind_down` first, then exits with 0.

    It goes on answering meanwhile, so that the application itself can refuse with 503.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        port: int,
        *,
        wind_down: Callable[[], Awaitable[None]],
        host: str = LOOPBACK,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                lifespan="off",
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._wind_down = wind_down
        self._winding_down: asyncio.Task[None] | None = None

    async def serve_until_told(self) -> None:
        """Serve until a signal, and until everything is wound down after it."""
        self._loop = asyncio.get_running_loop()
        await self.serve()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to wind down; called by uvicorn, on the first signal and on any other."""
        del sig, frame
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        if self._winding_down is None:
            self._winding_down = self._loop.create_task(self._end())

    async def _end(self) -> None:
        try:
            await self._wind_down()
        finally:
            self.should_exit = True
