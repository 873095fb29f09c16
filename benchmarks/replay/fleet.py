"""The replicas of the pool: booked, loading, ready, draining, and what each is billed."""

import heapq
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from benchmarks.replay.engine import DRAIN_S

MIN_BILLED_S: Final = 300.0
"""A replica is billed for its cold start and this at least, cancelled or not."""
_DRAWS: Final = 20_000


def draw_cold_starts(kind: str, seed: int) -> list[float]:
    """Draw the one list that everybody's bookings go through, in seconds.

    Fast: through p50 22.7 s, p90 42 s and p99 51.8 s, linear between. Slow: even from 100 to 280 s.
    """
    place = np.random.default_rng([seed, 7]).uniform(size=_DRAWS)
    if kind == "fast":
        drawn = np.interp(place, [0.0, 0.5, 0.9, 0.99, 1.0], [12.0, 22.7, 42.0, 51.8, 56.0])
    else:
        drawn = np.interp(place, [0.0, 1.0], [100.0, 280.0])
    return [float(each) for each in drawn]


@dataclass(slots=True)
class Fleet:
    """One run's replicas; instants in seconds of the trace."""

    cold_starts: list[float]
    bill_from_s: float
    ready: int = 0
    bookings: int = 0
    billed_s: float = 0.0
    _since: list[tuple[float, float]] = field(default_factory=list)
    """Of ready replicas: when it was booked, and until when it is billed at least."""
    _loading: list[tuple[float, float]] = field(default_factory=list)
    """Heap of: when it will be ready, and when it was booked."""
    _draining: list[float] = field(default_factory=list)
    """Heap of: when it is empty."""

    @property
    def loading(self) -> int:
        """Replicas booked and not yet ready."""
        return len(self._loading)

    @property
    def draining(self) -> int:
        """Replicas removed that still have sequences."""
        return len(self._draining)

    def begin(self, replicas: int) -> None:
        """Have so many ready at the start, booked long ago."""
        self.ready = replicas
        self._since = [(0.0, 0.0)] * replicas

    def advance(self, now: float) -> None:
        """Take what has loaded by `now` as ready, and let go what has drained."""
        while self._loading and self._loading[0][0] <= now:
            ready_at, booked_at = heapq.heappop(self._loading)
            self._since.append((booked_at, ready_at + MIN_BILLED_S))
            self.ready += 1
        while self._draining and self._draining[0] <= now:
            heapq.heappop(self._draining)

    def scale(self, replicas: int, now: float) -> None:
        """Book what lacks; take away those that load, the youngest first, then ready ones."""
        self.book(replicas - self.ready - self.loading, now)
        self._cancel(min(self.ready + self.loading - replicas, self.loading), now)
        self.remove(self.ready + self.loading - replicas, now)

    @property
    def next_cold_start_s(self) -> float:
        """What the next booking will take, which the oracle alone may look at."""
        return self.cold_starts[self.bookings % len(self.cold_starts)]

    def book(self, count: int, now: float) -> None:
        """Begin the cold start of so many."""
        for _ in range(count):
            heapq.heappush(self._loading, (now + self.next_cold_start_s, now))
            self.bookings += 1

    def _cancel(self, count: int, now: float) -> None:
        for _ in range(count):
            youngest = max(self._loading, key=lambda each: each[1])
            self._loading.remove(youngest)
            heapq.heapify(self._loading)
            self._bill(youngest[1], max(now, youngest[0] + MIN_BILLED_S))

    def remove(self, count: int, now: float) -> None:
        """Have so many of those that are ready drain."""
        for _ in range(count):
            # Paid for already, or soonest: a minimum that still runs is kept to the last.
            paid = min(range(len(self._since)), key=lambda i: self._since[i][1])
            booked_at, paid_until = self._since.pop(paid)
            self.ready -= 1
            heapq.heappush(self._draining, now + DRAIN_S)
            self._bill(booked_at, max(now + DRAIN_S, paid_until))

    def _bill(self, booked_at: float, until: float) -> None:
        self.billed_s += max(0.0, until - max(booked_at, self.bill_from_s))

    def end(self, now: float) -> float:
        """Bill what lives up to the end; returns all GPU-seconds.

        A minimum that runs beyond the end is not: what lives at the end is paid up to it.
        """
        alive = [booked_at for booked_at, _ in self._since]
        loading = [booked_at for _, booked_at in self._loading]
        return self.billed_s + sum(now - max(each, self.bill_from_s) for each in (*alive, *loading))
