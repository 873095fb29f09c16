"""Telling what was admitted and refused: one event for each pool and tier, every two seconds."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from gateway.tally import Kind, Tally
from tidegate.edges.outbox import Outbox
from tidegate.errors import Unavailable
from tidegate.rules.outcome import Code

PERIOD_S: Final = 2.0
_COUNTED: Final[Mapping[Code, str]] = {
    Code.ALLOWED: "admitted",
    Code.GATE_SHED: "refused_by_gate",
    Code.NOT_EXPOSED: "not_exposed",
}


class AdmissionTeller:
    """Tells the difference since it last told; a silent tier is not mentioned."""

    def __init__(self, gateway: str, tally: Tally, outbox: Outbox) -> None:
        self._gateway = gateway
        self._tally = tally
        self._outbox = outbox
        self._told: Counter[Kind] = Counter()

    async def run(self) -> None:
        """Tell until cancelled; what cannot be sent waits in the outbox."""
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                await self.tick(datetime.fromtimestamp(time.time(), UTC))
            except Unavailable:
                continue  # the follower tells that Redis is lost

    async def tick(self, now: datetime) -> None:
        """Tell what was counted since the last time."""
        counts = self._tally.counts
        news = counts - self._told
        self._told = counts
        for pool, tier in sorted({(kind.pool, kind.tier) for kind in news}):
            told = {field: news[Kind(pool, tier, code.value)] for code, field in _COUNTED.items()}
            if any(told.values()):
                await self._outbox.tell(
                    "admission.counted",
                    subject=f"pool/{pool}",
                    at=now,
                    gateway=self._gateway,
                    pool=pool,
                    tier=tier,
                    **told,
                )
        await self._outbox.tick(now)
