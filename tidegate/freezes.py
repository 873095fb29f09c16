"""When no stage opens: hours of the week, or between two instants."""

import re
from datetime import time
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, field_validator, model_validator

from tidegate.quantities import Instant
from tidegate.spec import Spec

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_TIME: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)(:00)?")


def _time_of_day(value: object) -> object:
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None and not isinstance(value, time):
        raise ValueError('expected a time of day. Write it like "15:00"')
    return time(int(match[1]), int(match[2])) if match else value


TimeOfDay = Annotated[time, BeforeValidator(_time_of_day)]
"""A time of day by the clock on the wall; in files `15:00`."""


class FreezeSpec(Spec):
    """A stretch in which no stage opens: hours of some days each week, or from start to end."""

    reason: str = Field(min_length=1, description="Why; whoever waits is told.")
    days: tuple[Day, ...] = Field(default=(), description="On these days of the week.")
    after: TimeOfDay = Field(default=time(), description="From this time of these days on.")
    before: TimeOfDay | None = Field(
        default=None, description="Until this time of these days; by default all day."
    )
    time_zone: str = Field(default="UTC", description="Whose days, such as Europe/Berlin.")
    start: Instant | None = Field(default=None, description="Or from this instant on.")
    end: Instant | None = Field(default=None, description="Until this one.")

    @field_validator("time_zone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ValueError, OSError, KeyError) as error:
            raise ValueError(
                'expected a time zone of the IANA database. Write it like "Europe/Berlin"'
            ) from error
        return name

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        dated = (self.start is not None) + (self.end is not None)
        if (dated == 0) is not bool(self.days) or dated == 1:
            raise ValueError("expected days, or start and end. Write one of the two")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError("expected an end after the start. Swap the two")
        if self.before is not None and self.before <= self.after:
            raise ValueError("expected before to be later than after. Write two for a night")
        return self


def leaves_no_time(freezes: tuple[FreezeSpec, ...]) -> bool:
    """Say whether whole days leave no day of the week on which a stage could open."""
    whole = {d for f in freezes if f.before is None and f.after == time() for d in f.days}
    return len(whole) == 7  # noqa: PLR2004 - the days of a week
