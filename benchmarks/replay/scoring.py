"""What a run is worth: attainment by tier, waits, GPU-hours."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.replay.engine import TPOT_LIMIT_S
from benchmarks.replay.fluid import START_S, Course
from benchmarks.replay.traces import Day, Floats

START_WITHIN_S: Final = (2, 2, 5)
"""By tier: a request that starts later has not attained."""
PAID: Final = 0.99
FREE: Final = 0.95
FREE_HOUR: Final = 0.85
"""In all clock hours but one in 24."""
_HOUR_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Score:
    """A run's figures; shares are of all arrivals after the first ten minutes."""

    attainment: tuple[float, float, float]
    """Pro, Plus and Team, Free."""
    by_tokens: tuple[float, float, float]
    paid_attainment: float
    free_hours: tuple[float, ...]
    """Free's attainment in each clock hour."""
    free_refused: float
    """Share of Free's arrivals turned away at the first try."""
    free_served_rps: float
    """Of those who came for the first time."""
    free_came_back_rps: float
    """Refused first, and let in at the second try."""
    gpu_hours: float
    bookings: int
    p99_wait_paid_s: float

    def holds(self, free: float = FREE) -> bool:
        """Tell whether every constraint holds."""
        return self.lacks(free) <= 0.0

    def lacks(self, free: float = FREE) -> float:
        """Return by how much the constraint that is missed most is missed; 0 where all hold."""
        pro, plus, got = self.attainment
        excused = len(self.free_hours) // 24
        hours = sorted(self.free_hours)[excused:] if excused else sorted(self.free_hours)
        worst = min(hours, default=1.0)
        return max(0.0, PAID - pro, PAID - plus, free - got, FREE_HOUR - worst)


def score(day: Day, course: Course) -> Score:
    """Score a run from its sums."""
    served = attained(day, course)
    tokens = day.input_tokens + day.output_tokens
    came = day.arrivals[:, START_S:]
    good = served[:, START_S:]
    weight = tokens[START_S:]
    hours = range(0, day.seconds, _HOUR_S)
    by_hour = [
        _share(
            served[2, max(h, START_S) : h + _HOUR_S],
            day.arrivals[2, max(h, START_S) : h + _HOUR_S],
        )
        for h in hours
    ]
    refused = day.arrivals[2] - course.admitted[2]
    return Score(
        attainment=_by_tier(good, came),
        by_tokens=_by_tier(good * weight, came * weight),
        paid_attainment=_share(good[:2], came[:2]),
        free_hours=tuple(by_hour),
        free_refused=1.0 - _share(came[2] - refused[START_S:], came[2]),
        free_served_rps=float(good[2].mean()),
        free_came_back_rps=float(course.came_back[START_S:].mean()),
        gpu_hours=course.billed_s / 3600.0,
        bookings=course.bookings,
        p99_wait_paid_s=_p99_wait_s(day, course),
    )


def _by_tier(good: Floats, came: Floats) -> tuple[float, float, float]:
    pro, plus, free = (_share(g, c) for g, c in zip(good, came, strict=True))
    return pro, plus, free


def _share(good: Floats, came: Floats) -> float:
    """Return the share attained; of nobody, all."""
    total = float(came.sum())
    return float(good.sum()) / total if total > 0.0 else 1.0


def attained(day: Day, course: Course) -> Floats:
    """Return how many of each second's arrivals attained, by tier.

    Who arrives in a second does so evenly, and leaves the queue in the order of arrival; so those
    in time are those whom the queue's sum has passed at the middle of the second plus the limit.
    """
    came = course.admitted.sum(axis=0) + course.came_back
    before = np.concatenate(([0.0], np.cumsum(came)[:-1]))
    in_time = _tpot_s(day, course) <= TPOT_LIMIT_S
    served = np.zeros_like(course.admitted)
    for tier, limit_s in enumerate(START_WITHIN_S):
        left = course.left_queue
        ends = np.minimum(np.arange(day.seconds) + limit_s, day.seconds - 1)
        passed = (left[ends - 1] + left[ends]) / 2.0
        share = np.clip((passed - before) / np.maximum(came, 1e-9), 0.0, 1.0)
        served[tier] = course.admitted[tier] * share * in_time
    return served


def _tpot_s(day: Day, course: Course) -> Floats:
    """Return the mean time per output token of those who start in each second.

    The speed's sum over time, read backwards: when it has grown by the request's tokens, it ends.
    """
    ends = np.arange(1.0, day.seconds + 1.0)
    produced = np.cumsum(course.speed_tps)
    done_at = np.interp(produced + day.output_tokens, produced, ends)
    # Who runs on past the end is taken to go on at the pace so far.
    reached = np.minimum(produced[-1], produced + day.output_tokens) - produced
    pace_s = 1.0 / np.maximum(course.speed_tps, 1e-9)
    return np.where(reached > 1.0, (done_at - ends) / np.maximum(reached, 1.0), pace_s)


def _p99_wait_s(day: Day, course: Course) -> float:
    came = course.admitted.sum(axis=0) + course.came_back
    middle = np.cumsum(came) - came / 2.0
    times = np.arange(0.5, day.seconds)
    left = np.maximum.accumulate(course.left_queue) + np.arange(day.seconds) * 1e-9
    waits = np.maximum(0.0, np.interp(middle, left, times + 0.5) - times)[START_S:]
    paid = day.arrivals[:2, START_S:].sum(axis=0)
    order = waits.argsort()
    passed = np.cumsum(paid[order])
    return float(waits[order][np.searchsorted(passed, 0.99 * passed[-1])]) if passed[-1] else 0.0
