"""The one reader of Redis behind every view: a tick a second, however many are looking."""

import asyncio
from collections.abc import Callable
from typing import Final

from console.history import History
from tidegate.edges.redis import Redis
from tidegate.errors import Unavailable
from tidegate.events import Event

_FROM_THE_START: Final = "0"
_ROUNDS: Final = 40
"""Reads at most in one tick: a long stream is taken in over several, and each tick ends."""


class Reader:
    """Reads what is published into a history; it never writes and never asks Temporal."""

    def __init__(self, redis: Redis, history: History) -> None:
        self._redis = redis
        self._after = _FROM_THE_START
        self.history = history

    async def tick(self, now: float) -> None:
        """Hear one second, or note that nobody answered and why."""
        try:
            snapshot = await self._redis.snapshot()
            nodes, gateways = await self._redis.readings()
            events, after = await self._new_events()
        except Unavailable as error:
            self.history.miss(now, str(error))
        else:
            self._after = after
            self.history.hear(now, snapshot, nodes, gateways, events)

    async def run(self, clock: Callable[[], float], after_tick: Callable[[], None]) -> None:
        """Tick once a second until cancelled; `clock` gives seconds since the epoch."""
        while True:
            await self.tick(clock())
            after_tick()
            await asyncio.sleep(1.0 - clock() % 1.0)

    async def _new_events(self) -> tuple[list[Event], str]:
        found: list[Event] = []
        after = self._after
        for _ in range(_ROUNDS):
            heard = await self._redis.events(after=after)
            if heard.after == after:
                break
            after = heard.after
            found += heard.events
        return found, after
