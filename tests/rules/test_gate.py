"""The gate law: narrowed for the lowest tier first, reopened slowly, never while blind."""

import doctest
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.strategies import (
    NOW_S,
    any_readings,
    fresh_readings,
    gate_part,
    gates,
    pool_intent,
    reading,
    shares,
    tiers,
    unusable_readings,
)
from tidegate.readings import Freshness, Reading
from tidegate.rules.gate import (
    ENTER_PRESSURE,
    EXIT_PRESSURE,
    FITTED_RELAX_STEP,
    FULL,
    QUEUE_DRAIN_S,
    QUEUE_FULL_S,
    RELAX_STEP,
    TIGHTEN_FASTER,
    GateDecision,
    Move,
    Pressure,
    Room,
    decide_gate,
    derive_ceilings,
    fit,
    mean_by_tier,
    share_of_room,
    weigh,
    widest_openness,
)
from tidegate.snapshot import GatePart, GateState, PoolIntent, TierPolicy

DOCS = Path(__file__).parents[2] / "docs"
FREE = {"free": TierPolicy(rank=3, gated=True), "pro": TierPolicy(rank=0, gated=False)}
PLUS_AND_FREE = {**FREE, "plus": TierPolicy(rank=2, gated=True)}
ROUNDING = 1e-9

openness = st.floats(-1.0, 10.0)
levels = st.floats(0.0, 10.0)


def pressed(worst: float | None, *missing: Reading) -> Pressure:
    return Pressure(worst, "queue_wait", missing)


pressures = st.builds(
    lambda read: weigh([(read, 2.0)], ["queue_wait"]),
    any_readings("queue_wait", st.floats(0.0, 20.0)),
)
gated_pools = st.builds(
    lambda lag_s, safe_share: pool_intent(actuation_lag_s=lag_s, safe_share=safe_share),
    st.floats(0.5, 60.0),
    shares,
)


@st.composite
def moments(draw: st.DrawFn) -> tuple[dict[str, TierPolicy], GatePart, PoolIntent, Pressure]:
    policies = draw(tiers)
    return policies, draw(gates(policies)), draw(gated_pools), draw(pressures)


Moment = tuple[dict[str, TierPolicy], GatePart, PoolIntent, Pressure]


def move(
    worst: float | None, last: GatePart | None, policies: Mapping[str, TierPolicy] = FREE
) -> GateDecision:
    return decide_gate(pressed(worst), last, policies, pool_intent(), NOW_S)


def test_the_examples_in_the_document_compute_what_it_says() -> None:
    outcome = doctest.testfile(str(DOCS / "gate-law.md"), module_relative=False)
    assert outcome.failed == 0
    assert outcome.attempted > 0


@given(policies=tiers, openness=openness)
def test_a_lower_tier_is_open_at_all_only_where_every_higher_one_is_open_whole(
    policies: dict[str, TierPolicy], openness: float
) -> None:
    ceilings = derive_ceilings(openness, policies)
    for name, ceiling in ceilings.items():
        higher = [c for n, c in ceilings.items() if policies[n].rank < policies[name].rank]
        assert 0.0 <= ceiling <= 1.0
        assert ceiling == 0.0 or all(c == 1.0 for c in higher)


@given(policies=tiers, openness=openness)
def test_a_tier_that_is_not_gated_has_no_ceiling(
    policies: dict[str, TierPolicy], openness: float
) -> None:
    gated = {name for name, policy in policies.items() if policy.gated}
    assert set(derive_ceilings(openness, policies)) == gated


@given(policies=tiers, openness=st.tuples(openness, openness))
def test_a_wider_gate_lowers_nobodys_ceiling(
    policies: dict[str, TierPolicy], openness: tuple[float, float]
) -> None:
    narrow, wide = (derive_ceilings(o, policies) for o in sorted(openness))
    assert all(narrow[name] <= wide[name] for name in narrow)


