"""Sizing of a pool with an objective: what is learned of it, and small changes that wait."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.test_sizing import seen_at
from tests.strategies import (
    NOW_S,
    any_readings,
    pool_intent,
    reading,
    shares,
    unusable_readings,
)
from tidegate.readings import Reading
from tidegate.rules.sizing import (
    LEARNED_WITHIN,
    LEARNING_GAIN,
    TOLERANCE,
    Limiter,
    Need,
    PoolSeen,
    decide_replicas,
    demand_window_s,
    learn_utilisation,
)

LEARNING = pool_intent(gated_objective=0.95, max_replicas=9999, ceiling_gpus=9999)
let_ins = any_readings("let_in", shares)


def letting_in(let_in: Reading | None, replicas: int = 4, rps: float = 20.0) -> PoolSeen:
    return replace(seen_at(rps, replicas=replicas), let_in=let_in)


def taught(
    let_in: Reading | None, before: float = 0.5, replicas: int = 4, rps: float = 20.0
) -> float:
    last = Need(NOW_S - 10.0, 4, utilisation=before, usual_rps=20.0)
    return learn_utilisation(letting_in(let_in, replicas, rps), LEARNING, (last,), NOW_S)


def test_a_gate_that_lets_in_too_few_makes_room_and_one_that_lets_in_more_saves() -> None:
    gain = LEARNING_GAIN * 10.0 / 60.0
    assert taught(reading("let_in", 0.45)) == pytest.approx(0.5 - 0.50 * gain)
    assert taught(reading("let_in", 1.0)) == pytest.approx(0.5 + 0.05 * gain)


def test_each_request_counts_and_not_each_second() -> None:
    few, usual, many = (taught(reading("let_in", 0.45), rps=rps) for rps in (0.0, 20.0, 60.0))
    assert few == 0.5
    assert 0.5 - many == pytest.approx(3.0 * (0.5 - usual))


def test_nothing_is_learned_before_what_was_asked_for_first_can_be_seen() -> None:
    pool = LEARNING.model_copy(update={"cold_start_p50_s": 20.0, "cold_start_p90_s": 60.0})
    recent: tuple[Need, ...] = ()
    learned = []
    for tick in range(20):
        seen = letting_in(reading("let_in", 0.0), rps=10.0 + 10.0 * (tick % 2))
        recent = decide_replicas(seen, pool, recent, NOW_S + 10.0 * tick).recent
        learned.append(recent[-1].utilisation)
    settled = int((60.0 + demand_window_s(pool)) / 10.0)
    assert set(learned[: settled + 1]) == {pool.target_utilisation}
    assert (learned[settled + 1] or 0.0) < pool.target_utilisation
    assert recent[-1].usual_rps == pytest.approx(15.0, abs=0.5)


@given(let_ins, st.floats(0.1, 1.0))
def test_what_is_learned_stays_near_the_target(let_in: Reading, before: float) -> None:
    low, high = (factor * LEARNING.target_utilisation for factor in LEARNED_WITHIN)
    learned = taught(let_in, before)
    assert learned == before or low <= learned <= high


@given(lower=shares, higher=shares, before=st.floats(0.4, 0.6))
def test_letting_in_more_never_makes_more_room(lower: float, higher: float, before: float) -> None:
    low, high = sorted((lower, higher))
    assert taught(reading("let_in", low), before) <= taught(reading("let_in", high), before)


@given(unusable_readings("let_in"))
def test_nothing_is_learned_blindly_nor_at_a_cap(unusable: Reading) -> None:
    assert taught(unusable) == taught(None) == 0.5
    assert taught(reading("let_in", 0.1), replicas=9999) == 0.5


def test_a_pool_without_an_objective_is_sized_at_its_target() -> None:
    last = Need(NOW_S - 10.0, 4, utilisation=0.9, usual_rps=20.0)
    seen = letting_in(reading("let_in", 0.0))
    assert learn_utilisation(seen, pool_intent(), (last,), NOW_S) == 0.5


@given(st.lists(st.booleans(), min_size=400, max_size=400), st.integers(0, 2))
def test_over_any_long_time_the_mean_that_is_missed_comes_to_what_may_be(
    turns: list[bool], harshness: int
) -> None:
    """Demand of any course: all are let in while there is much room, else only some are."""
    recent: tuple[Need, ...] = ()
    missed = 0.0
    for tick, turn in enumerate(turns * 10):
        room = 1.0 if recent == () else (recent[-1].utilisation or 0.5)
        let_in = 1.0 if room < (0.42 if turn else 0.58) else 0.2 * harshness
        seen = letting_in(reading("let_in", let_in))
        decision = decide_replicas(seen, LEARNING, recent, NOW_S + 10.0 * tick)
        recent = decision.recent[-1:]
        missed += 1.0 - let_in
    # The learned range over gain and time is the most that the mean can be away by.
    bound = 0.5 / (LEARNING_GAIN * 10.0 / 60.0 * 4000)
    assert missed / 4000 <= 0.05 + bound + 0.01


def sized(rps: float, booked: int = 100, **changed: object) -> tuple[int, Limiter]:
    """Size a pool whose replicas serve five requests a second each, as full as they should be."""
    pool = LEARNING.model_copy(update={"scale_down_window_s": 0.0, **changed})
    before = (Need(NOW_S - 1000.0, booked),)
    decision = decide_replicas(seen_at(rps, replicas=booked), pool, before, NOW_S)
    return decision.replicas, decision.limited_by


def test_a_size_that_is_nearly_right_stays_where_the_gate_bridges_what_is_short() -> None:
    most = 1.0 + TOLERANCE
    assert sized(500.0 * most) == sized(500.0 * (1.0 - TOLERANCE)) == (100, Limiter.TOLERANCE)
    assert sized(500.0 * most + 1.0) == (106, Limiter.DEMAND)
    assert sized(500.0 * (1.0 - TOLERANCE) - 5.0) == (94, Limiter.DEMAND)
    assert sized(500.0) == (100, Limiter.DEMAND)
    assert sized(55.0, booked=10) == (11, Limiter.DEMAND), "one of ten is no small change"


def test_what_it_tells_is_what_the_demand_needs() -> None:
    pool = LEARNING.model_copy(update={"scale_down_window_s": 0.0})
    before = (Need(NOW_S - 1000.0, 100),)
    held = decide_replicas(seen_at(515.0, replicas=100), pool, before, NOW_S)
    assert held.needed_replicas == 103
    assert held.reason == "demand needs 103 replicas, within 5% of those booked"


def test_a_window_that_remembers_a_small_change_does_not_make_it_either() -> None:
    grown = sized(515.0)[0]
    later = decide_replicas(
        seen_at(500.0, replicas=grown), LEARNING, (Need(NOW_S - 200.0, 103, 103),), NOW_S
    )
    assert (grown, later.replicas) == (100, 100)


def test_stages_bounds_and_pools_without_an_objective_get_all_of_a_small_change() -> None:
    assert sized(500.0, floor_gpus=103) == (103, Limiter.RESERVATIONS)
    assert sized(515.0, floor_gpus=102) == (103, Limiter.DEMAND), "stages wait for 102"
    assert sized(485.0, floor_gpus=90) == (100, Limiter.TOLERANCE)
    assert sized(500.0, ceiling_gpus=97) == (97, Limiter.BUDGET)
    assert sized(500.0, min_replicas=103) == (103, Limiter.MIN_REPLICAS)
    assert sized(515.0, gated_objective=None) == (103, Limiter.DEMAND)
