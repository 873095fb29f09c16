"""When somebody said that a stage would open, and when it did."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError
from sqlalchemy import Connection, or_, select, update

from tidegate.edges.record.engine import insert_into
from tidegate.edges.record.tables import EVENTS, FORECASTS
from tidegate.events import Event

MADE: Final = "stage.forecast"
CAME_TRUE: Final = "stage.advanced"


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

    stage: str
    p50: AwareDatetime | None
    p90: AwareDatetime | None


def keep(connection: Connection, recorded: Iterable[Event]) -> tuple[str, ...]:
    """Keep the forecasts among newly recorded events and close those that came true.

    Returns the ids of forecasts that could not be read. Either event may come first.
    """
    unreadable: list[str] = []
    for event in recorded:
        if event.type == MADE:
            try:
                told = _Told.model_validate(dict(event.data))
            except ValidationError:
                unreadable.append(event.id)
                continue
            _make(connection, event, told)
        elif event.type == CAME_TRUE:
            _close(connection, event)
    return tuple(unreadable)


def _make(connection: Connection, event: Event, told: _Told) -> None:
    row = {
        "id": event.id,
        "subject": event.subject,
        "what": told.stage,
        "made_at": event.at,
        "p50": told.p50,
        "p90": told.p90,
        "came_true_at": _came_true_at(connection, event, told.stage),
    }
    connection.execute(insert_into(connection, FORECASTS).on_conflict_do_nothing(), row)


def _came_true_at(connection: Connection, forecast: Event, stage: str) -> datetime | None:
    advances = connection.execute(
        select(EVENTS.c.at, EVENTS.c.data)
        .where(EVENTS.c.subject == forecast.subject, EVENTS.c.type == CAME_TRUE)
        .where(EVENTS.c.at >= forecast.at)
        .order_by(EVENTS.c.at)
    )
    return next((row.at for row in advances if row.data.get("stage") == stage), None)


def _close(connection: Connection, advance: Event) -> None:
    connection.execute(
        update(FORECASTS)
        .where(FORECASTS.c.subject == advance.subject)
        .where(FORECASTS.c.what == str(advance.data.get("stage")))
        .where(FORECASTS.c.made_at <= advance.at)
        .where(or_(FORECASTS.c.came_true_at.is_(None), FORECASTS.c.came_true_at > advance.at))
        .values(came_true_at=advance.at)
    )