@given(moments())
def test_a_gate_moves_by_at_most_one_step_and_never_jumps_open(moment: Moment) -> None:
    policies, last, pool, pressure = moment
    decision = decide_gate(pressure, last, policies, pool, NOW_S)
    change = decision.openness - last.openness
    assert -TIGHTEN_FASTER * RELAX_STEP - ROUNDING <= change <= RELAX_STEP + ROUNDING
    assert 0.0 <= decision.openness <= widest_openness(policies)


@given(moments())
def test_a_gate_moves_once_for_each_actuation_lag(moment: Moment) -> None:
    policies, last, pool, pressure = moment
    settling = last.model_copy(update={"moved_at": NOW_S - pool.actuation_lag_s * 0.99})
    decision = decide_gate(pressure, settling, policies, pool, NOW_S)
    assert decision.openness == last.openness
    assert decision.moved_at == settling.moved_at


@given(moments())
def test_a_gate_that_moves_says_when_and_one_that_stays_keeps_its_moment(moment: Moment) -> None:
    policies, last, pool, pressure = moment
    decision = decide_gate(pressure, last, policies, pool, NOW_S)
    assert decision.moved_at == (last.moved_at if decision.openness == last.openness else NOW_S)


@given(moments())
def test_nothing_reopens_while_a_required_reading_is_stale_or_absent(moment: Moment) -> None:
    policies, last, pool, pressure = moment
    assume(pressure.missing)
    decision = decide_gate(pressure, last, policies, pool, NOW_S)
    assert decision.openness <= last.openness
    assert decision.stale


@given(moments())
def test_nothing_reopens_where_nothing_is_read_at_all(moment: Moment) -> None:
    policies, last, pool, _ = moment
    decision = decide_gate(pressed(None), last, policies, pool, NOW_S)
    assert decision.openness == last.openness


@given(moment=moments(), worst=st.floats(EXIT_PRESSURE, ENTER_PRESSURE, exclude_max=True))
def test_between_its_two_levels_a_gate_stays_where_it_is(moment: Moment, worst: float) -> None:
    policies, last, pool, _ = moment
    decision = decide_gate(pressed(worst), last, policies, pool, NOW_S)
    assert decision.openness == last.openness
    assert decision.state is last.state
    assert decision.move is Move.STAYED


@given(moment=moments(), worst=st.floats(ENTER_PRESSURE, 99.0))
def test_a_pressed_gate_never_widens(moment: Moment, worst: float) -> None:
    policies, last, pool, _ = moment
    decision = decide_gate(pressed(worst), last, policies, pool, NOW_S)
    assert decision.openness <= last.openness


@given(moment=moments(), worst=st.floats(0.0, EXIT_PRESSURE, exclude_max=True))
def test_a_relieved_gate_never_narrows(moment: Moment, worst: float) -> None:
    policies, last, pool, _ = moment
    decision = decide_gate(pressed(worst), last, policies, pool, NOW_S)
    assert decision.openness >= last.openness


@given(moment=moments(), worst=st.tuples(levels, levels))
def test_more_pressure_never_opens_a_gate_further(
    moment: Moment, worst: tuple[float, float]
) -> None:
    policies, last, pool, _ = moment
    eased, harder = (
        decide_gate(pressed(w), last, policies, pool, NOW_S).openness for w in sorted(worst)
    )
    assert harder <= eased


def test_a_gate_tightens_five_times_as_fast_as_it_relaxes() -> None:
    middle = gate_part(0.5, FREE)
    tightened, relaxed = move(1.0, middle), move(0.5, middle)
    assert (tightened.move, relaxed.move) == (Move.TIGHTENED, Move.RELAXED)
    assert middle.openness - tightened.openness == pytest.approx(
        5 * (relaxed.openness - middle.openness)
    )


fittings = st.none() | st.floats(0.0, 6.0)
readings_pressed = st.sampled_from(["queue_wait", "kv_cache_use", "demand", "gpu_utilisation"])


