"""Announce: put a workflow's events on the stream, and see them recorded."""

import asyncio
from collections.abc import Sequence
from typing import Final

from temporalio import activity

from tidegate.edges.redis import Redis
from tidegate.errors import Unavailable
from tidegate.events import Event

_LOOKS: Final = 30
_LOOK_EVERY_S: Final = 0.05


class Announce:
    """The durable workflow is the outbox: the act is done once the record has acknowledged."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    @activity.defn(name="announce")
    async def announce(self, events: Sequence[Event]) -> None:
        """Append events and wait for their acknowledgement; raises Unavailable to be retried."""
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
