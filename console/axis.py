"""What every chart shares: the window of time, its axis, and points as ECharts takes them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

from console.history import History
from console.palette import LINE, MUTED
from console.series import Point

Options = dict[str, object]
"""What ECharts draws; points are tuples, which NiceGUI hands on as they are."""

SAMPLES: Final = 240
"""Samples drawn for a series: one a second for four minutes, means beyond."""

_FONT: Final = "Roboto, sans-serif"
"""NiceGUI's own, named: ECharts measures labels and cannot measure what a page inherits."""

_DIGITS: Final = 3
_LEAST_SPAN_S: Final = 60.0
_MINUTES_SUFFICE_S: Final = 900.0


@dataclass(frozen=True, slots=True)
class Window:
    """The span that charts show, in seconds since the epoch.

    ECharts is told to show UTC and given instants moved by `offset_s`, so that browser and page
    agree on this machine's time of day.
    """

    begins_at: float
    ends_at: float
    offset_s: float

    @classmethod
    def of(cls, history: History) -> Self:
        """Show everything kept, and at least a minute."""
        now = history.now
        offset = datetime.fromtimestamp(now, UTC).astimezone().utcoffset()
        return cls(
            begins_at=min(history.began_at(), now - _LEAST_SPAN_S),
            ends_at=now,
            offset_s=offset.total_seconds() if offset else 0.0,
        )

    def shown_ms(self, at: float) -> int:
        """Return an instant as the axis counts it."""
        return int((at + self.offset_s) * 1000)

    def data(self, points: Iterable[Point]) -> tuple[tuple[int, float | None], ...]:
        """Return points as a series' data."""
        shift_ms = self.offset_s * 1000
        return tuple(
            (int(at * 1000 + shift_ms), None if value is None else round(value, _DIGITS))
            for at, value in points
        )

    def axis(self, *, is_labelled: bool = True) -> Options:
        """Return the time axis."""
        is_short = self.ends_at - self.begins_at < _MINUTES_SUFFICE_S
        return {
            "type": "time",
            "min": self.shown_ms(self.begins_at),
            "max": self.shown_ms(self.ends_at),
            "axisLabel": {
                "show": is_labelled,
                "color": MUTED.css,
                "fontSize": 10,
                "hideOverlap": True,
                "formatter": "{HH}:{mm}:{ss}" if is_short else "{HH}:{mm}",
            },
            "axisLine": {"lineStyle": {"color": LINE.css}},
            "axisTick": {"show": False},
            "splitLine": {"show": False},
        }


def base() -> Options:
    """Return what every chart begins with."""
    return {"animation": False, "useUTC": True, "textStyle": {"fontFamily": _FONT}}
