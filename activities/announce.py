"""Announce: put a workflow's events on the stream, and see them recorded."""

import asyncio
from collections.abc import Sequence
from typing import Final

from temporalio import activity

from tidegate.edges.redis import Redis
from tidegate.errors import Unavailable
from tidegate.events import Event
from tidegate.messages.common import News

_LOOKS: Final = 24
_LOOK_EVERY_S: Final = 0.05
LINGER_S: Final = 0.5
"""What a workflow tells within this after a burst is told by the next act, all at once."""


class Announce:
    """The durable workflow is the outbox: the act is done once the record has acknowledged."""

    def __init__(self, redis: Redis, *, linger_s: float = LINGER_S) -> None:
        """After news of a burst it lingers, so that one act carries all that is told meanwhile."""
        self._redis = redis
        self._linger_s = linger_s

    @activity.defn(name="announce")
    async def announce(self, news: News) -> None:
        """Append events and wait for their acknowledgement; raises Unavailable to be retried."""
        await self._tell(news.events)
        if news.is_burst:
            await asyncio.sleep(self._linger_s)

    async def _tell(self, events: Sequence[Event]) -> None:
        last = events[-1]
        if await self._is_recorded(last):
            return
        await self._redis.append(events)
        for _ in range(_LOOKS):
            await asyncio.sleep(_LOOK_EVERY_S)
            if await self._is_recorded(last):
                return
        message = f"{last.source}: {last.sequence} is not recorded yet; is the recorder running?"
        raise Unavailable(message, code="not-recorded")

    async def _is_recorded(self, event: Event) -> bool:
        recorded = await self._redis.acknowledged(event.source)
        return recorded is not None and recorded >= event.sequence
