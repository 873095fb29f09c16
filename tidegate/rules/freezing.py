"""When a stage may open again, by the calendar of freezes."""

from collections.abc import Sequence
from datetime import datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from tidegate.freezes import FreezeSpec

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MOST: Final = 1_000
"""Freezes in a row that are followed; who waits so long asks again."""


def frozen_until(freezes: Sequence[FreezeSpec], at: datetime) -> tuple[datetime, str] | None:
    """Return when the freezes that hold at an instant are over, and why the last holds.

    None where none holds. Freezes that follow one another without a gap count as one. By the clock
    on the wall: an hour that a day skips is over at once, and one that it has twice lasts twice.
    """
    until, reason = at, ""
    for _ in range(_MOST):
        ends = [(end, f.reason) for f in freezes if (end := _end(f, until)) is not None]
        if not ends:
            break
        until, reason = max(ends)
    return (until, reason) if until > at else None


def _end(freeze: FreezeSpec, at: datetime) -> datetime | None:
    """Return when a freeze that holds at an instant ends; None where it does not hold."""
    if freeze.start is not None and freeze.end is not None:
        return freeze.end if freeze.start <= at < freeze.end else None
    zone = ZoneInfo(freeze.time_zone)
    local = at.astimezone(zone)
    if _DAYS[local.weekday()] not in freeze.days:
        return None
    begins = datetime.combine(local.date(), freeze.after, zone)
    if freeze.before is None:
        ends = datetime.combine(local.date() + timedelta(days=1), time(), zone)
    else:
        # The later of the two, where a day has this time twice.
        ends = datetime.combine(local.date(), freeze.before, zone).replace(fold=1)
    # Compared as instants: two of one zone would be compared by the clock on the wall.
    is_on = begins.timestamp() <= at.timestamp() < ends.timestamp()
    return datetime.fromtimestamp(ends.timestamp(), at.tzinfo) if is_on else None
