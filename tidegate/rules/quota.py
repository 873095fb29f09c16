"""Windows in which uses are counted: of the calendar, or looking back from each use."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from tidegate.quotas import QuotaSpec, read_uses

PARTS: Final = 10
"""A rolling window is counted in parts of a tenth: a use counts for up to a tenth longer than it,
and never for less."""
_BURST_S: Final = 60.0
"""A window of a minute or less bounds a rate, and a longer one an amount."""
_SECONDS: Final = {"second": 1.0, "minute": 60.0, "hour": 3600.0}


class Part(NamedTuple):
    """A stretch of time whose uses are counted as one number."""

    start_ms: int
    """Since the epoch; names the part."""
    end: float
    """In seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Quota:
    """One quota, ready to be counted."""

    name: str
    """Of the window alone, so that uses go on counting when the limit is changed."""
    limit: int
    period_s: float
    unit: str | None
    """The word of the calendar; None for a rolling window."""
    zone: ZoneInfo
    is_open_when_lost: bool
    text: str

    @property
    def is_burst(self) -> bool:
        """Whether it bounds a rate rather than an amount."""
        return self.period_s <= _BURST_S

    @property
    def kept_ms(self) -> int:
        """How long counts are kept: twice as long as needed, for gateways whose clocks differ."""
        return round(self.period_s * 2000.0)

    def part(self, now: float) -> Part:
        """Return the part that `now` is in; seconds since the epoch."""
        if self.unit is not None:
            start, end = _calendar(self.unit, self.zone, now)
            return Part(round(start * 1000.0), end)
        length_s = self.period_s / PARTS
        number = now // length_s
        return Part(round(number * length_s * 1000.0), (number + 1.0) * length_s)

    def counts_from_ms(self, part: Part) -> int:
        """Return the start of the earliest part whose uses count together with this one's."""
        if self.unit is not None:
            return part.start_ms
        # Ten parts before; half a part more, because starts are rounded.
        return part.start_ms - round(self.period_s * 1000.0 * (1.0 + 0.5 / PARTS))

    def counts_until(self, start_ms: int) -> float:
        """Return when the uses of the part that began then count no more."""
        if self.unit is not None:
            return self.part(start_ms / 1000.0).end
        return start_ms / 1000.0 + self.period_s * (1.0 + 1.0 / PARTS)


def compile_quotas(specs: Sequence[QuotaSpec]) -> tuple[Quota, ...]:
    """Make quotas ready to be counted."""
    return tuple(_compile(spec) for spec in specs)


def _compile(spec: QuotaSpec) -> Quota:
    uses = read_uses(spec.uses)
    return Quota(
        name=spec.window_name,
        limit=uses.limit,
        period_s=uses.period.total_seconds(),
        unit=None if spec.is_rolling else uses.unit,
        zone=ZoneInfo(spec.time_zone),
        is_open_when_lost=spec.on_lost == "open",
        text=spec.text,
    )


def _calendar(unit: str, zone: ZoneInfo, now: float) -> tuple[float, float]:
    """Return start and end of the calendar's second, minute, hour, day, week or month at `now`."""
    here = datetime.fromtimestamp(now, zone)
    if unit in _SECONDS:
        length_s = _SECONDS[unit]
        offset_s = (here.utcoffset() or timedelta()).total_seconds()
        start = now - (now + offset_s) % length_s
        return start, start + length_s
    day = here.date()
    match unit:
        case "day":
            days = day, day + timedelta(days=1)
        case "week":
            monday = day - timedelta(days=day.weekday())
            days = monday, monday + timedelta(weeks=1)
        case _:
            first = day.replace(day=1)
            days = first, (first + timedelta(days=31)).replace(day=1)
    # By dates and not by hours: a day is 23 or 25 of them where the clocks change.
    return _midnight(days[0], zone), _midnight(days[1], zone)


def _midnight(day: date, zone: ZoneInfo) -> float:
    return datetime.combine(day, time(), zone).astimezone(UTC).timestamp()
