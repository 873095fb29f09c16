"""Instants and ranges as people read them, by whatever clock the reader lives by."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from tidegate.snapshot import DateRange

Clock = Callable[[float], datetime]
"""From seconds since the epoch to the date that is shown for it."""

_SECONDS_MATTER_S: Final = 600.0


def local_clock(at: float) -> datetime:
    """Show an instant in this machine's own time zone."""
    return datetime.fromtimestamp(at, UTC).astimezone()


def time_of_day(at: float, clock: Clock) -> str:
    """Write an instant of today to the second: `14:32:05`."""
    return clock(at).strftime("%H:%M:%S")


def moment(at: float, now: float, clock: Clock) -> str:
    """Write an instant as closely as its distance deserves: `14:32:05`, `14:32`, `4 Mar 14:32`."""
    then, today = clock(at), clock(now)
    if abs((then - today).total_seconds()) < _SECONDS_MATTER_S:
        return then.strftime("%H:%M:%S")
    return _day(then, today) + then.strftime("%H:%M")


def stamp(at: float, now: float, clock: Clock) -> str:
    """Write when something happened, for a list: `14:32:05`, or `4 Mar 14:32` on another day."""
    then, today = clock(at), clock(now)
    day = _day(then, today)
    return day + then.strftime("%H:%M" if day else "%H:%M:%S")


def date_range(opens: DateRange | None, now: float, clock: Clock) -> str:
    """Write a forecast as the range it is, or that it is unknown; never "soon"."""
    if opens is None:
        return "date unknown"
    today = clock(now)
    ends = [clock(opens.p50.timestamp()), clock(opens.p90.timestamp())]
    is_near = all(abs((end - today).total_seconds()) < _SECONDS_MATTER_S for end in ends)
    early, late = (end.strftime("%H:%M:%S" if is_near else "%H:%M") for end in ends)
    if ends[0].date() != ends[1].date():
        return f"{_day(ends[0], today)}{early}–{_day(ends[1], today)}{late}"
    return _day(ends[0], today) + (early if early == late else f"{early}–{late}")


def _day(then: datetime, today: datetime) -> str:
    """Name the day, and the year where it is another; nothing for today."""
    if then.date() == today.date():
        return ""
    year = "" if then.year == today.year else f" {then.year}"
    return f"{then.day} {then:%b}{year} "