@given(moment=moments(), fitting=fittings, by=readings_pressed, worst=st.none() | levels)
def test_what_fits_never_makes_a_gate_jump_nor_open_beyond_it(
    moment: Moment, fitting: float | None, by: str, worst: float | None
) -> None:
    policies, last, pool, pressure = moment
    told = Pressure(worst, by, pressure.missing, fitting)
    decision = decide_gate(told, last, policies, pool, NOW_S)
    change = decision.openness - last.openness
    step = RELAX_STEP if fitting is None else FITTED_RELAX_STEP
    assert -TIGHTEN_FASTER * step - ROUNDING <= change <= step + ROUNDING
    assert change <= 0.0 or fitting is None or decision.openness <= fitting + ROUNDING
    assert change <= 0.0 or not pressure.missing


@given(moment=moments(), fitting=fittings, by=readings_pressed, worst=st.tuples(levels, levels))
def test_more_pressure_never_opens_a_gate_further_whatever_fits(
    moment: Moment, fitting: float | None, by: str, worst: tuple[float, float]
) -> None:
    policies, last, pool, _ = moment
    eased, harder = (
        decide_gate(Pressure(w, by, (), fitting), last, policies, pool, NOW_S).openness
        for w in sorted(worst)
    )
    assert harder <= eased + ROUNDING


def test_a_gate_closes_to_what_fits_and_on_where_the_queue_says_that_it_does_not() -> None:
    half = gate_part(0.5, FREE)

    def closed(worst: float, fitting: float) -> float:
        told = Pressure(worst, "queue_wait", (), fitting)
        return decide_gate(told, half, FREE, pool_intent(), NOW_S).openness

    assert closed(0.9, 0.45) == pytest.approx(0.45)
    assert closed(1.1, 0.40) == pytest.approx(0.40)
    assert closed(1.1, 0.49) == pytest.approx(0.5 - TIGHTEN_FASTER * RELAX_STEP)
    assert closed(1.1, 0.70) == pytest.approx(0.5 - TIGHTEN_FASTER * RELAX_STEP)


def room(use: float, wait_s: float, **offered_rps: float) -> Room:
    readings = reading("kv_cache_use", use), reading("queue_wait", wait_s)
    return Room(100.0, *readings, offered_rps)


def test_paying_tiers_take_their_room_first_then_the_gated_ones_by_rank() -> None:
    quiet = pressed(0.9)
    offered = {"pro": 20.0, "plus": 40.0, "free": 80.0}
    assert fit(quiet, room(FULL, 0.0, **offered), PLUS_AND_FREE).fitting == pytest.approx(1.5)
    assert fit(quiet, room(FULL, 0.0, **offered, new=70.0), PLUS_AND_FREE).fitting == (
        pytest.approx(0.25)
    )


@given(
    policies=tiers,
    offered=st.dictionaries(st.sampled_from(["pro", "plus", "free"]), st.just(0.0) | levels),
    capacity_rps=st.none() | levels,
    use=any_readings("kv_cache_use", shares),
    wait=any_readings("queue_wait", levels),
)
def test_what_fits_is_a_number_of_tiers_whatever_is_offered(
    policies: dict[str, TierPolicy],
    offered: dict[str, float],
    capacity_rps: float | None,
    use: Reading,
    wait: Reading,
) -> None:
    fitting = fit(pressed(0.9), Room(capacity_rps, use, wait, offered), policies).fitting
    assert fitting is None or 0.0 <= fitting <= widest_openness(policies)


def test_what_is_offered_is_a_mean_over_the_readings_that_know_of_a_tier() -> None:
    before, now = {"free": 10.0, "old": 5.0}, {"free": 20.0, "new": 4.0}
    assert mean_by_tier([before, now]) == {"free": 15.0, "new": 4.0}
    assert mean_by_tier([]) == {}


def test_nothing_fits_where_paying_tiers_take_more_than_there_is_and_free_asks_for_nothing() -> (
    None
):
    assert fit(pressed(0.9), room(FULL, 0.0, pro=120.0, free=0.0), FREE).fitting == 0.0


def test_free_cache_is_room_and_a_queue_is_less_of_it() -> None:
    assert share_of_room(FULL, 0.0) == pytest.approx(1.0)
    assert share_of_room(FULL - 0.1, 0.0) > 1.0 > share_of_room(FULL + 0.05, 0.0)
    assert share_of_room(0.1, QUEUE_FULL_S) == pytest.approx(1.0 - QUEUE_FULL_S / QUEUE_DRAIN_S)


