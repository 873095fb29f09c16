"""Telling what was admitted and refused: one event for each pool and tier, every two seconds."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import structlog

from gateway.tally import Kind, Tally
from tidegate.edges.outbox import Outbox
from tidegate.errors import Broken, TidegateError
from tidegate.rules.outcome import Code

_log = structlog.get_logger(__name__)

PERIOD_S: Final = 2.0
_COUNTED: Final[Mapping[Code, str]] = {
    Code.ALLOWED: "admitted",
    Code.GATE_SHED: "refused_by_gate",
    Code.NOT_EXPOSED: "not_exposed",
}


class AdmissionTeller:
    """Tells the difference since it last told; a silent tier is not mentioned.

    `open_outbox` is called where there is none, and again after one failed: so a file that is
    mended or moved away is used from then on, and until then what is counted waits in the tally.
    """

    def __init__(self, gateway: str, tally: Tally, open_outbox: Callable[[], Outbox]) -> None:
        self._gateway = gateway
        self._tally = tally
        self._open_outbox = open_outbox
        self._outbox: Outbox | None = None
        self._told: Counter[Kind] = Counter()
        self._is_told = True

    async def run(self) -> None:
        """Tell until cancelled, and then once more; what cannot be sent waits in the outbox."""
        try:
            while True:
                await asyncio.sleep(PERIOD_S)
                await self._try_to_tell()
        finally:
            await self._try_to_tell()
            self._close()

    async def tick(self, now: datetime) -> None:
        """Tell what was counted since the last time.

        Raises Broken when the outbox cannot be used; what was not told then is told later.
        """
        try:
            await self._tell(now)
        except Broken:
            self._close()
            raise

    async def _tell(self, now: datetime) -> None:
        if self._outbox is None:
            self._outbox = await asyncio.to_thread(self._open_outbox)
        news = self._tally.counts - self._told
        for pool, tier in sorted({(kind.pool, kind.tier) for kind in news}):
            kinds = {Kind(pool, tier, code.value): field for code, field in _COUNTED.items()}
            told = {field: news[kind] for kind, field in kinds.items()}
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
                self._told.update({kind: news[kind] for kind in kinds})
        await self._outbox.tick(now)

    async def _try_to_tell(self) -> None:
        try:
            await self.tick(datetime.fromtimestamp(time.time(), UTC))
        except TidegateError as error:
            if self._is_told:
                then = "requests are answered, and what is counted waits"
                _log.error("admissions.untold", reason=str(error), then=then)
            self._is_told = False
        else:
            if not self._is_told:
                _log.info("admissions.told_again")
            self._is_told = True

    def _close(self) -> None:
        outbox, self._outbox = self._outbox, None
        if outbox is not None:
            with contextlib.suppress(Broken):
                outbox.close()
