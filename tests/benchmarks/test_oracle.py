"""The oracle and its bound: below every schedule that holds, and confirmed by the engine."""

import pytest

from benchmarks.replay.bound import Plant, Wanted, most_free_served, solve
from benchmarks.replay.engine import capacity_rps, slots
from benchmarks.replay.fleet import Fleet
from benchmarks.replay.fluid import Seen, run_fluid
from benchmarks.replay.oracle import consult
from benchmarks.replay.rivals import Pool
from benchmarks.replay.scoring import FREE, FREE_HOUR, PAID, score
from benchmarks.replay.traces import Day
from tests.benchmarks.traces import a_day

CAPACITY_RPS = capacity_rps(1155.0, 211.0)
POOL = Pool(CAPACITY_RPS, slots(1155.0, 211.0), most=80, peak=40.0, cold_start_s=(20.0, 40.0))


def plant(most: int = 80) -> Plant:
    cold_starts = [30.0 + n % 10 for n in range(500)]
    return Plant(CAPACITY_RPS, POOL.slots, cold_starts, most)


class Still:
    def __init__(self, replicas: int) -> None:
        self._replicas = replicas

    def size(self, _: Seen) -> int:
        return self._replicas


def gpu_hours_of(day: Day, replicas: int) -> float | None:
    fleet = Fleet(plant().cold_starts, bill_from_s=600.0)
    fleet.begin(replicas)
    scored = score(day, run_fluid(day, fleet, Still(replicas), None, most=80))
    return scored.gpu_hours if scored.holds() else None


def test_the_oracle_is_between_the_bound_and_the_least_fixed_number_that_holds() -> None:
    day = a_day([60.0, 80.0, 110.0, 130.0, 60.0])
    found = consult(day, plant(), FREE)
    least = min(hours for n in range(24, 50) if (hours := gpu_hours_of(day, n)) is not None)
    assert found.bound_gpu_hours is not None
    assert found.achieved_gpu_hours is not None
    assert found.bound_gpu_hours <= found.achieved_gpu_hours < least
    assert found.achieved_gpu_hours <= 1.1 * found.bound_gpu_hours


def test_the_bound_of_an_even_day_is_its_work_less_what_may_be_missed() -> None:
    day = a_day([80.0] * 6)
    bound = solve(day, plant(), Wanted(PAID, FREE, FREE_HOUR), windows=600)
    work_h = day.total[600:].sum() / CAPACITY_RPS / 3600.0
    assert bound is not None
    assert bound.gpu_hours == pytest.approx((0.3 * PAID + 0.7 * FREE) * work_h, rel=0.02)


def test_a_cap_leaves_free_what_paid_do_not_need() -> None:
    day = a_day([80.0] * 6)
    served = most_free_served(day, plant(most=14), PAID)
    assert served == pytest.approx(14 * CAPACITY_RPS - 0.3 * PAID * 80.0, rel=0.05)


def test_nothing_bounds_a_day_whose_paying_users_exceed_the_cap() -> None:
    assert most_free_served(a_day([80.0] * 3), plant(most=2), PAID) is None
