"""A connection that can be made slow, or to say nothing, without being closed."""

import asyncio
from typing import Self

from embedded.ports import LOOPBACK, free_ports


class Relay:
    """Passes on what it is sent to a port of the loopback, until it is told to hold it back."""

    def __init__(self, to: int) -> None:
        self._to = to
        (self.port,) = free_ports(1)
        self._passes = asyncio.Event()
        self._passes.set()
        self._delay_s = 0.0
        self._passing: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for each in self._passing:
            each.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    def hold(self) -> None:
        """Hold back everything from now on, in both directions."""
        self._passes.clear()

    def let_go(self) -> None:
        """Pass on what was held back, and what comes."""
        self._passes.set()

    def slow_by(self, delay_s: float) -> None:
        """Pass on everything so much later, in each direction."""
        self._delay_s = delay_s

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, away = await asyncio.open_connection(LOOPBACK, self._to)
        for source, sink in ((reader, away), (there, writer)):
            task = asyncio.create_task(self._pass(source, sink))
            self._passing.add(task)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                await self._passes.wait()
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                sink.write(data)
                await sink.drain()
        finally:
            sink.close()
