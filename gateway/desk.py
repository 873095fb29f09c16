"""Giving out a waitlist's numbers, from small blocks that were leased to this gateway."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from tidegate.edges.redis_numbers import NumberBook
from tidegate.errors import Unavailable
from tidegate.readings import LaneUse

FRESH_S: Final = 2.0
"""How long a block is given out from: those who come later stand behind who came elsewhere."""
_WITHIN_S: Final = 0.5

Clock = Callable[[], float]


class _Lane:
    __slots__ = ("block", "came", "leased_at", "leased_below", "turn", "waiting")

    def __init__(self) -> None:
        self.block = iter(range(0))
        self.leased_at = float("-inf")
        self.leased_below = 0
        self.came = 0
        self.waiting = 0
        """Who waits for a number, the one who asks for a block included."""
        self.turn = asyncio.Lock()

    def pop(self, now_s: float, from_number: int) -> int | None:
        """Return a number that was not called yet; None where a block is needed."""
        if now_s - self.leased_at > FRESH_S:
            return None
        return next((number for number in self.block if number >= from_number), None)


class Desk:
    """Gives out numbers, and keeps two counts a lane: who waits costs nothing here."""

    def __init__(self, book: NumberBook, clock: Clock) -> None:
        """`clock` is monotonic, in seconds."""
        self._book = book
        self._clock = clock
        self._lanes: dict[tuple[str, str], _Lane] = {}

    async def number(self, feature: str, tier: str, from_number: int) -> int:
        """Return a number that nobody else has, at least `from_number`; raises Unavailable.

        Both names are the catalogue's, so that no caller can make this grow.
        """
        lane = self._lanes.setdefault((feature, tier), _Lane())
        lane.waiting += 1
        try:
            async with asyncio.timeout(_WITHIN_S), lane.turn:
                while (number := lane.pop(self._clock(), from_number)) is None:
                    await self._lease(lane, feature, tier)
                return number
        except TimeoutError as error:
            message = f'waitlist "{feature}": no number within {_WITHIN_S:g} s. Ask again.'
            raise Unavailable(message, code="numbers-closed") from error
        finally:
            lane.waiting -= 1

    def note_arrival(self, feature: str, tier: str) -> None:
        """Count one whose number was called, and who came."""
        self._lanes.setdefault((feature, tier), _Lane()).came += 1

    @property
    def uses(self) -> Mapping[str, Mapping[str, LaneUse]]:
        """What was leased and who came, by feature and tier, since the process began."""
        uses: dict[str, dict[str, LaneUse]] = {}
        for (feature, tier), lane in self._lanes.items():
            use = LaneUse(leased_below=lane.leased_below, came=lane.came)
            uses.setdefault(feature, {})[tier] = use
        return uses

    async def _lease(self, lane: _Lane, feature: str, tier: str) -> None:
        # For all who wait, and no more: what is left over is given to nobody.
        block = await self._book.lease(feature, tier, lane.waiting)
        # A server that forgot its newest leases would grant them again.
        fresh = range(max(block.start, lane.leased_below), block.stop)
        lane.block, lane.leased_at = iter(fresh), self._clock()
        lane.leased_below = max(lane.leased_below, block.stop)
