"""The oracle: it knows all arrivals and cold starts, and still has to run on the engine."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.replay.bound import WINDOW_S, Plant, Programme, Wanted, solve
from benchmarks.replay.fleet import Fleet
from benchmarks.replay.fluid import START_S, Gate, Seen, first_replicas, run_fluid
from benchmarks.replay.scoring import FREE_HOUR, PAID, Score, score
from benchmarks.replay.traces import Day, Floats

_BLOCK: Final = 20
"""Windows for which its ceiling stays."""
_STEPS: Final = 8
_RETRY_AFTER_S: Final = 600.0
_WIDEST: Final = 0.4
_NARROWEST: Final = -0.05


@dataclass(frozen=True, slots=True)
class Oracle:
    """What a schedule that the engine confirms takes, and what none can beat, in GPU-hours."""

    achieved_gpu_hours: float | None
    bound_gpu_hours: float | None


def consult(day: Day, plant: Plant, free: float) -> Oracle:
    """Find both figures for one day; nothing is achieved where no schedule tried holds."""
    bound = solve(day, plant, Wanted(PAID, free, FREE_HOUR))
    if bound is None:
        return Oracle(None, None)
    # Planned for everybody; where the engine is short of the plan, the gate sheds what it may.
    planned = solve(day, plant, Wanted(1.0, 1.0, FREE_HOUR), _BLOCK)
    achieved = None if planned is None else _cheapest(day, plant, planned, free)
    return Oracle(achieved, bound.gpu_hours)


def _cheapest(day: Day, plant: Plant, planned: Programme, free: float) -> float | None:
    """Halve the interval of margins until the smallest that holds is found."""
    low, high, best = _NARROWEST, _WIDEST, None
    for _ in range(_STEPS):
        margin = (low + high) / 2.0
        scored = run_schedule(day, plant, planned, margin)
        if scored.holds(free):
            high, best = margin, scored.gpu_hours
        else:
            low = margin
    return best


def run_schedule(day: Day, plant: Plant, programme: Programme, margin: float) -> Score:
    """Run the programme's replicas, raised by a share, and its ceilings."""
    fleet = Fleet(plant.cold_starts, float(START_S))
    fleet.begin(first_replicas(day, plant.capacity_rps))
    sizer = _Scheduled(fleet, programme.replicas * (1.0 + margin))
    gate = _Ceilings(programme.free_share, plant.gate())
    return score(day, run_fluid(day, fleet, sizer, gate, plant.most))


class _Scheduled:
    """Books as early as the next draw takes, so that a replica is ready when it is due."""

    def __init__(self, fleet: Fleet, replicas: Floats) -> None:
        self._fleet = fleet
        # The programme leaves the last requests in their slots, with nobody to run them.
        replicas[-2:] = np.maximum(replicas[-2:], replicas[-3])
        self._due: list[int] = [max(1, math.ceil(each - 0.05)) for each in replicas.tolist()]

    def _at(self, second: float) -> int:
        window = int(second - START_S) // WINDOW_S
        return self._due[min(max(0, window), len(self._due) - 1)]

    def size(self, seen: Seen) -> int:
        """Act on the fleet itself: what loads is not to be cancelled for what is surplus now."""
        fleet, now = self._fleet, seen.now - 1.0
        if now >= START_S:
            surplus = fleet.ready - max(self._at(now), self._at(now + 1.0))
            fleet.remove(surplus, now)
        # The draws are taken in the order of booking: a long one may make those behind it late.
        while fleet.ready + fleet.loading < self._at(now + fleet.next_cold_start_s):
            fleet.book(1, now)
        return fleet.ready + fleet.loading


class _Ceilings:
    """The ceilings of the programme, and Tidegate's gate where it is narrower for a moment."""

    def __init__(self, shares: Floats, law: Gate) -> None:
        self._shares = shares.tolist()
        self._law = law

    @property
    def retry_after_s(self) -> float:
        """Refused users are asked back when the rush is over, or as the gate says."""
        return max(_RETRY_AFTER_S, self._law.retry_after_s)

    def ceiling(self, seen: Seen) -> float:
        """Return the window's."""
        window = int(seen.now - START_S) // WINDOW_S
        if window < 0:
            return self._law.ceiling(seen)
        share: float = self._shares[min(window, len(self._shares) - 1)]
        return min(share if share < 0.999 else 1.0, self._law.ceiling(seen))  # noqa: PLR2004 - the solver's rounding
