"""A schedule as it is followed: replicas due second by second, and ceilings that look ahead."""

import math
from collections import Counter
from itertools import pairwise
from typing import Final

from benchmarks.replay.engine import (
    DECODE_BASE_S,
    DECODE_EACH_S,
    DRAIN_S,
    PREFILL_SHARE,
    PREFILL_TPS,
    slots,
)
from benchmarks.replay.fleet import Fleet
from benchmarks.replay.fluid import START_S, Seen
from benchmarks.replay.traces import Day

_AT_ONCE: Final = 0.02
"""Share removed in one second: where more drains end together, batches are above their slots, and
nobody starts until they are below."""
_LATE_S: Final = 30.0
"""A booking comes so much later at most than one after it should."""
_QUEUE_S: Final = 1.5
"""Of the engines' work that may wait: what comes last has still started within 2 s."""
_RETRY_AFTER_S: Final = 86_400.0


class Scheduled:
    """Books as early as the next draw takes, and removes a drain's time ahead."""

    def __init__(self, fleet: Fleet, replicas: list[int]) -> None:
        self._fleet = fleet
        due: list[int] = []
        self._removals: Counter[int] = Counter()
        for second, (before, now) in enumerate(pairwise([fleet.ready, *replicas]), START_S):
            due += [second] * (now - before)
            self._remove(before - now, second - int(DRAIN_S), max(1, int(_AT_ONCE * now)))
        self._bookings = book_at(due, fleet.cold_starts)

    def _remove(self, surplus: int, at: int, at_once: int) -> None:
        while surplus > 0:
            self._removals[at] += min(surplus, at_once)
            surplus -= at_once
            at += 1

    def size(self, seen: Seen) -> int:
        """Act on the fleet itself: what loads is not to be cancelled for what is surplus now."""
        fleet, now = self._fleet, seen.now - 1.0
        fleet.remove(min(self._removals[int(now)], fleet.ready - 1), now)
        while self._bookings and now >= self._bookings[-1]:
            fleet.book(1, now)
            self._bookings.pop()
        return fleet.ready + fleet.loading


def book_at(due: list[int], cold_starts: list[float]) -> list[float]:
    """Return when to book, the last first, for replicas due in this order.

    The draws are taken in the order of booking, so that a long one would have those behind it
    late, or those before it early: they meet in between, _LATE_S late.
    """
    bookings: list[float] = []
    earliest = float("inf")
    for number in reversed(range(len(due))):
        latest = math.floor(due[number] - cold_starts[number % len(cold_starts)])
        bookings.append(min(latest, earliest + _LATE_S))
        earliest = min(earliest, latest)
    return bookings


class Ahead:
    """A gate that knows what comes, and lets in what starts in time for those who pay.

    As with every gate, Free alone is narrowed, by place, blind to sizes. Whoever is refused is
    asked back tomorrow.
    """

    retry_after_s = _RETRY_AFTER_S

    def __init__(self, day: Day) -> None:
        self._paid: list[float] = day.arrivals[:2].sum(axis=0).tolist()
        self._free: list[float] = day.arrivals[2].tolist()
        self._input: list[float] = day.input_tokens.tolist()
        self._output: list[float] = day.output_tokens.tolist()

    def ceiling(self, seen: Seen) -> float:
        """Return the share that fills the engines and the queue that may be."""
        second = int(seen.now)
        free = self._free[second]
        if free <= 0.0:
            return 1.0
        room = self._room(seen, second) - seen.waiting - self._paid[second]
        return max(0.0, min(1.0, room / free))

    def _room(self, seen: Seen, second: int) -> float:
        """Return what starts in this second, and may wait after it."""
        input_, output = self._input[second], self._output[second]
        each, serving = slots(input_, output), seen.ready + seen.draining or 1
        prefill = PREFILL_TPS * seen.ready / input_

        def most(running: float) -> float:
            free = seen.ready * (each - running / serving)
            return max(0.0, min(free, PREFILL_SHARE * prefill))

        fits = most(seen.running)
        waiting = seen.waiting + self._paid[second] + self._free[second]
        started = min(fits, waiting)
        running = seen.running + started
        iteration_s = DECODE_BASE_S + DECODE_EACH_S * running / serving
        ends = (1.0 - started / prefill) / (iteration_s * output) if prefill else 0.0
        return fits + _QUEUE_S * most(running * (1.0 - min(1.0, ends)))
