"""Measure: hold a stage's check against what the agents read."""

import time

from temporalio import activity

from tidegate.edges.redis import Redis
from tidegate.messages.rollout import Measurement
from tidegate.rules.measures import queue_wait
from tidegate.rules.verdict import judge


class Measure:
    """Reads the pool's engines and judges."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    @activity.defn(name="measure")
    async def measure(self, asked: Measurement) -> str:
        """Return the verdict; readings that are missing make it inconclusive."""
        nodes, _ = await self._redis.readings()
        reading = queue_wait(nodes, asked.pool, now=time.time(), limit_s=asked.limit_s)
        return judge(asked.check, reading)