@given(any_readings("kv_cache_use", shares), any_readings("queue_wait", levels))
def test_nothing_is_said_to_fit_where_a_reading_that_it_needs_is_not_fresh(
    use: Reading, wait: Reading
) -> None:
    told = fit(pressed(0.9), Room(100.0, use, wait, {"free": 10.0}), FREE)
    fresh = {use.freshness, wait.freshness} == {Freshness.FRESH}
    assert (told.fitting is not None) == fresh
    assert fit(pressed(0.9), Room(None, use, wait, {"free": 10.0}), FREE).fitting is None


@given(policies=tiers, pool=gated_pools, pressure=pressures)
def test_a_gate_that_nobody_remembers_begins_at_the_safe_share_of_the_lowest_tier(
    policies: dict[str, TierPolicy], pool: PoolIntent, pressure: Pressure
) -> None:
    decision = decide_gate(pressure, None, policies, pool, NOW_S)
    assert decision.move is Move.STARTED
    ceilings = [c for _, c in sorted((policies[n].rank, c) for n, c in decision.ceilings.items())]
    assert all(c == 1.0 for c in sorted(ceilings, reverse=True)[:-1])
    assert not ceilings or min(ceilings) == pytest.approx(pool.safe_share, abs=ROUNDING)


@given(moments())
def test_a_gate_that_is_remembered_never_starts_again(moment: Moment) -> None:
    policies, last, pool, pressure = moment
    assert decide_gate(pressure, last, policies, pool, NOW_S).move is not Move.STARTED


@given(before=tiers, now=tiers, data=st.data(), pressure=pressures)
def test_a_changed_catalogue_opens_no_gate(
    before: dict[str, TierPolicy],
    now: dict[str, TierPolicy],
    data: st.DataObject,
    pressure: Pressure,
) -> None:
    last = data.draw(gates(before))
    decision = decide_gate(pressure, last, now, pool_intent(), NOW_S)
    for tier, ceiling in decision.ceilings.items():
        assert ceiling <= last.ceilings.get(tier, 1.0) + RELAX_STEP + ROUNDING


def test_an_open_gate_stays_open_for_a_tier_that_is_added() -> None:
    decision = move(0.9, gate_part(1.0, FREE), PLUS_AND_FREE)
    assert decision.state is GateState.OPEN
    assert decision.ceilings == {"plus": 1.0, "free": 1.0}


def test_dropping_a_tier_does_not_open_the_gate_of_the_one_below() -> None:
    decision = move(0.9, gate_part(1.2, PLUS_AND_FREE), FREE)
    assert decision.ceilings == pytest.approx({"free": 0.2})
    assert decision.state is GateState.THROTTLED


@given(readings=st.lists(st.tuples(any_readings("a", levels), st.floats(0.1, 10.0))))
def test_pressure_is_the_worst_of_what_is_fresh(readings: list[tuple[Reading, float]]) -> None:
    levels_read = [value / limit for r, limit in readings if (value := r.fresh_value) is not None]
    assert weigh(readings, ()).worst == (max(levels_read) if levels_read else None)


@given(required=unusable_readings("queue_wait"), optional=unusable_readings("gpu_utilisation"))
def test_a_reading_that_is_not_fresh_presses_nothing_and_is_missed_only_where_required(
    required: Reading, optional: Reading
) -> None:
    pressure = weigh([(required, 1.0), (optional, 1.0)], ["queue_wait"])
    assert pressure.worst is None
    assert pressure.missing == (required,)


@given(fresh_readings("queue_wait", levels))
def test_a_required_reading_that_nobody_gave_is_missing(queue_wait: Reading) -> None:
    pressure = weigh([(queue_wait, 1.0)], ["queue_wait", "demand"])
    assert [(r.name, r.freshness) for r in pressure.missing] == [("demand", Freshness.ABSENT)]


