"""When somebody said that something would be, a stage open or a place called, and when it was."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import Connection, or_, select, update

from tidegate.edges.record.engine import insert_into
from tidegate.edges.record.tables import EVENTS, FORECASTS, as_utc, is_key
from tidegate.events import Event

_STAGE: Final = ("stage.forecast", "stage.advanced", "stage")
_PLACE: Final = ("waitlist.forecast", "waitlist.called", "place")
_MADE: Final = {made: (came_true, what) for made, came_true, what in (_STAGE, _PLACE)}
_CAME_TRUE: Final = {came_true: what for _, came_true, what in (_STAGE, _PLACE)}
"""Which event makes a forecast, which one says that it came true, and what names what is meant."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """A forecast of an instant: None for a quantile that was unknown, and for "not yet"."""

    id: str
    subject: str
    what: str
    made_at: datetime
    p50: datetime | None
    p90: datetime | None
    came_true_at: datetime | None


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True)

    p50: AwareDatetime | None
    p90: AwareDatetime | None


def keep(connection: Connection, recorded: Iterable[Event]) -> tuple[str, ...]:
    """Keep the forecasts among newly recorded events and close those that came true.

    Returns the ids of forecasts that could not be read. Either event may come first.
    """
    unreadable: list[str] = []
    for event in recorded:
        if event.type in _MADE:
            try:
                told = _Told.model_validate(dict(event.data))
                _make(connection, event, told)
            except (KeyError, ValueError, OverflowError):
                unreadable.append(event.id)
        elif event.type in _CAME_TRUE:
            _close(connection, event)
    return tuple(unreadable)


def _make(connection: Connection, event: Event, told: _Told) -> None:
    came_true, key = _MADE[event.type]
    what = str(event.data[key])
    if not is_key(what):
        raise ValueError(what)
    row = {
        "id": event.id,
        "subject": event.subject,
        "what": what,
        "made_at": event.at,
        "p50": None if told.p50 is None else as_utc(told.p50),
        "p90": None if told.p90 is None else as_utc(told.p90),
        "came_true_at": _came_true_at(connection, event, came_true, (key, what)),
    }
    connection.execute(insert_into(connection, FORECASTS).on_conflict_do_nothing(), row)


def _came_true_at(
    connection: Connection, forecast: Event, came_true: str, what: tuple[str, str]
) -> datetime | None:
    key, name = what
    later = connection.execute(
        select(EVENTS.c.at, EVENTS.c.data)
        .where(EVENTS.c.subject == forecast.subject, EVENTS.c.type == came_true)
        .where(EVENTS.c.at >= forecast.at)
        .order_by(EVENTS.c.at)
    )
    return next((row.at for row in later if str(row.data.get(key)) == name), None)


def _close(connection: Connection, event: Event) -> None:
    what = str(event.data.get(_CAME_TRUE[event.type]))
    if not is_key(what):
        return  # no forecast is kept under such a name
    connection.execute(
        update(FORECASTS)
        .where(FORECASTS.c.subject == event.subject)
        .where(FORECASTS.c.what == what)
        .where(FORECASTS.c.made_at <= event.at)
        .where(or_(FORECASTS.c.came_true_at.is_(None), FORECASTS.c.came_true_at > event.at))
        .values(came_true_at=event.at)
    )
