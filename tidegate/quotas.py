"""How much one user may use, as people write it: "3 a day", at most 5 in 10 s."""

import re
from datetime import timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from tidegate.quantities import parse_duration
from tidegate.spec import Spec

_UNITS: Final = {
    "second": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}
_USES: Final = re.compile(r"([1-9][0-9]{0,8}) (?:(?:an?|per) ([a-z]+)|in ([0-9a-z.]+))")


class QuotaSpec(Spec):
    """So many uses in a window of time, for each user."""

    uses: str = Field(description='How many, and in what time: "3 a day", "5 an hour", "5 in 10s".')
    window: Literal["calendar", "rolling"] = Field(
        default="calendar",
        description="calendar begins anew at midnight, or at the full hour; rolling looks back.",
    )
    time_zone: str = Field(default="UTC", description="Whose midnight, such as Europe/Berlin.")

    @field_validator("uses")
    @classmethod
    def _readable(cls, uses: str) -> str:
        read_uses(uses)
        return uses

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
    def limit(self) -> int:
        """Uses in one window."""
        return read_uses(self.uses)[0]

    @property
    def period(self) -> timedelta:
        """The length of the window; a calendar day may be an hour longer or shorter."""
        return read_uses(self.uses)[1]


def read_uses(text: str) -> tuple[int, timedelta]:
    """Read "3 a day" or "5 in 10s" as a count and a time; raises ValueError on anything else."""
    expected = 'expected a count and a time. Write it like "3 a day", "5 an hour" or "5 in 10s"'
    match = _USES.fullmatch(text)
    if match is None:
        raise ValueError(expected)
    if match[2] is not None:
        if match[2] not in _UNITS:
            raise ValueError(expected)
        return int(match[1]), _UNITS[match[2]]
    period = parse_duration(match[3])
    if period <= timedelta():
        raise ValueError(expected)
    return int(match[1]), period
