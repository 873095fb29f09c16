"""Keeping a waitlist's numbers open, and its marks where they outlive Redis."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from tidegate.edges.record import LaneMark, Record
from tidegate.edges.redis_numbers import NumberBook, Numbers
from tidegate.errors import TidegateError, Unavailable
from tidegate.readings import DemandReading
from tidegate.rules.waitlist import skip_to
from tidegate.snapshot import Lane

SPARE: Final = 10_000
"""Numbers that are open ahead of what was given out; at most so many are skipped after a loss."""
_TICKS_AHEAD: Final = 20
_MARKED_EVERY_S: Final = 10.0
_RECORD_WITHIN_S: Final = 2.0
_RECORD_AGAIN_S: Final = 10.0
"""A record that did not answer is left alone for so long, and those who wait are called on."""

_T = TypeVar("_T")
_log = structlog.get_logger()


class Came:
    """Adds up who came, out of what each gateway counted since it began."""

    def __init__(self) -> None:
        self._counted: dict[tuple[str, float, str, str], int] = {}
        self._known: set[tuple[str, float]] = set()

    def since_last(self, gateways: Sequence[DemandReading]) -> Mapping[tuple[str, str], int]:
        """Return by feature and tier how many came since the last time.

        What a gateway counted before it was first heard of is left out: a loop that starts anew
        cannot know what its predecessor took in.
        """
        counted: dict[tuple[str, float, str, str], int] = {}
        came: dict[tuple[str, str], int] = {}
        for gateway in gateways:
            process = (gateway.gateway, gateway.began_at)
            for feature, lanes in gateway.lanes.items():
                for tier, use in lanes.items():
                    counted[*process, feature, tier] = use.came
                    unheard = 0 if process in self._known else use.came
                    before = self._counted.get((*process, feature, tier), unheard)
                    new = max(0, use.came - before)
                    came[feature, tier] = came.get((feature, tier), 0) + new
        self._counted = counted
        self._known = {(gateway.gateway, gateway.began_at) for gateway in gateways}
        return came


@dataclass
class _Kept:
    mark: LaneMark | None = None
    at: float = float("-inf")
    issued_below: int = 0
    """At the last tick."""


class LaneKeeper:
    """Opens numbers only when it is on record that they may have been given out."""

    def __init__(self, book: NumberBook, record: Record) -> None:
        self._book = book
        self._record = record
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._away_until = float("-inf")
        self._record_is_away = False

    async def keep(
        self, feature: str, tier: str, lane: Lane | None, leased_below: int, now: float
    ) -> Lane | None:
        """Return the lane with what was given out by now, and keep enough numbers open.

        `leased_below` is the highest that any gateway tells. Where Redis forgot the numbers, they
        go on above all that can have been given out. Raises Unavailable without Redis. Without the
        record no more numbers are opened, and the lane moves on all the same; one that nobody
        remembers is None until the record says where it stood.
        """
        found = await self._book.look(feature, tier)
        key, given_out_below = (feature, tier), max(leased_below, found.next)
        if lane is not None:
            issued_below = max(lane.issued_below, given_out_below)
            lane = lane.model_copy(update={"issued_below": issued_below})
        try:
            if lane is None or not found.is_open:
                mark = await self._ask(lambda: self._record.lane_mark(feature, tier))
                lane = _remembered(lane or Lane(), mark, given_out_below)
                if not found.is_open:
                    lane = self._above(key, lane, mark)
            await self._open(key, lane, found)
            await self._mark(key, lane, found, now)
        except TidegateError as error:
            if isinstance(error, Unavailable) and error.code == "redis-unavailable":
                raise
            self._note(error)
        return lane

    def _above(self, key: tuple[str, str], lane: Lane, mark: LaneMark) -> Lane:
        start = mark.reserved_below
        if lane.issued_below and start <= lane.issued_below:
            # The record knows less than was given out: it was replaced, or is an older copy.
            start = lane.issued_below + SPARE
        if start > lane.issued_below:
            _log.warning(
                "waitlist.numbers_skipped",
                feature=key[0],
                tier=key[1],
                first=lane.issued_below,
                below=start,
                reason="Redis forgot which of them were given out",
            )
        return skip_to(lane, start)

    async def _open(self, key: tuple[str, str], lane: Lane, found: Numbers) -> None:
        spare, first = self._spare(key, lane.issued_below), lane.issued_below
        if found.is_open and found.below - first >= spare // 2:
            return
        below = first + spare
        mark = LaneMark(below, first, lane.called_below, lane.gaps)
        await self._ask(lambda: self._record.raise_lane_mark(*key, mark))
        await self._book.open(*key, found, first, below)

    async def _mark(self, key: tuple[str, str], lane: Lane, found: Numbers, now: float) -> None:
        """Keep how far the lane has come, so that little is unknown after a loss of everything."""
        mark = LaneMark(found.below, lane.issued_below, lane.called_below, lane.gaps)
        kept = self._kept.setdefault(key, _Kept())
        kept.issued_below = lane.issued_below
        if mark != kept.mark and not 0.0 <= now - kept.at < _MARKED_EVERY_S:
            await self._ask(lambda: self._record.raise_lane_mark(*key, mark))
            kept.mark, kept.at = mark, now

    def _spare(self, key: tuple[str, str], issued_below: int) -> int:
        kept = self._kept.get(key)
        given_out = 0 if kept is None else issued_below - kept.issued_below
        return max(SPARE, _TICKS_AHEAD * given_out)

    async def _ask(self, asking: Callable[[], Awaitable[_T]]) -> _T:
        loop = asyncio.get_running_loop()
        if loop.time() < self._away_until:
            raise Unavailable("record: it did not answer just now.", code="record-unavailable")
        try:
            async with asyncio.timeout(_RECORD_WITHIN_S):
                answer = await asking()
        except (TimeoutError, TidegateError) as error:
            self._away_until = loop.time() + _RECORD_AGAIN_S
            message = f"record: no answer ({str(error) or 'in time'})."
            raise Unavailable(message, code="record-unavailable") from error
        self._note(None)
        return answer

    def _note(self, error: TidegateError | None) -> None:
        if (error is not None) is not self._record_is_away:
            self._record_is_away = error is not None
            if error is None:
                _log.info("waitlist.numbers_open")
            else:
                _log.warning("waitlist.numbers_held", reason=str(error))


def _remembered(lane: Lane, mark: LaneMark, given_out_below: int) -> Lane:
    """Return a lane as far as anybody knows that it came."""
    issued_below = max(lane.issued_below, mark.issued_below, given_out_below)
    if mark.called_below <= lane.called_below:
        return lane.model_copy(update={"issued_below": issued_below})
    called = lane.model_copy(
        update={
            "issued_below": issued_below,
            "called_below": mark.called_below,
            "gaps": mark.gaps,
        }
    )
    # Those that were called may come for one claim window more, and as nobody knows who came
    # already, none is called in place of another.
    came = called.waiters(called.expired_below, called.called_below)
    return called.model_copy(update={"came": came})
