"""A bound on what any schedule costs: a linear programme over windows of a minute.

For each window: replicas that serve or drain (R), become ready (u), Free and paid requests that
attain (x, y), those of them that start in the next window (k), and sequences that run at its start
(b). All are means or sums, so that whatever happens inside a window is allowed:

- requests that start: x + y − k + k₋₁ ≤ 60 · capacity · R + b₊₁ − b, and b ≤ slots · (R₋₁ + R)
- k is at most what arrives in a window's last five seconds, the longest wait that attains
- R − R₋₁ ≤ u + u₋₁: whoever becomes ready inside a window counts in its mean in part
- R ≥ u₋₁ + … + u₋₄, because everybody is billed for 300 s once ready
- x and y hold the constraints; an hour in 24 is excused, in parts if that is cheaper

Cost is 60 · Σ R + the cold starts, which cost at least slope · Σ u − offset whatever K is: the list
of draws is one and the same, and its sum over the first K is above that line.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from benchmarks.replay.engine import capacity_rps
from benchmarks.replay.fluid import START_S, Gate
from benchmarks.replay.traces import Day, Floats

WINDOW_S: Final = 60
_HOUR: Final = 60
"""Windows."""
_LATEST_S: Final = 5
_MIN_WINDOWS: Final = 4
_KINDS: Final = 6


@dataclass(frozen=True, slots=True)
class Wanted:
    """Shares that must attain."""

    paid: float
    free: float
    free_hour: float


@dataclass(frozen=True, slots=True)
class Programme:
    """Its solution, by window from the first that is scored."""

    gpu_hours: float
    replicas: Floats
    free_share: Floats
    """Of Free's arrivals that are let in."""


@dataclass(frozen=True, slots=True)
class Plant:
    """What serves: a full replica's rate and slots, the list of cold starts, and the cap."""

    capacity_rps: float
    slots: float
    cold_starts: list[float]
    most: int
    gate: Callable[[], Gate]
    """Makes a new one for each run."""


class _Rows:
    """Inequalities, coefficient by coefficient: Σ value · variable ≤ limit."""

    def __init__(self, windows: int) -> None:
        self._windows = windows
        self.count = 0
        self.limits: list[Floats] = []
        self._parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []

    def each(self, limit: float | Floats, *terms: tuple[int, int, float | Floats]) -> None:
        """Add one inequality a window, of terms (kind, windows later, value)."""
        window = np.arange(self._windows)
        for kind, later, value in terms:
            inside = (window + later >= 0) & (window + later < self._windows)
            at = kind * self._windows + window[inside] + later
            values = np.broadcast_to(value, self._windows)[inside]
            self._parts.append((self.count + window[inside], at, values))
        self.limits.append(np.broadcast_to(limit, self._windows).astype(float))
        self.count += self._windows

    def one(self, limit: float, at: NDArray[Any], values: Floats) -> None:
        """Add a single inequality."""
        self._parts.append((np.full(len(at), self.count), at, values))
        self.limits.append(np.array([limit]))
        self.count += 1

    def matrix(self, columns: int) -> sparse.csr_matrix:
        """Return the coefficients."""
        row, at, value = (np.concatenate(each) for each in zip(*self._parts, strict=True))
        return sparse.csr_matrix((value, (row, at)), shape=(self.count, columns))


_R, _U, _X, _Y, _K, _B = range(_KINDS)


