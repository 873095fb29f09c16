"""The oracle: it knows all arrivals and cold starts, and still has to run on the engine."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.replay.bound import Plant, Wanted, solve
from benchmarks.replay.fleet import Fleet
from benchmarks.replay.fluid import START_S, first_replicas, run_fluid
from benchmarks.replay.response import Answer, Prices, plan_from
from benchmarks.replay.schedule import Ahead, Scheduled
from benchmarks.replay.scoring import FREE_HOUR, PAID, Score, attained, score
from benchmarks.replay.traces import Day, Floats

_WINDOWS: Final = 720
"""Of the first plan; a day's are a minute."""
_EFFORT_S: Final = 1_800_000
"""Seconds of runs in all: 20 of a day."""
_TURNS: Final = 2
_MARGINS: Final = (-0.1, -0.06, -0.03, 0.0, 0.03, 0.07)
"""Shares by which a plan is raised to learn what that would bring."""
_LOWEST: Final = -0.03
_HIGHEST: Final = 0.06
_WIDEST: Final = 0.3
_STEPS: Final = 7
_PRICES: Final = (Prices(30, 60.0), Prices(30, 90.0), Prices(60, 60.0), Prices(30, 30.0))
"""Windows of a plan and prices of a removal that are tried in turn, in seconds."""


@dataclass(frozen=True, slots=True)
class Oracle:
    """What a schedule that the engine confirms takes, and what none can beat, in GPU-hours."""

    achieved_gpu_hours: float | None
    bound_gpu_hours: float | None


def consult(day: Day, plant: Plant, free: float) -> Oracle:
    """Find both figures for one day; nothing is achieved where no schedule tried holds."""
    wanted = Wanted(PAID, free, FREE_HOUR)
    bound = solve(day, plant, wanted)
    if bound is None:
        return Oracle(None, None)
    return Oracle(min(_achieved(day, plant, wanted), default=None), bound.gpu_hours)


def _achieved(day: Day, plant: Plant, wanted: Wanted) -> Iterator[float]:
    """Try plans: the programme's, and then again and again what the engine's answers tell."""
    programme = solve(day, plant, wanted, windows=_WINDOWS, removal_s=_PRICES[0].removal_s)
    if programme is None:
        return
    plan = np.repeat(programme.replicas, programme.window_s)[: day.seconds - START_S]
    plan = np.pad(plan, (0, day.seconds - START_S - len(plan)), mode="edge")
    runs, widest = _STEPS, _WIDEST
    for prices in _PRICES * _TURNS:
        margin, gpu_hours = _cheapest(day, plant, plan, wanted.free, widest)
        if gpu_hours is not None:
            yield gpu_hours
        runs += len(_MARGINS) + _STEPS
        if runs * day.seconds > _EFFORT_S:
            return
        plan = plan * (1.0 + margin)
        answers = [_ask(day, plant, plan * (1.0 + each)) for each in _MARGINS]
        found = plan_from(day, plant, wanted, answers, prices)
        if found is None:
            return
        plan, widest = found, _HIGHEST


def _ask(day: Day, plant: Plant, plan: Floats) -> Answer:
    replicas = _whole(plan)
    _, served = run_schedule(day, plant, replicas)
    return Answer(replicas, served[2, START_S:])


def _cheapest(
    day: Day, plant: Plant, plan: Floats, free: float, widest: float
) -> tuple[float, float | None]:
    """Halve the interval of margins towards the smallest that holds; returns it and its cost."""
    low, high, best = _LOWEST, widest, None
    for _ in range(_STEPS):
        margin = (low + high) / 2.0
        scored, _ = run_schedule(day, plant, _whole(plan * (1.0 + margin)))
        if scored.holds(free):
            high, best = margin, scored.gpu_hours
        else:
            low = margin
    return high, best


def _whole(plan: Floats) -> Floats:
    return np.maximum(1.0, np.floor(plan + 0.5))


def run_schedule(day: Day, plant: Plant, replicas: Floats) -> tuple[Score, Floats]:
    """Run with so many replicas, by second from the first that is scored.

    Returns the score, and how many of each second's arrivals attained, by tier.
    """
    fleet = Fleet(plant.cold_starts, float(START_S))
    fleet.begin(first_replicas(day, plant.capacity_rps))
    sizer = Scheduled(fleet, replicas.astype(int).tolist())
    course = run_fluid(day, fleet, sizer, Ahead(day), plant.most)
    return score(day, course), attained(day, course)
