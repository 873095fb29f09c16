"""One quantity over time, bounded, with a hole wherever nothing was known."""

from collections import deque
from collections.abc import Sequence
from itertools import groupby
from typing import Final

Point = tuple[float, float | None]
"""When, in seconds since the epoch, and how much; None where nothing was known."""

_POINTS_A_SECOND: Final = 4
"""Readings come once a second; events that change a level may come a little faster."""


class Series:
    """Points in the order of time, none older than `keep_s`.

    A level holds until it changes, so only its changes are kept; a sample stands for its own
    second. The last level before the window is kept, because it still held at the window's start.
    """

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._points: deque[Point] = deque(maxlen=int(keep_s * _POINTS_A_SECOND))

    @property
    def points(self) -> Sequence[Point]:
        """Every point kept, oldest first."""
        return self._points

    @property
    def last(self) -> float | None:
        """The newest value; None where nothing is known."""
        return self._points[-1][1] if self._points else None

    def sample(self, at: float, value: float | None) -> bool:
        """Add what was measured in this second; whether it differs from what was last known."""
        differs = self.last != value
        self._points.append((at, value))
        self._forget_before(at - self._keep_s)
        return differs

    def level(self, at: float, value: float | None) -> bool:
        """Say how high the level is from `at` on, or from its last change if that was later."""
        if self._points and self._points[-1][1] == value:
            return False
        if self._points:
            at = max(at, self._points[-1][0])
        return self.sample(at, value)

    def until(self, now: float) -> tuple[Point, ...]:
        """Return a level's points with one more at `now`, up to where it held."""
        if not self._points or self._points[-1][0] >= now:
            return tuple(self._points)
        return (*self._points, (now, self._points[-1][1]))

    def thinned(self, most: int) -> tuple[Point, ...]:
        """Return at most about `most` samples: means over equal spans, holes kept as holes."""
        points = tuple(self._points)
        if len(points) <= most:
            return points
        span_s = (points[-1][0] - points[0][0]) / most
        start = points[0][0]
        buckets = groupby(points, key=lambda point: int((point[0] - start) / span_s))
        return tuple(_mean_point(tuple(bucket)) for _, bucket in buckets)

    def _forget_before(self, limit: float) -> None:
        while len(self._points) > 1 and self._points[1][0] <= limit:
            self._points.popleft()


def summed(*levels: Sequence[Point]) -> tuple[Point, ...]:
    """Add levels up at every instant where one of them changes; a hole in one is a hole."""
    instants = sorted({at for points in levels for at, _ in points})
    held: list[float | None] = [None] * len(levels)
    places = [0] * len(levels)
    total: list[Point] = []
    for instant in instants:
        for i, points in enumerate(levels):
            while places[i] < len(points) and points[places[i]][0] <= instant:
                held[i] = points[places[i]][1]
                places[i] += 1
        known = [value for value in held if value is not None]
        total.append((instant, sum(known) if len(known) == len(held) else None))
    return tuple(total)


def _mean_point(points: Sequence[Point]) -> Point:
    known = [value for _, value in points if value is not None]
    return points[0][0], sum(known) / len(known) if known else None
