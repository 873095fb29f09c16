"""Counting who used which model, and adding it to what Redis counts once a second."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Final

from gateway.tally import MOST_USERS, Tally
from tidegate.edges.redis_use import UseLog, Uses
from tidegate.errors import Unavailable
from tidegate.holding import SnapshotHolder
from tidegate.rules.outcome import Code

PERIOD_S: Final = 1.0


class UseMeter:
    """Adds up uses by model; what cannot be published waits, users up to a bound."""

    def __init__(self, log: UseLog, holder: SnapshotHolder, tally: Tally) -> None:
        self._log = log
        self._holder = holder
        self._tally = tally
        self._users = tally.users
        self._counted = tally.counts
        self._waiting = Uses()

    async def run(self) -> None:
        """Publish each period until cancelled, and then once more."""
        try:
            while True:
                await asyncio.sleep(PERIOD_S)
                await self.tick(time.time())
        finally:
            await self.tick(time.time())

    async def tick(self, now: float) -> None:
        """Add what was used since the last time, under this hour and day in UTC, and publish it.

        It is counted at least once: an answer of Redis that is lost makes it count twice.
        """
        self._gather(datetime.fromtimestamp(now, UTC))
        try:
            await self._log.record(self._waiting, datetime.fromtimestamp(now, UTC))
        except Unavailable:
            return  # the follower tells that Redis is lost
        self._waiting = Uses()

    def _gather(self, at: datetime) -> None:
        counted = self._tally.counts
        for kind, count in (counted - self._counted).items():
            model = self._model(kind.pool)
            if kind.code == Code.ALLOWED.value and model is not None:
                self._waiting.requests[model, kind.tier, at.strftime("%Y-%m-%d/%H")] += count
        self._counted = counted
        seen, dropped = self._users.take()
        day = at.strftime("%Y-%m-%d")
        for (pool, tier, _), users in seen.items():
            model = self._model(pool)
            if model is not None:
                over = self._waiting.add_users((model, tier, day), users, MOST_USERS)
                self._users.dropped += over
        for (pool, tier, _), count in dropped.items():
            model = self._model(pool)
            if model is not None:
                self._waiting.dropped[model, tier, day] += count

    def _model(self, pool: str) -> str | None:
        intent = self._holder.now_held.snapshot.intent
        known = None if intent is None else intent.pools.get(pool)
        return None if known is None else known.model
