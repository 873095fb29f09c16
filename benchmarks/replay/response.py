"""A plan made from what the engine answered: what Free attained in each window, by replicas."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from benchmarks.replay.bound import Plant, Wanted
from benchmarks.replay.fleet import MIN_BILLED_S
from benchmarks.replay.fluid import START_S
from benchmarks.replay.rows import HOUR_S, Rows
from benchmarks.replay.traces import Day, Floats

_SPARE: Final = 0.005
"""Above what an hour must attain: answers are those of other plans."""
_KINDS: Final = 5
_R, _U, _ALL, _V, _X = range(_KINDS)


@dataclass(frozen=True, slots=True)
class Answer:
    """A run: its replicas, and who of Free attained, by second from the first that is scored."""

    replicas: Floats
    attained: Floats


@dataclass(frozen=True, slots=True)
class Prices:
    """How a plan is made: in which windows, and at what price of a removal, in seconds."""

    window_s: int
    removal_s: float


def plan_from(
    day: Day, plant: Plant, wanted: Wanted, answers: Sequence[Answer], prices: Prices
) -> Floats | None:
    """Return the replicas, by second, that should attain what is wanted at the least cost.

    In each window what attains is taken to follow the answers, from one number of replicas to the
    next, and no further; None where that is not enough.
    """
    window_s = prices.window_s
    count = (day.seconds - START_S) // window_s

    def by_window(of_seconds: Floats) -> Floats:
        return of_seconds[: count * window_s].reshape(count, window_s)

    free = by_window(day.arrivals[2, START_S:]).sum(axis=1)
    replicas = np.array([by_window(each.replicas).mean(axis=1) for each in answers])
    served = np.array([by_window(each.attained).sum(axis=1) for each in answers])
    hours = -(-(START_S + count * window_s) // HOUR_S)
    rows = Rows(_KINDS, count, hours)
    _have_replicas(rows, window_s)
    for window in range(count):
        at = np.array([rows.of(_X)[window], rows.of(_R)[window]])
        for slope, first in _hull(replicas[:, window], served[:, window]):
            rows.one(first, at, np.array([1.0, -slope]))
    rows.must_attain(_X, free, (wanted.free, wanted.free_hour + _SPARE), window_s)
    rows.cost(_R, float(window_s))
    rows.cost(_U, float(np.mean(plant.cold_starts)))
    rows.cost(_V, prices.removal_s)
    least, most = np.zeros(rows.columns), np.full(rows.columns, np.inf)
    least[rows.of(_R)], most[rows.of(_R)] = replicas.min(axis=0), replicas.max(axis=0)
    most[rows.of(_X)] = served.max(axis=0)
    most[_KINDS * count :] = 1.0
    found = rows.minimise(least, most)
    if found is None:
        return None
    plan = np.repeat(found[1][rows.of(_R)], window_s)
    return np.pad(plan, (0, day.seconds - START_S - len(plan)), mode="edge")


def _have_replicas(rows: Rows, window_s: int) -> None:
    later = np.append([0.0], np.ones(rows.windows - 1))
    rows.each(0.0, (_R, 0, later), (_R, -1, -1.0), (_U, 0, -later), (_V, 0, later), equal=True)
    rows.each(0.0, (_ALL, 0, 1.0), (_ALL, -1, -1.0), (_U, 0, -1.0), equal=True)
    least = int(MIN_BILLED_S) // window_s
    rows.each(0.0, (_ALL, 0, 1.0), (_ALL, -least, -1.0), (_R, 0, -1.0))


def _hull(replicas: Floats, served: Floats) -> Iterator[tuple[float, float]]:
    """Yield slope and offset of the lines above the points, from each corner to the next."""
    corners: list[tuple[float, float]] = []
    for at, value in sorted(zip(replicas.tolist(), served.tolist(), strict=True)):
        while len(corners) > 1 and _is_below(corners[-2], corners[-1], (at, value)):
            corners.pop()
        if corners and at == corners[-1][0]:
            corners[-1] = (at, value)
        else:
            corners.append((at, value))
    for (at, value), (next_at, next_value) in pairwise(corners):
        slope = max(0.0, (next_value - value) / (next_at - at))
        yield slope, value - slope * at


def _is_below(
    first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float]
) -> bool:
    """Tell whether a point is not above the line from the one before it to the one after it."""
    rise = (middle[1] - first[1]) * (last[0] - first[0])
    return rise <= (last[1] - first[1]) * (middle[0] - first[0])
