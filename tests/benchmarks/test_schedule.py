"""How the oracle follows a schedule, gates what comes, and plans from what the engine answered."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.replay.bound import Plant, Wanted
from benchmarks.replay.engine import DRAIN_S, capacity_rps, slots
from benchmarks.replay.fleet import Fleet
from benchmarks.replay.fluid import START_S, Seen, run_fluid
from benchmarks.replay.response import Answer, Prices, plan_from
from benchmarks.replay.schedule import Ahead, Scheduled, book_at
from benchmarks.replay.scoring import FREE, FREE_HOUR, PAID, Score, score
from benchmarks.replay.traces import Day, Floats
from tests.benchmarks.traces import a_day

CAPACITY_RPS = capacity_rps(1155.0, 211.0)
LATE_S = 30.0


@given(
    st.lists(st.integers(600, 3600), min_size=1, max_size=40).map(sorted),
    st.lists(st.floats(10.0, 280.0), min_size=1, max_size=12),
)
def test_no_booking_is_ready_much_later_than_it_is_due(due: list[int], draws: list[float]) -> None:
    booked = 0.0
    for number, at in enumerate(reversed(book_at(due, draws))):
        booked = max(booked, at)  # the draws are taken in the order of booking
        assert booked + draws[number % len(draws)] <= due[number] + LATE_S


def test_a_schedule_is_ready_when_due_and_has_drained_when_it_falls() -> None:
    day = a_day([30.0] * 5)
    fleet = Fleet([20.0, 50.0, 35.0], float(START_S))
    fleet.begin(10)
    replicas = [10] * 300 + [14] * 900 + [8] * (day.seconds - START_S - 1200)
    served: list[int] = []

    class Watched(Scheduled):
        def size(self, seen: Seen) -> int:
            served.append(fleet.ready + fleet.draining)
            return super().size(seen)

    run_fluid(day, fleet, Watched(fleet, replicas), None, most=40)
    rise, fall = START_S + 300, START_S + 1200
    assert served[START_S : rise - 60] == [10] * (300 - 60)
    assert served[rise + int(LATE_S) : fall] == [14] * (900 - int(LATE_S)), "they still serve"
    assert served[fall + int(DRAIN_S)] == 8
    assert fleet.bookings == 4


class Still:
    def size(self, _: Seen) -> int:
        return 10


def behind(day: Day) -> Score:
    fleet = Fleet([30.0], float(START_S))
    fleet.begin(10)
    return score(day, run_fluid(day, fleet, Still(), Ahead(day), most=10))


def test_a_gate_that_knows_what_comes_keeps_engines_full_and_those_who_pay_in_time() -> None:
    offered_rps = 2.0 * 10 * CAPACITY_RPS
    pro, plus, free = behind(a_day([offered_rps] * 5)).attainment
    assert min(pro, plus) >= PAID
    fits = (0.5 - 0.3) / 0.7
    assert free == pytest.approx(fits, abs=0.02), "all that those who pay leave"


def test_it_refuses_nobody_whom_there_is_room_for() -> None:
    assert behind(a_day([0.7 * 10 * CAPACITY_RPS] * 5)).free_refused == 0.0


def answers(day: Day, of_replicas: dict[float, Floats]) -> list[Answer]:
    """Say of even plans what share of Free each second attains with them."""
    free = day.arrivals[2, START_S:]
    return [Answer(np.full(len(free), n), free * share) for n, share in of_replicas.items()]


def planned(of_replicas: dict[float, Floats], day: Day) -> Floats | None:
    plant = Plant(CAPACITY_RPS, slots(1155.0, 211.0), [30.0], 40)
    wanted = Wanted(PAID, FREE, FREE_HOUR)
    return plan_from(day, plant, wanted, answers(day, of_replicas), Prices(60, 60.0))


def test_a_plan_has_replicas_where_the_answers_say_that_they_serve() -> None:
    day = a_day([40.0] * 8)
    second = np.arange(day.seconds - START_S)
    late = (second >= len(second) // 2).astype(float)
    # Early ten are as good as fourteen; late ten miss a fifth, and fourteen nobody.
    plan = planned({10.0: 1.0 - 0.2 * late, 14.0: np.ones(len(second))}, day)
    assert plan is not None
    early_mean, late_mean = plan[late == 0.0].mean(), plan[late == 1.0].mean()
    assert early_mean == pytest.approx(10.0, abs=0.5)
    # Half of what Free asks for may miss a tenth, to attain 95 % in all: half of the way.
    assert late_mean == pytest.approx(12.0, abs=0.5)


def test_there_is_no_plan_where_no_answer_attains_enough() -> None:
    day = a_day([40.0] * 8)
    too_few = np.full(day.seconds - START_S, 0.9)
    assert planned({10.0: too_few, 14.0: too_few}, day) is None
