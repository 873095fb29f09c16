"""Shapes: how demand rises and falls around its mean, as straight lines between knots."""

import math
import random
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

from tidegate.errors import PlanError

_DAY_KNOTS: Final = 96
_MORNING: Final = 0.6
_EVENING: Final = 1.2
_BURST_HEIGHT: Final = (0.15, 0.4)
_BURST_WIDTH: Final = (0.01, 0.03)
"""A burst's standard deviation, as a share of the day's length."""


@dataclass(frozen=True)
class Shape:
    """Relative demand over time: straight lines between knots, level before and after them.

    `times_s` rise strictly, `values` are at least zero; a normalised shape has the mean 1.0.
    Raises PlanError (code `shape`) where that does not hold.
    """

    times_s: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse knots that are no shape."""
        if not self.times_s or len(self.times_s) != len(self.values):
            raise _no_shape(f"{len(self.times_s)} times and {len(self.values)} values", "as many")
        if not all(map(math.isfinite, self.times_s)):
            raise _no_shape("a time that is not finite", "seconds")
        if any(later <= earlier for earlier, later in pairwise(self.times_s)):
            raise _no_shape("times out of order", "times that rise strictly")
        if not all(math.isfinite(value) and value >= 0.0 for value in self.values):
            raise _no_shape("a negative or infinite value", "values of zero or more")
        if not any(self.values):
            raise _no_shape("silence throughout", "a value above zero")

    @classmethod
    def normalised(cls, knots: Iterable[tuple[float, float]]) -> Self:
        """Build a shape from (time in s, any unit) knots, scaled to the mean 1.0 over them."""
        times_s, values = zip(*knots, strict=True)
        raw = cls(times_s, values)
        return cls(times_s, tuple(value / raw.mean for value in values))

    @property
    def mean(self) -> float:
        """The mean from the first knot to the last."""
        span_s = self.times_s[-1] - self.times_s[0]
        if span_s == 0.0:
            return self.values[0]
        knots = zip(self.times_s, self.values, strict=True)
        area = sum((b - a) * (low + high) / 2.0 for (a, low), (b, high) in pairwise(knots))
        return area / span_s

    @property
    def peak(self) -> float:
        """The highest value; lines between knots never pass it."""
        return max(self.values)

    def __call__(self, t_s: float) -> float:
        """Return the relative demand at `t_s`; the first and last values go on outside."""
        after = bisect_right(self.times_s, t_s)
        if after == 0:
            return self.values[0]
        if after == len(self.times_s):
            return self.values[-1]
        start_s, end_s = self.times_s[after - 1], self.times_s[after]
        low, high = self.values[after - 1], self.values[after]
        return low + (high - low) * (t_s - start_s) / (end_s - start_s)


def level() -> Shape:
    """Return the shape of demand that never changes."""
    return Shape((0.0,), (1.0,))


def rising_day(length_s: float, *, seed: int, bursts: int = 4) -> Shape:
    """Return a day that doubles from morning to evening with seeded bursts on it, mean 1.0.

    The base rises along a half cosine; each burst is a bell of 15 to 40 % of the mean.
    """
    draw = random.Random(f"{seed}/day")
    bells = [
        (
            draw.uniform(0.1, 0.9) * length_s,
            draw.uniform(*_BURST_WIDTH) * length_s,
            draw.uniform(*_BURST_HEIGHT),
        )
        for _ in range(bursts)
    ]

    def demand(t_s: float) -> float:
        dawn = (1.0 - math.cos(math.pi * t_s / length_s)) / 2.0
        base = _MORNING + (_EVENING - _MORNING) * dawn
        return base + sum(
            height * math.exp(-(((t_s - centre_s) / width_s) ** 2) / 2.0)
            for centre_s, width_s, height in bells
        )

    times_s = (length_s * knot / _DAY_KNOTS for knot in range(_DAY_KNOTS + 1))
    return Shape.normalised((t_s, demand(t_s)) for t_s in times_s)


def _no_shape(got: str, expected: str) -> PlanError:
    return PlanError(f"shape: got {got}, expected {expected}. Mend the knots.", code="shape")
