"""How many replicas a pool needs: from demand, within the ledger's bounds."""

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.strategies import (
    NOW_S,
    any_readings,
    fresh_readings,
    pool_intent,
    pool_intents,
    reading,
    unusable_readings,
)
from tidegate.readings import Freshness, Reading, TierDemand
from tidegate.rules.measures import offered
from tidegate.rules.sizing import (
    Limiter,
    Need,
    PoolSeen,
    SizingDecision,
    decide_replicas,
    demand_window_s,
    gpus_for,
)
from tidegate.snapshot import PoolIntent

rates_rps = st.floats(0.0, 5000.0)
queues = st.floats(0.0, 5000.0)
booked = st.integers(0, 60)
needs = st.lists(
    st.builds(Need, at=st.floats(NOW_S - 900.0, NOW_S), replicas=st.integers(0, 60)), max_size=6
).map(lambda kept: tuple(sorted(kept, key=lambda need: need.at)))


def seen_at(
    demand_rps: float | None, *, waiting: float | None = 0.0, replicas: int = 4
) -> PoolSeen:
    demand = reading("demand", demand_rps)
    required = (demand, reading("queue_wait", 0.1))
    return PoolSeen(demand, reading("waiting", waiting), required, replicas)


@st.composite
def pools_seen(draw: st.DrawFn) -> PoolSeen:
    demand = draw(any_readings("demand", rates_rps))
    wait = draw(any_readings("queue_wait", st.floats(0.0, 60.0)))
    waiting = draw(any_readings("waiting", queues))
    return PoolSeen(demand, waiting, (demand, wait), draw(booked))


def all_fresh(seen: PoolSeen) -> bool:
    readings = (seen.demand_rps, seen.waiting, *seen.required)
    return all(r.freshness is Freshness.FRESH for r in readings)


def size(seen: PoolSeen, *recent: Need, **changes: object) -> SizingDecision:
    return decide_replicas(seen, pool_intent(**changes), recent, NOW_S)


def test_a_forecast_is_served_at_the_target_utilisation() -> None:
    assert gpus_for(60.0, 10.0, 0.6) == 10
    assert gpus_for(60.1, 10.0, 0.6) == 11
    assert gpus_for(0.0, 10.0, 0.6) == 0


@given(rate=rates_rps, capacity=st.floats(0.1, 100.0), target=st.floats(0.05, 1.0))
def test_gpus_for_a_forecast_serve_it_and_one_fewer_would_not(
    rate: float, capacity: float, target: float
) -> None:
    gpus = gpus_for(rate, capacity, target)
    assert gpus * capacity * target >= rate * (1 - 1e-6) - 1e-6
    assert (gpus - 1) * capacity * target < rate or gpus == 0


def test_demand_is_sized_at_the_target_and_a_backlog_is_worked_off_in_thirty_seconds() -> None:
    decision = size(seen_at(100.0, waiting=300.0))
    assert decision.replicas == math.ceil((100.0 + 300.0 / 30.0) / (10.0 * 0.5))
    assert decision.limited_by is Limiter.DEMAND
    assert decision.reason == "demand needs 22 replicas"


@given(refused=rates_rps, admitted=rates_rps)
def test_what_the_gate_refused_counts_as_demand_and_what_is_not_exposed_does_not(
    refused: float, admitted: float
) -> None:
    tier = TierDemand(admitted_rps=admitted, refused_by_gate_rps=refused, not_exposed_rps=99.0)
    open_gate = size(seen_at(admitted + refused), max_replicas=9999, ceiling_gpus=9999)
    shedding = size(seen_at(offered(tier)), max_replicas=9999, ceiling_gpus=9999)
    assert shedding.needed_replicas == open_gate.needed_replicas


@given(
    pool=pool_intents(),
    seen=pools_seen(),
    recent=needs,
    unusable=unusable_readings("queue_wait"),
)
def test_nothing_shrinks_on_a_required_reading_that_is_stale_or_absent(
    pool: PoolIntent, seen: PoolSeen, recent: tuple[Need, ...], unusable: Reading
) -> None:
    blind = PoolSeen(seen.demand_rps, seen.waiting, (unusable,), seen.booked_replicas)
    assert decide_replicas(blind, pool, recent, NOW_S).replicas >= seen.booked_replicas


