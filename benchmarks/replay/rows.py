"""The rows of a linear programme over windows, coefficient by coefficient."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from benchmarks.replay.fluid import START_S
from benchmarks.replay.traces import Floats

HOUR_S: Final = 3600
_Term = tuple[int, int, float | Floats]
"""Kind of variable, how many windows later, and its coefficient."""


class Rows:
    """Inequalities and equations, coefficient by coefficient; and what is minimised."""

    def __init__(self, kinds: int, windows: int, others: int) -> None:
        self.windows = windows
        self.others_at = kinds * windows
        self.columns = kinds * windows + others
        self.costs = np.zeros(self.columns)
        self._count = 0
        self._limits: list[Floats] = []
        self._equal: list[NDArray[np.bool_]] = []
        self._parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []

    def cost(self, kind: int, each: float | Floats) -> None:
        """Price a kind of variable."""
        self.costs[self.of(kind)] = each

    def of(self, kind: int) -> NDArray[Any]:
        """Return a kind's columns."""
        return kind * self.windows + np.arange(self.windows)

    def each(self, limit: float | Floats, *terms: _Term, equal: bool = False) -> None:
        """Add one row a window: Σ value · variable ≤ limit, or = limit.

        What would be before the first window counts as nothing, and so does what would be after
        the last.
        """
        window = np.arange(self.windows)
        for kind, later, value in terms:
            inside = (window + later >= 0) & (window + later < self.windows)
            values = np.broadcast_to(value, self.windows)[inside]
            at = kind * self.windows + window[inside] + later
            self._parts.append((self._count + window[inside], at, values))
        self._limits.append(np.broadcast_to(limit, self.windows).astype(float))
        self._equal.append(np.full(self.windows, equal))
        self._count += self.windows

    def one(self, limit: float, at: NDArray[Any], values: Floats) -> None:
        """Add a single inequality."""
        self._parts.append((np.full(len(at), self._count), at, values))
        self._limits.append(np.array([limit]))
        self._equal.append(np.array([False]))
        self._count += 1

    def must_attain(
        self, kind: int, came: Floats, wanted: tuple[float, float], window_s: int
    ) -> None:
        """Have a share of all attain, and in each hour another; one in 24 is excused.

        The first of the other variables, one an hour, are the parts in which they are excused.
        """
        overall, hourly = wanted
        self.one(-overall * came.sum(), self.of(kind), -np.ones(self.windows))
        hour = (START_S + np.arange(self.windows) * window_s) // HOUR_S
        hours = int(hour[-1]) + 1
        for each in range(hours):
            inside = np.flatnonzero(hour == each)
            needed = hourly * came[inside].sum()
            at = np.append(self.of(kind)[inside], self.others_at + each)
            self.one(-needed, at, np.append(-np.ones(len(inside)), -needed))
        self.one(float(hours // 24), self.others_at + np.arange(hours), np.ones(hours))

    def minimise(self, least: Floats, most: Floats) -> tuple[float, Floats] | None:
        """Find the least cost with every variable between its limits."""
        row, at, value = (np.concatenate(each) for each in zip(*self._parts, strict=True))
        matrix = sparse.csr_matrix((value, (row, at)), shape=(self._count, self.columns))
        limits, equal = np.concatenate(self._limits), np.concatenate(self._equal)
        found = linprog(
            self.costs,
            A_ub=matrix[~equal],
            b_ub=limits[~equal],
            A_eq=matrix[equal],
            b_eq=limits[equal],
            bounds=np.column_stack((least, most)),
            method="highs-ipm",
        )
        return (float(found.fun), np.asarray(found.x)) if found.success else None
