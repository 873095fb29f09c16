"""The record as its writer and its readers see it."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final, Self, TypeVar

from sqlalchemy import Connection, Engine, Select, func, select, tuple_

from tidegate.edges.record.engine import insert_into, open_engine, transaction
from tidegate.edges.record.forecasts import Forecast
from tidegate.edges.record.tables import DEMAND_HISTORY, EVENTS, FORECASTS, MARKS
from tidegate.edges.record.urls import shown
from tidegate.edges.record.waitlists import LaneMark, lane_mark, raise_lane_mark
from tidegate.edges.record.writes import Added, Mark, add, read_event
from tidegate.errors import PlanError, Unavailable
from tidegate.events import Event

_DEADLINE_S: Final = 10.0
_AT_ONCE: Final = 4

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Gap:
    """Sequences of a source that are not recorded though a later one is."""

    source: str
    missing: range


@dataclass(frozen=True, slots=True)
class MeanDemand:
    """Mean requests a second of one tier on one pool, over the window that begins `at`."""

    at: datetime
    pool: str
    tier: str
    admitted_rps: float
    refused_rps: float
    not_exposed_rps: float


class Record:
    """One database; every call has a deadline and raises Unavailable, or Broken."""

    def __init__(self, url: str) -> None:
        self.engine: Engine = open_engine(url)
        # Threads of its own: a database that hangs keeps them, and must not keep anybody else's.
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="record")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection that is not in use."""
        self.engine.dispose()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def add(self, events: Sequence[Event], now: datetime) -> Added:
        """Record events, each once, in one transaction that is durable when this returns."""
        return await self._do(lambda connection: add(connection, events, now), writes=True)

    async def marks(self) -> dict[str, Mark]:
        """Return how far each source is recorded."""
        rows = await self._do(lambda connection: connection.execute(select(MARKS)).all())
        return {row.source: Mark(row.contiguous, row.highest) for row in rows}

    async def gaps(self, sources: Collection[str] | None = None) -> list[Gap]:
        """Find, in the events themselves, what is missing below each source's last one."""
        before = func.lag(EVENTS.c.sequence, 1, 0).over(
            partition_by=EVENTS.c.source, order_by=EVENTS.c.sequence
        )
        asked = select(EVENTS.c.source, EVENTS.c.sequence, before.label("before"))
        if sources is not None:
            asked = asked.where(EVENTS.c.source.in_(sorted(sources)))
        steps = asked.subquery()
        jumps = (
            select(steps)
            .where(steps.c.sequence > steps.c.before + 1)
            .order_by(steps.c.source, steps.c.sequence)
        )
        rows = await self._do(lambda connection: connection.execute(jumps).all())
        return [Gap(row.source, range(row.before + 1, row.sequence)) for row in rows]

    async def events(
        self,
        *,
        after_id: str | None = None,
        types: Collection[str] | None = None,
        subject: str | None = None,
        limit: int | None = None,
    ) -> list[Event]:
        """Return events by instant, then source, then sequence.

        `after_id` pages on behind the last event of the page before; it is no way to follow what
        happens, since an event that was under way for long comes in between older ones: follow
        the stream instead. Raises PlanError when no event has that id.
        """
        order = (EVENTS.c.at, EVENTS.c.source, EVENTS.c.sequence)
        query = select(EVENTS).order_by(*order).limit(limit)
        if types is not None:
            query = query.where(EVENTS.c.type.in_(sorted(types)))
        if subject is not None:
            query = query.where(EVENTS.c.subject == subject)

        def read(connection: Connection) -> list[Event]:
            found = query
            if after_id is not None:
                found = query.where(tuple_(*order) > _place(connection, after_id))
            return [read_event(row) for row in connection.execute(found)]

        return await self._do(read)

    async def forecasts(self, *, subject: str | None = None) -> list[Forecast]:
        """Return what was forecast, oldest first."""
        query = select(FORECASTS).order_by(FORECASTS.c.made_at, FORECASTS.c.id)
        if subject is not None:
            query = query.where(FORECASTS.c.subject == subject)
        rows = await self._do(lambda connection: connection.execute(query).all())
        return [Forecast(**row._mapping) for row in rows]  # noqa: SLF001 - as in read_event

    async def add_demand(self, means: Sequence[MeanDemand]) -> None:
        """Keep the means of finished windows; a window that is there already stays as it is."""
        rows = [asdict(each) for each in means]
        if rows:
            await self._do(
                lambda connection: connection.execute(
                    insert_into(connection, DEMAND_HISTORY).on_conflict_do_nothing(), rows
                ),
                writes=True,
            )

    async def demand(self, pool: str, *, since: datetime, until: datetime) -> list[MeanDemand]:
        """Return a pool's means from `since` to before `until`, oldest first."""
        at = DEMAND_HISTORY.c.at
        query: Select[tuple[object, ...]] = (
            select(DEMAND_HISTORY)
            .where(DEMAND_HISTORY.c.pool == pool, at >= since, at < until)
            .order_by(at, DEMAND_HISTORY.c.tier)
        )
        rows = await self._do(lambda connection: connection.execute(query).all())
        return [MeanDemand(**row._mapping) for row in rows]  # noqa: SLF001 - as in read_event

    async def lane_mark(self, feature: str, tier: str) -> LaneMark:
        """Return how far a waitlist's lane may have come; all zero where nobody ever waited."""
        return await self._do(lambda connection: lane_mark(connection, feature, tier))

    async def raise_lane_mark(self, feature: str, tier: str, mark: LaneMark) -> None:
        """Keep a lane's mark, durable when this returns; it only ever rises."""
        await self._do(
            lambda connection: raise_lane_mark(connection, feature, tier, mark), writes=True
        )

    async def _do(self, work: Callable[[Connection], _T], *, writes: bool = False) -> _T:
        def do() -> _T:
            with transaction(self.engine, writes=writes) as connection:
                return work(connection)

        try:
            async with asyncio.timeout(_DEADLINE_S):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, do)
        except TimeoutError as error:
            message = f"record: no answer from {shown(self.engine.url)} within {_DEADLINE_S:.0f} s."
            raise Unavailable(message, code="record-unavailable") from error


def _place(connection: Connection, event_id: str) -> tuple[object, ...]:
    source, _, sequence = event_id.rpartition("/")
    place = connection.execute(
        select(EVENTS.c.at, EVENTS.c.source, EVENTS.c.sequence)
        .where(EVENTS.c.source == source)
        .where(EVENTS.c.sequence == (int(sequence) if sequence.isdecimal() else 0))
    ).one_or_none()
    if place is None:
        expected = 'expected the id of a recorded event, such as "/controllers/gate/1f3c/7"'
        raise PlanError(f"after_id: got {event_id!r}, {expected}.", code="unknown-event")
    return tuple(place)