def solve(day: Day, plant: Plant, wanted: Wanted, block: int = 0) -> Programme | None:
    """Solve the programme; None where nothing holds the constraints.

    With a block, Free's ceiling stays for so many windows. It bounds nothing then, but is a plan
    that can be followed: who is refused comes back, and is refused again only by a ceiling that
    has not risen.
    """
    of = _Windows.of(day)
    blocks = -(-of.count // block) if block else 0
    rows = _flow(_capacity_rps(day, of.count), plant)
    _must_hold(rows, wanted, of.free, of.paid, of.hours)
    if block:
        _hold_ceilings(rows, of.free, block, _KINDS * of.count + of.hours)
    slope, offset_s = _line(plant.cold_starts)
    cost = np.zeros(_KINDS * of.count + of.hours + blocks)
    cost[: of.count] = WINDOW_S
    cost[of.count : 2 * of.count] = slope
    found = _minimise(cost, rows, of, plant)
    if found is None:
        return None
    least, x = found
    served = x[_X * of.count : (_X + 1) * of.count]
    share = np.minimum(1.0, served / np.maximum(of.free, 1e-9))
    return Programme((least - offset_s) / 3600.0, x[: of.count], np.asarray(share))


def most_free_served(day: Day, plant: Plant, paid: float) -> float | None:
    """Bound the Free requests a second that attain under the plant's cap, whatever that costs."""
    of = _Windows.of(day)
    rows = _flow(_capacity_rps(day, of.count), plant)
    _must_hold(rows, Wanted(paid, 0.0, 0.0), of.free, of.paid, of.hours)
    gain = np.zeros(_KINDS * of.count + of.hours)
    gain[_X * of.count : (_X + 1) * of.count] = -1.0
    found = _minimise(gain, rows, of, plant)
    return None if found is None else -found[0] / (of.count * WINDOW_S)


@dataclass(frozen=True, slots=True)
class _Windows:
    """What arrives in each window that is scored."""

    free: Floats
    paid: Floats
    last: Floats
    """In its last seconds."""
    count: int
    hours: int

    @classmethod
    def of(cls, day: Day) -> Self:
        """Sum a day's arrivals."""
        count = (day.seconds - START_S) // WINDOW_S
        scored = day.arrivals[:, START_S : START_S + count * WINDOW_S]
        each = scored.reshape(len(scored), count, WINDOW_S)
        last = each[:, :, -_LATEST_S:].sum(axis=(0, 2))
        hours = -(-(count + START_S // WINDOW_S) // _HOUR)
        return cls(each[2].sum(axis=1), each[:2].sum(axis=(0, 2)), last, count, hours)


def _minimise(cost: Floats, rows: _Rows, of: _Windows, plant: Plant) -> tuple[float, Floats] | None:
    slots = np.full(of.count, np.inf)
    shares = np.ones(len(cost) - _KINDS * of.count)
    replicas = np.full(2 * of.count, float(plant.most))
    replicas[of.count] = 0.0  # whoever is ready when scoring begins was booked before
    upper = np.concatenate((replicas, of.free, of.paid, of.last, slots, shares))
    found = linprog(
        cost,
        A_ub=rows.matrix(len(cost)),
        b_ub=np.concatenate(rows.limits),
        bounds=np.column_stack((np.zeros(len(cost)), upper)),
        method="highs-ipm",
    )
    return (float(found.fun), np.asarray(found.x)) if found.success else None


def _capacity_rps(day: Day, windows: int) -> Floats:
    """Return what a full replica serves of each window's requests."""

    def means(tokens: Floats) -> list[float]:
        kept = tokens[START_S : START_S + windows * WINDOW_S]
        by_window: list[float] = kept.reshape(windows, WINDOW_S).mean(axis=1).tolist()
        return by_window

    sizes = zip(means(day.input_tokens), means(day.output_tokens), strict=True)
    return np.array([capacity_rps(*each) for each in sizes])


def _flow(each_rps: Floats, plant: Plant) -> _Rows:
    windows = len(each_rps)
    rows = _Rows(windows)
    # The last window may leave its slots full: nobody starts after it.
    left = np.append(np.zeros(windows - 1), -plant.slots)
    served = ((_R, 0, left - WINDOW_S * each_rps), (_R, -1, left), (_U, 0, left))
    starts = ((_X, 0, 1.0), (_Y, 0, 1.0), (_K, 0, -1.0), (_K, -1, 1.0))
    rows.each(0.0, *starts, *served, (_B, 0, 1.0), (_B, 1, -1.0))
    rows.each(0.0, (_B, 0, 1.0), (_R, 0, -plant.slots), (_R, -1, -plant.slots))
    first_free = np.append([float(plant.most)], np.zeros(windows - 1))
    rows.each(first_free, (_R, 0, 1.0), (_R, -1, -1.0), (_U, 0, -1.0), (_U, -1, -1.0))
    rows.each(0.0, (_R, 0, -1.0), *((_U, -k, 1.0) for k in range(1, _MIN_WINDOWS + 1)))
    return rows


def _must_hold(rows: _Rows, wanted: Wanted, free: Floats, paid: Floats, hours: int) -> None:
    windows = len(free)
    at = np.arange(windows)
    rows.one(-wanted.free * free.sum(), _X * windows + at, -np.ones(windows))
    rows.one(-wanted.paid * paid.sum(), _Y * windows + at, -np.ones(windows))
    hour = (at + START_S // WINDOW_S) // _HOUR
    for each in range(hours):
        inside = at[hour == each]
        needed = wanted.free_hour * free[inside].sum()
        excuse = _KINDS * windows + each
        values = np.append(-np.ones(len(inside)), -needed)
        rows.one(-needed, np.append(_X * windows + inside, excuse), values)
    excuses = _KINDS * windows + np.arange(hours)
    rows.one(float(hours // 24), excuses, np.ones(hours))


def _hold_ceilings(rows: _Rows, free: Floats, block: int, first: int) -> None:
    """Have x = g · free in every window, for one g a block."""
    for window, came in enumerate(free):
        at = np.array([_X * len(free) + window, first + window // block])
        rows.one(0.0, at, np.array([1.0, -came]))
        rows.one(0.0, at, np.array([-1.0, came]))


def _line(cold_starts: list[float]) -> tuple[float, float]:
    """Return slope and offset of a line below the sum of the first K draws, for every K."""
    sums = np.cumsum(cold_starts)
    count = np.arange(1, len(sums) + 1)
    slope = float(np.mean(cold_starts))
    return slope, float(np.max(slope * count - sums))
