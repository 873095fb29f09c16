"""Counting who used which model, and publishing this process's share of a day's use."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Final

from gateway.tally import Tally
from tidegate.edges.redis_use import DayOfUse, UseLog, union
from tidegate.errors import Unavailable
from tidegate.holding import SnapshotHolder
from tidegate.rules.outcome import Code

PERIOD_S: Final = 5.0


class UseMeter:
    """Publishes what this process saw of the day, whole each time: nothing is counted twice.

    A day that ends while Redis is away is published when it is back, and the one before it is
    forgotten, so that an absence of any length costs no more memory.
    """

    def __init__(self, log: UseLog, holder: SnapshotHolder, tally: Tally) -> None:
        self._log = log
        self._holder = holder
        self._tally = tally
        self._counted = tally.counts
        self._today = DayOfUse("")
        self._yesterday: DayOfUse | None = None

    async def run(self) -> None:
        """Publish each period until cancelled, and then once more."""
        try:
            while True:
                await asyncio.sleep(PERIOD_S)
                await self.tick(time.time())
        finally:
            await self.tick(time.time())

    async def tick(self, now: float) -> None:
        """Publish what was used; what came since the last time counts for that time's day."""
        at = datetime.fromtimestamp(now, UTC)
        day = f"{at:%F}"
        if not self._today.day:
            self._today = DayOfUse(day)
        self._gather(f"{at:%H}" if day == self._today.day else "23")
        if day != self._today.day:
            self._yesterday, self._today = self._today, DayOfUse(day)
            self._tally.users.begin_day()
        try:
            if self._yesterday is not None:
                await self._log.record(self._yesterday)
                self._yesterday = None
            await self._log.record(self._today)
        except Unavailable:
            return  # the follower tells that Redis is lost

    def _gather(self, hour: str) -> None:
        today, counted = self._today, self._tally.counts
        for kind, count in (counted - self._counted).items():
            model = self._model(kind.pool)
            if kind.code == Code.ALLOWED.value and model is not None:
                today.requests[model, kind.tier, hour] += count
                today.changed.add((model, kind.tier))
        self._counted = counted
        for model, tier in today.changed:
            today.users[model, tier] = union(
                sketch
                for (pool, of_tier, _), sketch in self._tally.users.sketches.items()
                if of_tier == tier and self._model(pool) == model
            )

    def _model(self, pool: str) -> str | None:
        intent = self._holder.now_held.snapshot.intent
        known = None if intent is None else intent.pools.get(pool)
        return None if known is None else known.model