@given(pool=pool_intents(), seen=pools_seen(), recent=needs)
def test_nothing_shrinks_while_demand_or_backlog_is_unknown_even_where_not_required(
    pool: PoolIntent, seen: PoolSeen, recent: tuple[Need, ...]
) -> None:
    optional = PoolSeen(seen.demand_rps, seen.waiting, (), seen.booked_replicas)
    assume(not all_fresh(optional))
    assert decide_replicas(optional, pool, recent, NOW_S).replicas >= seen.booked_replicas


@given(pool=pool_intents(), unusable=unusable_readings("demand"), recent=needs)
def test_a_need_is_not_forgotten_while_demand_is_unknown(
    pool: PoolIntent, unusable: Reading, recent: tuple[Need, ...]
) -> None:
    blind = PoolSeen(unusable, reading("waiting", 0.0), (), 4)
    decision = decide_replicas(blind, pool, recent, NOW_S + 1e6)
    assert decision.recent == recent
    assert decision.needed_replicas == max((need.replicas for need in recent), default=0)
    assert not decision.is_demand_known


@given(pool=pool_intents(), replicas=booked, recent=needs, rates=st.tuples(rates_rps, rates_rps))
def test_more_demand_never_means_fewer_replicas(
    pool: PoolIntent, replicas: int, recent: tuple[Need, ...], rates: tuple[float, float]
) -> None:
    less, more = sorted(rates)
    small = decide_replicas(seen_at(less, replicas=replicas), pool, recent, NOW_S)
    large = decide_replicas(seen_at(more, replicas=replicas), pool, recent, NOW_S)
    assert small.replicas <= large.replicas
    assert small.needed_replicas <= large.needed_replicas


@given(pool=pool_intents(), replicas=booked, rate=rates_rps, waiting=st.tuples(queues, queues))
def test_a_longer_backlog_never_means_fewer_replicas(
    pool: PoolIntent, replicas: int, rate: float, waiting: tuple[float, float]
) -> None:
    short, long = (
        decide_replicas(seen_at(rate, waiting=queue, replicas=replicas), pool, (), NOW_S)
        for queue in sorted(waiting)
    )
    assert short.replicas <= long.replicas