def test_a_reading_that_is_no_number_does_not_hide_a_pressure() -> None:
    read = [(reading("kv_cache_use", float("nan")), 0.95), (reading("queue_wait", 4.0), 2.0)]
    assert weigh(read, ()) == Pressure(2.0, "queue_wait", (), age_s=1.0)


def test_a_gate_held_for_want_of_readings_says_which() -> None:
    stale = reading("queue_wait", 1.0, age_s=47.0)
    decision = decide_gate(pressed(0.1, stale), gate_part(0.5, FREE), FREE, pool_intent(), NOW_S)
    assert decision.move is Move.HELD
    assert decision.reason == "not reopened: queue_wait was read 47 s ago, limit 15 s"


def test_a_gate_tightens_on_what_is_fresh_even_while_another_reading_is_missing() -> None:
    absent = reading("demand", None)
    decision = decide_gate(pressed(2.0, absent), gate_part(1.0, FREE), FREE, pool_intent(), NOW_S)
    assert decision.move is Move.TIGHTENED
    assert decision.reason == "queue_wait is at 200% of its limit"


def play(worst: list[float], policies: Mapping[str, TierPolicy]) -> list[GateState]:
    """Let an open gate tick every 5 s, twice for each lag, and say each state it passes."""
    last = gate_part(widest_openness(policies), policies)
    passed = [last.state]
    for tick, level in enumerate(worst, start=1):
        now = NOW_S + 5.0 * tick
        decision = decide_gate(pressed(level), last, policies, pool_intent(), now)
        last = gate_part(
            decision.openness, policies, state=decision.state, moved_at=decision.moved_at
        )
        if decision.state is not passed[-1]:
            passed.append(decision.state)
    return passed


@pytest.mark.parametrize("policies", [FREE, PLUS_AND_FREE])
def test_a_gate_closes_and_reopens_through_each_state_once(
    policies: dict[str, TierPolicy],
) -> None:
    calm_again = [2.0] * 12 + [0.9] * 4 + [0.1] * 80
    assert play(calm_again, policies) == [
        GateState.OPEN,
        GateState.THROTTLED,
        GateState.WAITLISTED,
        GateState.REOPENING,
        GateState.OPEN,
    ]


def test_a_gate_that_was_only_throttled_reopens_without_a_waitlist() -> None:
    assert play([2.0] * 2 + [0.9] * 4 + [0.1] * 80, FREE) == [
        GateState.OPEN,
        GateState.THROTTLED,
        GateState.REOPENING,
        GateState.OPEN,
    ]


@given(policies=tiers, worst=st.lists(st.floats(0.0, 2.0), max_size=60))
def test_a_state_says_how_far_the_gate_is_open(
    policies: dict[str, TierPolicy], worst: list[float]
) -> None:
    last: GatePart | None = None
    for tick, level in enumerate(worst):
        decision = decide_gate(pressed(level), last, policies, pool_intent(), NOW_S + 6.0 * tick)
        last = gate_part(
            decision.openness, policies, state=decision.state, moved_at=decision.moved_at
        )
        ceilings = decision.ceilings.values()
        assert (decision.state is GateState.OPEN) == all(c == 1.0 for c in ceilings)
        if decision.state is GateState.WAITLISTED:
            assert 0.0 in ceilings
        if decision.state is GateState.THROTTLED:
            assert 0.0 not in ceilings
        assert decision.retry_after_s >= 1.0


@given(moment=moments(), ages=st.tuples(st.floats(0.5, 15.0), st.floats(0.5, 15.0)))
def test_a_gate_opens_no_further_on_readings_from_before_it_moved(
    moment: Moment, ages: tuple[float, float]
) -> None:
    policies, last, pool, _ = moment
    since_s, age_s = sorted(ages)
    moved = last.model_copy(update={"moved_at": NOW_S - since_s})
    hasty = pool.model_copy(update={"actuation_lag_s": 0.5})
    calm = weigh([(reading("queue_wait", 0.0, age_s=age_s), 2.0)], ["queue_wait"])
    assert decide_gate(calm, moved, policies, hasty, NOW_S).openness == moved.openness
