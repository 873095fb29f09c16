"""The recorder: hears the events, keeps each once, and tells producers what is kept."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from controllers.demand_history import DemandHistory
from tidegate.edges.migrations import migrate
from tidegate.edges.record import Added, Gap, Mark, Record
from tidegate.edges.redis import Heard, Redis

_FROM_THE_START: Final = "0"
_PAGES_A_TICK: Final = 20
_LOOK_AFTER: Final = timedelta(seconds=2)
_READ_AFTER: Final = timedelta(seconds=1)
_EVERYTHING: Final = "/controllers/recorder"
"""Acknowledged beside all sources at once: where it is missing, Redis has lost them."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class OpenGap:
    """Events that are missing below later ones, noticed `since` then; they are sent again."""

    gap: Gap
    since: datetime


class Recorder:
    """Reads the stream into the record; all that it holds itself can be lost."""

    def __init__(self, redis: Redis, record: Record) -> None:
        self._redis = redis
        self._record = record
        self._demand = DemandHistory()
        self._after = _FROM_THE_START
        self._marks: dict[str, Mark] | None = None
        self._gaps: tuple[OpenGap, ...] = ()
        self._looked_at: datetime | None = None
        self._read_at: datetime | None = None
        self.unreadable = 0
        """Entries of the stream that were no events, since the start."""

    def gaps(self) -> tuple[OpenGap, ...]:
        """Return what is missing now, and since when that is known."""
        return self._gaps

    async def tick(self, now: float) -> int:
        """Record what came, acknowledge it, and return how many events were new.

        `now` is in seconds since the epoch. The first tick brings the record's tables up to date.
        Raises Unavailable when Redis or the record is away; nothing is lost by trying again.
        """
        at = datetime.fromtimestamp(now, UTC)
        marks = self._marks
        if marks is None:
            marks = await self._prepare(at)
        await self._look_for_losses(marks, at)
        new = 0
        for _ in range(_PAGES_A_TICK):
            heard = await self._redis.events(after=self._after)
            if heard.after == self._after:
                break
            new += await self._take(heard, marks, at)
            self._after = heard.after
        if new:
            await self._note_gaps(marks, at)
        await self._keep_demand(at)
        return new

    async def wake(self, wait_s: float) -> None:
        """Return as soon as there is something to record, or a little before `wait_s` has passed.

        Before, because a call that is cut off costs its connection.
        """
        await self._redis.events(after=self._after, wait_s=wait_s * 0.9)

    async def _prepare(self, now: datetime) -> dict[str, Mark]:
        await asyncio.to_thread(migrate, self._record.engine)
        marks = await self._record.marks()
        await self._note_gaps(marks, now)
        self._marks = marks
        return marks

    async def _take(self, heard: Heard, marks: dict[str, Mark], now: datetime) -> int:
        added = await self._record.add(heard.events, now)
        self._note(heard, added)
        marks.update(added.marks)
        # Also of sources that told nothing new: they send again because they were not heard.
        await self._redis.acknowledge(_contiguous(marks, added.marks))
        return added.new

    async def _look_for_losses(self, marks: dict[str, Mark], now: datetime) -> None:
        if not _is_due(self._looked_at, _LOOK_AFTER, now):
            return
        last = await self._redis.last_stream_id()
        # After a loss the ids start anew from Redis's clock, which may have been set back.
        if last is None or _order(last) < _order(self._after):
            self._after = _FROM_THE_START
        if await self._redis.acknowledged(_EVERYTHING) is None:
            everything = {**_contiguous(marks, marks), _EVERYTHING: len(marks)}
            await self._redis.acknowledge(everything)
        self._looked_at = now

    async def _note_gaps(self, marks: dict[str, Mark], now: datetime) -> None:
        behind = [source for source, mark in marks.items() if mark.contiguous < mark.highest]
        found = await self._record.gaps(behind) if behind else []
        gaps = [OpenGap(gap, self._since(gap) or now) for gap in found]
        for each in gaps:
            if each.since == now:
                _log.warning("gap.noticed", source=each.gap.source, missing=str(each.gap.missing))
        for source in sorted({each.gap.source for each in self._gaps} - set(behind)):
            _log.info("gap.filled", source=source)
        self._gaps = tuple(gaps)

    def _since(self, gap: Gap) -> datetime | None:
        # What is left of a gap that was filled in part is as old as the whole.
        return next(
            (
                before.since
                for before in self._gaps
                if before.gap.source == gap.source and gap.missing.start in before.gap.missing
            ),
            None,
        )

    async def _keep_demand(self, now: datetime) -> None:
        if not _is_due(self._read_at, _READ_AFTER, now):
            return
        self._read_at = now
        _, gateways = await self._redis.readings(gpus=False)
        await self._record.add_demand(self._demand.hear(gateways, now))

    def _note(self, heard: Heard, added: Added) -> None:
        if unreadable := heard.unreadable + added.unkeepable:
            self.unreadable += len(unreadable)
            _log.error("event.unreadable", entries=unreadable)
        for event_id in added.conflicts:
            _log.error("event.conflict", id=event_id, code="event-conflict")
        if added.unreadable_forecasts:
            _log.error("forecast.unreadable", ids=added.unreadable_forecasts)


def _contiguous(marks: dict[str, Mark], sources: Iterable[str]) -> dict[str, int]:
    return {source: marks[source].contiguous for source in sources}


def _is_due(last: datetime | None, after: timedelta, now: datetime) -> bool:
    # A clock that was set back makes it due as well.
    return last is None or not timedelta(0) <= now - last < after


def _order(stream_id: str) -> tuple[int, int]:
    milliseconds, _, number = stream_id.partition("-")
    return int(milliseconds), int(number or 0)
