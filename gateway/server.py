"""Listening: who is slow is hung up on, and the end loses no request."""

import asyncio
import socket
from typing import Final

from gateway.connection import Application, Connection, Serving
from gateway.limits import Limits

SWEEP_S: Final = 1.0
_BACKLOG: Final = 1024
"""Connections that may wait to be accepted; the kernel may allow fewer."""


class Server:
    """Listens, keeps an eye on slow clients, and ends without losing a request."""

    def __init__(self, application: Application, limits: Limits | None = None) -> None:
        self._serving = Serving(application, limits or Limits())

    @property
    def connections(self) -> set[Connection]:
        """Every client that is connected."""
        return self._serving.connections

    async def serve(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain."""
        loop = asyncio.get_running_loop()
        # A second handle keeps the socket listening after the server has closed its own.
        waiting = listener.dup()
        server = await loop.create_server(
            lambda: Connection(self._serving, loop), sock=listener, backlog=_BACKLOG
        )
        sweeping = loop.create_task(self._sweep())
        await stop.wait()
        self._serving.is_draining = True
        server.close()
        await self._take_in(waiting)
        began = loop.time()
        while self.connections and loop.time() - began < self._serving.limits.drain_s:
            for connection in tuple(self.connections):
                connection.drain(is_last_call=loop.time() - began > self._serving.limits.linger_s)
            await asyncio.sleep(0.02)
        for connection in tuple(self.connections):
            connection.abort()
        sweeping.cancel()

    async def _take_in(self, waiting: socket.socket) -> None:
        """Accept whoever the kernel has accepted for us: closing would reset them unheard."""
        loop = asyncio.get_running_loop()
        waiting.setblocking(False)  # noqa: FBT003 - the standard library's
        with waiting:
            while True:
                try:
                    client, _ = waiting.accept()
                except ConnectionAbortedError:
                    continue
                except OSError:  # nobody waits, or no more can be held
                    return
                await loop.connect_accepted_socket(lambda: Connection(self._serving, loop), client)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(SWEEP_S, self._serving.limits.request_s / 4.0))
            now = loop.time()
            for connection in tuple(self.connections):
                connection.look_at_the_clock(now)
