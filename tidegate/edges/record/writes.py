"""Putting events into the record, each once."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, select, tuple_

from tidegate.edges.record import forecasts
from tidegate.edges.record.engine import insert_into
from tidegate.edges.record.tables import CONFLICTS, EVENTS, MARKS, as_utc, is_key
from tidegate.events import Event

_SEQUENCE_BELOW = 2**63


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a source is recorded: without a gap up to `contiguous`, with gaps to `highest`."""

    contiguous: int
    highest: int


@dataclass(frozen=True, slots=True)
class Added:
    """What became of some events: `marks` names the sources of all of them.

    `conflicts` and `unkeepable` name ids; a conflict is named the first time that it is seen.
    """

    new: int
    marks: Mapping[str, Mark]
    conflicts: tuple[str, ...] = ()
    unkeepable: tuple[str, ...] = ()
    unreadable_forecasts: tuple[str, ...] = ()


def add(connection: Connection, events: Sequence[Event], now: datetime) -> Added:
    """Record what is not recorded yet and move the marks, all in the caller's transaction."""
    kept, unkeepable = _keepable(events)
    first = {(each.source, each.sequence): each for each in reversed(kept)}
    new = _insert(connection, first, now)
    stored = _stored(connection, first.keys() - new.keys()) | new
    differing = [each for each in kept if stored[each.source, each.sequence] != each]
    return Added(
        new=len(new),
        marks=_move_marks(connection, {each.source for each in kept}, new.keys()),
        conflicts=_keep_conflicts(connection, differing, now),
        unkeepable=unkeepable,
        unreadable_forecasts=forecasts.keep(connection, new.values()),
    )


def read_event(row: Row[tuple[object, ...]]) -> Event:
    """Return the event of a row of its table."""
    fields = row._mapping  # noqa: SLF001 - public in SQLAlchemy, named so to leave room for columns
    return Event.model_validate({name: fields[name] for name in Event.model_fields})


def _keepable(events: Iterable[Event]) -> tuple[list[Event], tuple[str, ...]]:
    kept: list[Event] = []
    unkeepable: list[str] = []
    for event in events:
        try:
            json.dumps(dict(event.data), allow_nan=False)
            at = as_utc(event.at)
            named = all(is_key(text) for text in (event.source, event.type, event.subject))
        except (ValueError, OverflowError):
            unkeepable.append(event.id)
            continue
        if named and event.sequence < _SEQUENCE_BELOW:
            kept.append(event.model_copy(update={"at": at}))
        else:
            unkeepable.append(event.id)
    return kept, tuple(unkeepable)


def _insert(
    connection: Connection, events: Mapping[tuple[str, int], Event], now: datetime
) -> dict[tuple[str, int], Event]:
    if not events:
        return {}
    rows = [{**each.model_dump(), "recorded_at": now} for each in events.values()]
    statement = insert_into(connection, EVENTS).on_conflict_do_nothing()
    returned = connection.execute(statement.returning(EVENTS.c.source, EVENTS.c.sequence), rows)
    return {(source, sequence): events[source, sequence] for source, sequence in returned}


def _stored(connection: Connection, ids: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Event]:
    key = tuple_(EVENTS.c.source, EVENTS.c.sequence)
    rows = connection.execute(select(EVENTS).where(key.in_(sorted(ids))))
    return {(row.source, row.sequence): read_event(row) for row in rows}


def _keep_conflicts(
    connection: Connection, events: Iterable[Event], now: datetime
) -> tuple[str, ...]:
    rows: dict[str, dict[str, object]] = {}
    for event in events:
        text = event.model_dump_json()
        digest = hashlib.sha256(text.encode()).hexdigest()
        given = {"source": event.source, "sequence": event.sequence, "digest": digest}
        rows[digest] = {**given, "event": text, "recorded_at": now}
    if not rows:
        return ()
    statement = insert_into(connection, CONFLICTS).on_conflict_do_nothing()
    returned = connection.execute(
        statement.returning(CONFLICTS.c.source, CONFLICTS.c.sequence), list(rows.values())
    )
    return tuple(f"{source}/{sequence}" for source, sequence in returned)


def _move_marks(
    connection: Connection, sources: Iterable[str], new: Iterable[tuple[str, int]]
) -> dict[str, Mark]:
    found = connection.execute(select(MARKS).where(MARKS.c.source.in_(sorted(sources))))
    marks = {row.source: Mark(row.contiguous, row.highest) for row in found}
    arrived: dict[str, set[int]] = {}
    for source, sequence in new:
        arrived.setdefault(source, set()).add(sequence)
    for source, sequences in arrived.items():
        marks[source] = _moved(connection, source, marks.get(source, Mark(0, 0)), sequences)
        row = {"contiguous": marks[source].contiguous, "highest": marks[source].highest}
        statement = insert_into(connection, MARKS).values(source=source, **row)
        connection.execute(
            statement.on_conflict_do_update(index_elements=[MARKS.c.source], set_=row)
        )
    return marks


def _moved(connection: Connection, source: str, mark: Mark, arrived: set[int]) -> Mark:
    contiguous = mark.contiguous
    if contiguous + 1 in arrived:
        behind = connection.scalars(
            select(EVENTS.c.sequence)
            .where(EVENTS.c.source == source, EVENTS.c.sequence > contiguous)
            .order_by(EVENTS.c.sequence)
        )
        for sequence in behind:
            if sequence != contiguous + 1:
                break
            contiguous = sequence
    return Mark(contiguous, max(mark.highest, *arrived))
