"""Keeping a waitlist's numbers open, and its marks where they outlive Redis."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from tidegate.edges.record import LaneMark, Record
from tidegate.edges.redis_numbers import NumberBook, Numbers
from tidegate.errors import Unavailable
from tidegate.readings import DemandReading
from tidegate.rules.waitlist import skip_to
from tidegate.snapshot import Lane

SPARE: Final = 10_000
"""Numbers that are open ahead of what was given out; at most so many are skipped after a loss."""
_TICKS_AHEAD: Final = 20
_MARKED_EVERY_S: Final = 10.0
_RECORD_WITHIN_S: Final = 2.0

_T = TypeVar("_T")
_log = structlog.get_logger()


class Came:
    """Adds up who came, out of what each gateway counted since it began."""

    def __init__(self) -> None:
        self._counted: dict[tuple[str, float, str, str], int] = {}

    def since_last(self, gateways: Sequence[DemandReading]) -> Mapping[tuple[str, str], int]:
        """Return by feature and tier how many came since the last time.

        What a gateway counted before it was first heard of is left out: a loop that starts anew
        cannot know what its predecessor took in.
        """
        counted = {
            (gateway.gateway, gateway.began_at, feature, tier): use.came
            for gateway in gateways
            for feature, lanes in gateway.lanes.items()
            for tier, use in lanes.items()
        }
        came: dict[tuple[str, str], int] = {}
        for key, count in counted.items():
            new = max(0, count - self._counted.get(key, count))
            came[key[2], key[3]] = came.get((key[2], key[3]), 0) + new
        self._counted = counted
        return came


@dataclass
class _Kept:
    mark: LaneMark
    at: float
    issued_below: int
    """At the last tick."""


class LaneKeeper:
    """Opens numbers only when it is on record that they may have been given out."""

    def __init__(self, book: NumberBook, record: Record) -> None:
        self._book = book
        self._record = record
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._record_is_away = False

    async def keep(
        self, feature: str, tier: str, lane: Lane, leased_below: int, now: float
    ) -> Lane:
        """Return the lane with what was given out by now, and keep enough numbers open.

        `leased_below` is the highest that any gateway tells. Where Redis forgot the numbers, they
        go on above all that can have been given out. Raises Unavailable without Redis; without
        the record no more numbers are opened, and the lane moves on all the same.
        """
        open_now = await self._book.look(feature, tier)
        issued_below = max(lane.issued_below, leased_below, open_now.next if open_now else 0)
        lane = lane.model_copy(update={"issued_below": issued_below})
        try:
            if open_now is None:
                lane = await self._open_anew(feature, tier, lane)
            elif open_now.below - issued_below < self._spare(feature, tier, issued_below) // 2:
                await self._open(feature, tier, lane)
            await self._mark(feature, tier, lane, now)
        except Unavailable as error:
            if error.code != "record-unavailable":
                raise
            self._note(error)
        return lane

    async def _open_anew(self, feature: str, tier: str, lane: Lane) -> Lane:
        mark = await self._within(self._record.lane_mark(feature, tier))
        forgotten = mark.called_below > lane.called_below
        known = lane.model_copy(
            update={
                "issued_below": max(lane.issued_below, mark.issued_below),
                "called_below": max(lane.called_below, mark.called_below),
                # Those that were called may come for one claim window more, and as nobody knows
                # who came already, none is called in place of another.
                "came": mark.called_below if forgotten else lane.came,
            }
        )
        if mark.reserved_below > known.issued_below:
            _log.warning(
                "waitlist.numbers_skipped",
                feature=feature,
                tier=tier,
                first=known.issued_below,
                below=mark.reserved_below,
                reason="Redis forgot which of them were given out",
            )
        lane = skip_to(known, mark.reserved_below)
        await self._open(feature, tier, lane)
        return lane

    async def _open(self, feature: str, tier: str, lane: Lane) -> Numbers:
        first = lane.issued_below
        below = first + self._spare(feature, tier, first)
        mark = LaneMark(below, first, lane.called_below)
        await self._within(self._record.raise_lane_mark(feature, tier, mark))
        return await self._book.open(feature, tier, first, below)

    async def _mark(self, feature: str, tier: str, lane: Lane, now: float) -> None:
        """Keep how far the lane has come, so that little is unknown after a loss of everything."""
        mark = LaneMark(0, lane.issued_below, lane.called_below)
        kept = self._kept.setdefault((feature, tier), _Kept(mark, now, lane.issued_below))
        kept.issued_below = lane.issued_below
        if mark != kept.mark and not 0.0 <= now - kept.at < _MARKED_EVERY_S:
            await self._within(self._record.raise_lane_mark(feature, tier, mark))
            kept.mark, kept.at = mark, now

    def _spare(self, feature: str, tier: str, issued_below: int) -> int:
        kept = self._kept.get((feature, tier))
        given_out = 0 if kept is None else issued_below - kept.issued_below
        return max(SPARE, _TICKS_AHEAD * given_out)

    async def _within(self, recording: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout(_RECORD_WITHIN_S):
                recorded = await recording
        except TimeoutError as error:
            message = f"record: no answer within {_RECORD_WITHIN_S:g} s."
            raise Unavailable(message, code="record-unavailable") from error
        self._note(None)
        return recorded

    def _note(self, error: Unavailable | None) -> None:
        if (error is not None) is not self._record_is_away:
            self._record_is_away = error is not None
            if error is None:
                _log.info("waitlist.numbers_open")
            else:
                _log.warning("waitlist.numbers_held", reason=str(error))
