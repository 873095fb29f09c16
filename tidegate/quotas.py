"""How much one user may use, as people write it: "3 images a day", "5 in 10s"."""

import re
from datetime import timedelta
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationInfo, field_validator

from tidegate.quantities import format_duration, parse_duration
from tidegate.spec import Spec

_UNITS: Final = {
    "second": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "month": timedelta(days=31),
}
_ZONED: Final = frozenset({"day", "week", "month"})
"""Begin at a midnight: whose, people want to be told."""
_USES: Final = re.compile(
    r"(?P<limit>[1-9][0-9]{0,8})(?: [a-z-]+)?? "
    r"(?:(?:an?|per) (?P<unit>[a-z]+)|in (?P<time>[0-9a-z.]+))"
)
_SHORTEST: Final = timedelta(seconds=1)
_EXPECTED: Final = (
    'expected a count and a time. Write it like "3 a day", "3 images a day" or "5 in 10s"'
)


class Uses(NamedTuple):
    """How many, in what time; `unit` is the word of the calendar, None for any other time."""

    limit: int
    period: timedelta
    """Of a month, the longest there is."""
    unit: str | None


class QuotaSpec(Spec):
    """So many uses in a window of time, for each user."""

    uses: str = Field(description='How many, and in what time: "3 images a day", "5 in 10s".')
    window: Literal["calendar", "rolling"] | None = Field(
        default=None,
        description="calendar begins anew at midnight or the full hour; rolling looks back. "
        "By default calendar, and rolling for a time that the calendar has no word for.",
    )
    time_zone: str = Field(default="UTC", description="Whose midnight, such as Europe/Berlin.")
    on_lost: Literal["open", "close"] = Field(
        default="open", description="What a gateway does while it cannot ask what was used."
    )

    @field_validator("uses")
    @classmethod
    def _readable(cls, uses: str) -> str:
        read_uses(uses)
        return uses

    @field_validator("window")
    @classmethod
    def _there_is_such_a_window(cls, window: str | None, info: ValidationInfo) -> str | None:
        if window is None or "uses" not in info.data:
            return window
        uses = read_uses(info.data["uses"])
        if window == "calendar" and uses.unit is None:
            raise ValueError(
                "expected rolling, because the calendar has no word for "
                f'{format_duration(uses.period)}. Drop it, or write uses like "3 a day"'
            )
        if window == "rolling" and uses.unit == "month":
            raise ValueError(
                "expected calendar, because months are not of one length. "
                f'Drop it, or write uses like "{uses.limit} in 30d"'
            )
        return window

    @field_validator("time_zone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(
                'expected a time zone of the IANA database. Write it like "Europe/Berlin"'
            ) from error
        return name

    @property
    def is_rolling(self) -> bool:
        """Whether the window looks back from each use."""
        return self.window == "rolling" or read_uses(self.uses).unit is None

    @property
    def window_name(self) -> str:
        """Name the window that uses are counted in, whatever its limit: "day@UTC", "10s"."""
        uses = read_uses(self.uses)
        if self.is_rolling or uses.unit is None:
            return format_duration(uses.period)
        return f"{uses.unit}@{self.time_zone}"

    @property
    def text(self) -> str:
        """Say it to people, with what they would have to ask about otherwise."""
        unit = read_uses(self.uses).unit
        if self.window == "rolling" and unit is not None:
            return f"{self.uses}, rolling"
        return f"{self.uses}, {self.time_zone}" if unit in _ZONED else self.uses


def read_uses(text: str) -> Uses:
    """Read "3 a day", "3 images a day" or "5 in 10s"; raises ValueError on anything else."""
    match = _USES.fullmatch(text)
    if match is None:
        raise ValueError(_EXPECTED)
    limit, unit = int(match["limit"]), match["unit"]
    if unit is not None:
        if unit not in _UNITS:
            words = ", ".join(_UNITS)
            raise ValueError(f'expected one of {words} after "a". Write it like "3 a day"')
        return Uses(limit, _UNITS[unit], unit)
    period = parse_duration(match["time"])
    if period < _SHORTEST:
        raise ValueError('expected a time of at least 1s. Write it like "5 in 10s"')
    return Uses(limit, period, None)