@given(pool=pool_intents(), seen=pools_seen(), recent=needs)
def test_nothing_is_booked_beyond_the_ledger_or_the_pools_own_bound(
    pool: PoolIntent, seen: PoolSeen, recent: tuple[Need, ...]
) -> None:
    most = pool.max_replicas
    if pool.ceiling_gpus is not None:
        most = min(most, pool.ceiling_gpus // pool.gpus_per_replica)
    if not all_fresh(seen):
        most = max(most, seen.booked_replicas)  # held, never grown
    assert decide_replicas(seen, pool, recent, NOW_S).replicas <= most


@given(pool=pool_intents(), seen=pools_seen(), recent=needs)
def test_an_unknown_budget_never_grows_a_pool(
    pool: PoolIntent, seen: PoolSeen, recent: tuple[Need, ...]
) -> None:
    uncounted = pool.model_copy(update={"ceiling_gpus": None})
    decision = decide_replicas(seen, uncounted, recent, NOW_S)
    assert decision.replicas <= seen.booked_replicas


@given(pool=pool_intents(), rate=rates_rps, replicas=booked, recent=needs)
def test_reservations_and_the_least_size_are_kept_wherever_the_ledger_allows_it(
    pool: PoolIntent, rate: float, replicas: int, recent: tuple[Need, ...]
) -> None:
    unbounded = {"ceiling_gpus": 9999, "max_replicas": 9999}
    wide = pool.model_copy(update=unbounded)
    decision = decide_replicas(seen_at(rate, replicas=replicas), wide, recent, NOW_S)
    assert decision.replicas * pool.gpus_per_replica >= pool.floor_gpus
    assert decision.replicas >= pool.min_replicas


@given(pool=pool_intents(), rate=rates_rps, replicas=booked, recent=needs)
def test_a_pool_shrinks_only_to_the_largest_need_of_the_window(
    pool: PoolIntent, rate: float, replicas: int, recent: tuple[Need, ...]
) -> None:
    decision = decide_replicas(seen_at(rate, replicas=replicas), pool, recent, NOW_S)
    within = [n.replicas for n in recent if NOW_S - n.at <= pool.scale_down_window_s]
    assert decision.needed_replicas >= max(within, default=0)
    assert decision.recent[-1].at == NOW_S
    kept_s = max(pool.scale_down_window_s, pool.cold_start_p90_s)
    assert all(n in recent and NOW_S - n.at <= kept_s for n in decision.recent[:-1])


ticks = st.tuples(
    st.sampled_from([0.5, 1.0, 3.0, 20.0, 70.0]),
    st.floats(0.0, 200.0),
    st.integers(-2, 2),
    st.booleans(),
)


@given(
    drawn=pool_intents(),
    objective=st.sampled_from([None, 0.95]),
    told=st.lists(ticks, max_size=40),
)
def test_what_is_forgotten_within_a_window_changes_no_size(
    drawn: PoolIntent, objective: float | None, told: list[tuple[float, float, int, bool]]
) -> None:
    pool = drawn.model_copy(update={"gated_objective": objective})
    now, replicas = NOW_S, 4
    few: tuple[Need, ...] = ()
    every: tuple[Need, ...] = ()
    for passed_s, rate, by_hand, is_read in told:
        now += passed_s
        seen = seen_at(rate if is_read else None, replicas=max(0, replicas + by_hand))
        decision = decide_replicas(seen, pool, few, now)
        remembered = decide_replicas(seen, pool, every, now)
        assert replace(decision, recent=()) == replace(remembered, recent=())
        few, replicas = decision.recent, decision.replicas
        if is_read:
            kept_s = max(pool.scale_down_window_s, pool.cold_start_p90_s, demand_window_s(pool))
            within = (need for need in every if now - need.at <= kept_s)
            every = (*within, *remembered.recent[-1:])


def test_of_an_hour_of_the_same_demand_few_needs_are_kept() -> None:
    recent: tuple[Need, ...] = ()
    for second in range(3600):
        seen = seen_at(50.0 + second * 7 % 30, replicas=16)
        recent = decide_replicas(seen, pool_intent(), recent, NOW_S + second).recent
    assert len(recent) < 40


def test_a_window_of_demand_smooths_what_a_booking_could_not_meet() -> None:
    calm = tuple(Need(NOW_S - 10.0 * n, 10, demand_rps=50.0) for n in range(9, 0, -1))
    burst = seen_at(150.0, replicas=10)
    at_once = size(burst, *calm, scale_down_window_s=60.0)
    smoothed = size(burst, *calm, scale_down_window_s=60.0, gated_objective=0.95)
    assert at_once.needed_replicas == math.ceil((50.0 + 150.0) / 2 / (10.0 * 0.5))
    assert smoothed.needed_replicas == math.ceil((9 * 50.0 + 150.0) / 10 / (10.0 * 0.5))


def test_a_window_of_demand_holds_no_size_beyond_the_scale_down_window() -> None:
    large = Need(NOW_S - 90.0, 20, wanted=20, demand_rps=10.0)
    changes = {"scale_down_window_s": 60.0, "gated_objective": 0.95}
    decision = size(seen_at(10.0, replicas=20), large, **changes)
    assert (decision.replicas, decision.limited_by) == (2, Limiter.DEMAND)
    assert large in decision.recent


@pytest.mark.parametrize(
    ("cold_start_s", "window_s"), [(0.0, 15.0), (20.0, 120.0), (60.0, 180.0), (300.0, 15.0)]
)
def test_demand_is_averaged_over_cold_starts_and_less_where_these_take_the_time(
    cold_start_s: float, window_s: float
) -> None:
    pool = pool_intent(cold_start_p50_s=cold_start_s, gated_objective=0.95)
    assert demand_window_s(pool) == window_s


def test_a_smaller_need_waits_for_the_window_to_pass() -> None:
    before = Need(NOW_S - 299.0, 9)
    held = size(seen_at(10.0, replicas=9), before)
    assert (held.replicas, held.limited_by) == (9, Limiter.SCALE_DOWN_WINDOW)
    assert held.reason == "needed 9 replicas within the last 300 s"
    passed = size(seen_at(10.0, replicas=9), Need(NOW_S - 301.0, 9))
    assert (passed.replicas, passed.limited_by) == (2, Limiter.DEMAND)


def test_nothing_is_taken_away_while_what_was_booked_may_still_load() -> None:
    pool = pool_intent(scale_down_window_s=0.0)  # a slow cold start takes 120 s
    grown = decide_replicas(seen_at(45.0, replicas=2), pool, (), NOW_S)
    assert (grown.replicas, grown.recent[-1].has_grown) == (9, True)
    held = decide_replicas(seen_at(10.0, replicas=9), pool, grown.recent, NOW_S + 119.0)
    assert (held.replicas, held.limited_by) == (9, Limiter.COLD_STARTS)
    assert held.reason == (
        "nothing is taken away: what was booked within the last 120 s may still load"
    )
    loaded = decide_replicas(seen_at(10.0, replicas=9), pool, held.recent, NOW_S + 121.0)
    assert (loaded.replicas, loaded.limited_by) == (2, Limiter.DEMAND)


def test_what_may_still_load_goes_all_the_same_where_the_ledger_wants_it_back() -> None:
    pool = pool_intent(scale_down_window_s=0.0)
    grown = decide_replicas(seen_at(45.0, replicas=2), pool, (), NOW_S)
    lent = pool_intent(scale_down_window_s=0.0, ceiling_gpus=3)
    assert decide_replicas(seen_at(45.0, replicas=9), lent, grown.recent, NOW_S).replicas == 3


def test_a_sizer_that_starts_anew_keeps_what_is_booked_for_one_window() -> None:
    started = size(seen_at(10.0, replicas=9))
    assert (started.replicas, started.needed_replicas) == (9, 2)
    assert started.limited_by is Limiter.SCALE_DOWN_WINDOW
    later = decide_replicas(seen_at(10.0, replicas=9), pool_intent(), started.recent, NOW_S + 301.0)
    assert later.replicas == 2


def test_a_reservation_that_is_given_back_keeps_its_replicas_for_one_window() -> None:
    reserved = size(seen_at(10.0, replicas=0), floor_gpus=8)
    given_back = decide_replicas(
        seen_at(10.0, replicas=8), pool_intent(), reserved.recent, NOW_S + 1.0
    )
    assert (reserved.replicas, given_back.replicas, given_back.needed_replicas) == (8, 8, 2)
    assert given_back.limited_by is Limiter.SCALE_DOWN_WINDOW


def test_demand_is_the_mean_of_what_was_read_within_the_reading_limit() -> None:
    calm = Need(NOW_S - 10.0, 2, 2, 10.0)
    forgotten = Need(NOW_S - 16.0, 2, 2, 990.0)
    assert size(seen_at(30.0, replicas=0), forgotten, calm).needed_replicas == 4


BLIND = seen_at(None, replicas=5)


@pytest.mark.parametrize(
    ("seen", "changes", "limited_by", "reason"),
    [
        (seen_at(20.0), {}, Limiter.DEMAND, "demand needs 4 replicas"),
        (
            seen_at(20.0), {"floor_gpus": 7}, Limiter.RESERVATIONS,
            "stages have reserved 7 replicas, demand needs 4",
        ),
        (
            seen_at(20.0), {"min_replicas": 6}, Limiter.MIN_REPLICAS,
            "never fewer than 6 replicas, demand needs 4",
        ),
        (
            seen_at(200.0), {"max_replicas": 9}, Limiter.MAX_REPLICAS,
            "40 replicas are needed, never more than 9",
        ),
        (
            seen_at(200.0), {"ceiling_gpus": 12}, Limiter.BUDGET,
            "40 replicas are needed, the ledger allows 12 GPUs",
        ),
        (
            seen_at(20.0), {"min_replicas": 20, "ceiling_gpus": 12}, Limiter.BUDGET,
            "20 replicas are needed, the ledger allows 12 GPUs",
        ),
        (
            seen_at(200.0), {"ceiling_gpus": None}, Limiter.BUDGET_UNKNOWN,
            "nobody has counted the GPUs yet, so nothing grows",
        ),
        (BLIND, {}, Limiter.READINGS, "nothing is taken away: demand is absent"),
        (
            BLIND, {"floor_gpus": 7}, Limiter.RESERVATIONS,
            "stages have reserved 7 replicas, its demand is unknown",
        ),
    ],
)  # fmt: skip
def test_the_reason_names_what_decided_the_size(
    seen: PoolSeen, changes: dict[str, object], limited_by: Limiter, reason: str
) -> None:
    decision = size(seen, **changes)
    assert (decision.limited_by, decision.reason) == (limited_by, reason)


def test_replicas_of_many_gpus_fit_into_the_ledger_whole() -> None:
    assert size(seen_at(200.0), gpus_per_replica=8, ceiling_gpus=31).replicas == 3
    assert size(seen_at(0.0, replicas=0), gpus_per_replica=8, floor_gpus=9).replicas == 2


@given(pool=pool_intents(), seen=pools_seen(), recent=needs)
def test_a_decision_changes_none_of_its_arguments_and_repeats(
    pool: PoolIntent, seen: PoolSeen, recent: tuple[Need, ...]
) -> None:
    assert decide_replicas(seen, pool, recent, NOW_S) == decide_replicas(seen, pool, recent, NOW_S)


@given(fresh_readings("demand", rates_rps))
def test_a_stale_queue_wait_lets_a_pool_grow_with_its_demand(demand: Reading) -> None:
    wait = reading("queue_wait", 1.0, age_s=99.0)
    decision = size(PoolSeen(demand, reading("waiting", 0.0), (demand, wait), 0))
    assert decision.replicas == min(40, decision.needed_replicas)


@given(
    rate=rates_rps,
    queue=queues,
    replicas=booked,
    cold_start_s=st.floats(0.0, 600.0),
)
def test_a_queue_that_any_replica_may_take_keeps_replicas_and_books_few(
    rate: float, queue: float, replicas: int, cold_start_s: float
) -> None:
    wide = {"max_replicas": 99_999, "ceiling_gpus": 99_999, "cold_start_p50_s": cold_start_s}
    seen = seen_at(rate, waiting=queue, replicas=replicas)
    kept = Need(NOW_S - 900.0, 0)
    for_one = size(seen, kept, **wide).replicas
    for_any = size(replace(seen, waits_for_any=True), kept, **wide).replicas
    assert for_any <= for_one
    assert for_any >= min(for_one, replicas), "none goes that works it off"
    assert for_any >= size(replace(seen, waiting=reading("waiting", 0.0)), kept, **wide).replicas
    drain_s = max(30.0, cold_start_s)
    assert max(for_any, 0) * 10.0 * drain_s >= rate * drain_s + queue - 1e-3 * drain_s


@given(rates=st.tuples(rates_rps, rates_rps), queued=st.tuples(queues, queues), replicas=booked)
def test_more_demand_or_queue_never_means_fewer_where_any_replica_would_do(
    rates: tuple[float, float], queued: tuple[float, float], replicas: int
) -> None:
    less, more = (
        replace(seen_at(rate, waiting=queue, replicas=replicas), waits_for_any=True)
        for rate, queue in zip(sorted(rates), sorted(queued), strict=True)
    )
    assert size(less).replicas <= size(more).replicas
