"""Redis for those who only publish readings: an agent must stay small."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Final, Self, cast

from redis import asyncio as redis_asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tidegate.edges import redis_readings as readings
from tidegate.errors import Unavailable
from tidegate.readings import DemandReading, NodeReading

DEADLINE_S: Final = 2.0
LOST: Final = (RedisError, OSError, TimeoutError)
"""What the client raises when nobody answers."""


class RedisLink:
    """One connection pool; every call has a deadline and raises Unavailable."""

    def __init__(self, url: str, deadline_s: float = DEADLINE_S) -> None:
        self.url = url
        self._levels: dict[str, Mapping[str, int]] = {}
        self.commands = redis_asyncio.Redis.from_url(
            url,
            decode_responses=True,
            # Bytes that are no text must not make a whole page unreadable.
            encoding_errors="replace",
            socket_timeout=deadline_s,
            socket_connect_timeout=deadline_s,
            retry=Retry(NoBackoff(), 1),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        await self.commands.aclose()

    async def ping(self) -> None:
        """Raise Unavailable, with one clear line, when nobody answers."""
        await self.call(self.commands.ping())

    async def publish_reading(self, reading: NodeReading | DemandReading) -> None:
        """Replace what this node or gateway read before."""
        field, levels = readings.field_of(reading), reading.levels
        text, cards = readings.split(reading)
        pipeline = self.commands.pipeline(transaction=True)
        pipeline.hset(readings.READINGS, field, text)
        if cards is not None:
            pipeline.hset(readings.GPUS, field, cards)
        elif isinstance(reading, NodeReading):
            pipeline.hdel(readings.GPUS, field)
        if self._levels.get(field) != levels:
            pipeline.publish(readings.CHANGED, field)
        await self.call(pipeline.execute())
        self._levels[field] = levels

    async def call(self, pending: object) -> object:
        """Await a command of `commands`; raises Unavailable past the deadline."""
        task = asyncio.current_task()
        cancelled = 0 if task is None else task.cancelling()
        try:
            answer = await cast("Awaitable[object]", pending)
        except LOST as error:
            message = (
                f"redis: no answer from {self.url} ({error}). "
                "Start it, or set TIDEGATE_REDIS to where it is."
            )
            raise Unavailable(message, code="redis-unavailable") from error
        # Before Python 3.12 asyncio.wait_for, which the client sends with, may swallow one.
        if task is not None and task.cancelling() > cancelled:
            raise asyncio.CancelledError
        return answer
