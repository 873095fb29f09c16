"""Demand: open loop, in time order, as bursty and heavy-tailed as asked for."""

from collections import Counter
from itertools import islice, pairwise
from random import Random
from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.demand import Arrival, Demand, Launch, arrivals, draw_user, draw_work, rate_at
from tidegate.errors import PlanError
from tidegate.shapes import Shape, rising_day

TIERS = {"free": 0.6, "plus": 0.25, "pro": 0.1, "team": 0.05}

shapes = st.lists(st.floats(0.0, 5.0), min_size=2, max_size=12).filter(lambda v: max(v) > 0.5)
launches = st.lists(
    st.builds(
        Launch,
        at_s=st.floats(0.0, 60.0),
        factor=st.floats(1.0, 6.0),
        decay_s=st.none() | st.floats(0.5, 100.0),
    ),
    max_size=2,
)


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    values = draw(shapes)
    return Demand(
        draw(st.floats(0.5, 30.0)),
        TIERS,
        shape=Shape(tuple(7.0 * i for i in range(len(values))), tuple(values)),
        launches=tuple(draw(launches)),
        cv=draw(st.floats(0.0, 3.0)),
    )


def expected_requests(demand: Demand, from_s: float, until_s: float) -> float:
    step_s = (until_s - from_s) / 20_000
    return sum(rate_at(demand, from_s + (i + 0.5) * step_s) for i in range(20_000)) * step_s


@given(demand=demands(), seed=st.integers())
def test_arrivals_come_in_time_order_within_the_part_asked_for(demand: Demand, seed: int) -> None:
    times_s = [a.at_s for a in arrivals(demand, seed=seed, from_s=5.0, until_s=60.0)]
    assert times_s == sorted(times_s)
    assert all(5.0 <= at_s <= 60.0 for at_s in times_s)


@given(demand=demands(), seed=st.integers(0, 2**32))
def test_the_number_of_requests_follows_the_rate(demand: Demand, seed: int) -> None:
    count = sum(1 for _ in arrivals(demand, seed=seed, from_s=0.0, until_s=60.0))
    expected = expected_requests(demand, 0.0, 60.0)
    spread = max(demand.cv, 0.3) * expected**0.5
    assert abs(count - expected) < 7.0 * spread + 6.0 * demand.cv**2 + 2.0


@given(demand=demands(), t_s=st.floats(-10.0, 500.0))
def test_the_rate_never_passes_its_peak(demand: Demand, t_s: float) -> None:
    assert 0.0 <= rate_at(demand, t_s) <= demand.peak_rps * (1 + 1e-9)


@given(demand=demands(), seed=st.integers())
def test_the_same_seed_draws_the_same_arrivals(demand: Demand, seed: int) -> None:
    drawn = [list(arrivals(demand, seed=seed, from_s=0.0, until_s=20.0)) for _ in range(2)]
    assert drawn[0] == drawn[1]


@given(demand=demands(), seed=st.integers(), pauses=st.lists(st.integers(0, 5), max_size=20))
def test_how_slowly_arrivals_are_taken_up_changes_none(
    demand: Demand, seed: int, pauses: list[int]
) -> None:
    whole = list(arrivals(demand, seed=seed, from_s=0.0, until_s=30.0))
    taken: list[Arrival] = []
    drawing = arrivals(demand, seed=seed, from_s=0.0, until_s=30.0)
    for pause in pauses:
        taken += islice(drawing, pause)
        list(arrivals(demand, seed=seed + 1, from_s=0.0, until_s=5.0))
    assert [*taken, *drawing] == whole


def test_arrivals_are_drawn_lazily() -> None:
    endless = arrivals(Demand(50.0, TIERS), seed=1, from_s=0.0, until_s=1e12)
    assert len(list(islice(endless, 100))) == 100


@given(
    at_s=st.floats(5.0, 50.0),
    factor=st.floats(1.5, 8.0),
    decay_s=st.none() | st.floats(1.0, 50.0),
    seed=st.integers(),
)
def test_a_launch_changes_nothing_before_its_opening(
    at_s: float, factor: float, decay_s: float | None, seed: int
) -> None:
    calm = Demand(10.0, TIERS, shape=rising_day(60.0, seed=2))
    launch = Launch(at_s, factor, decay_s)
    launched = Demand(10.0, TIERS, shape=calm.shape, launches=(launch,))
    assert rate_at(launched, at_s - 1e-6) == rate_at(calm, at_s - 1e-6)
    assert rate_at(launched, at_s) == pytest.approx(factor * rate_at(calm, at_s))
    before = [
        # The tail of microseconds is where the two round apart.
        [a for a in arrivals(d, seed=seed, from_s=0.0, until_s=60.0) if a.at_s < at_s - 1e-6]
        for d in (calm, launched)
    ]
    assert [a.user for a in before[0]] == [a.user for a in before[1]]
    assert [a.at_s for a in before[0]] == pytest.approx([a.at_s for a in before[1]])


def test_a_launch_decays_to_the_forecast() -> None:
    demand = Demand(10.0, TIERS, launches=(Launch(10.0, 5.0, decay_s=20.0),))
    assert rate_at(demand, 10.0) == pytest.approx(50.0)
    assert rate_at(demand, 30.0) == pytest.approx(10.0 * (1 + 4 / 2.718281828))
    assert rate_at(demand, 900.0) == pytest.approx(10.0)


def test_openings_add_their_extra_demand() -> None:
    demand = Demand(10.0, TIERS, launches=(Launch(1.0, 3.0), Launch(2.0, 2.0)))
    assert [rate_at(demand, t_s) for t_s in (0.0, 1.0, 2.0)] == [10.0, 30.0, 40.0]


@pytest.mark.parametrize("cv", [0.5, 1.0, 2.5])
def test_gaps_are_as_bursty_as_asked_for(cv: float) -> None:
    drawn = arrivals(Demand(100.0, TIERS, cv=cv), seed=3, from_s=0.0, until_s=400.0)
    times_s = [a.at_s for a in drawn]
    gaps_s = [b - a for a, b in pairwise(times_s)]
    assert pstdev(gaps_s) / fmean(gaps_s) == pytest.approx(cv, rel=0.05)


def test_tiers_come_by_their_shares() -> None:
    drawn = arrivals(Demand(100.0, TIERS), seed=3, from_s=0.0, until_s=400.0)
    counts = Counter(a.tier for a in drawn)
    for tier, share in TIERS.items():
        assert counts[tier] / counts.total() == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize(("sigma", "cap"), [(0.0, 20.0), (0.7, 20.0), (1.0, 8.0), (1.5, 50.0)])
def test_work_is_heavy_tailed_with_the_mean_one_and_a_cap(sigma: float, cap: float) -> None:
    demand, draw = Demand(1.0, TIERS, work_sigma=sigma, work_cap=cap), Random(11)
    work = sorted(draw_work(demand, draw) for _ in range(60_000))
    assert fmean(work) == pytest.approx(1.0, abs=0.04)
    assert work[-1] <= cap
    if sigma >= 1.0:
        assert sum(work[-6000:]) / sum(work) > 0.3
        assert work[30_000] < 0.8


def test_a_few_users_of_many_ask_most() -> None:
    demand, draw = Demand(1.0, TIERS, users=10_000), Random(11)
    counts = Counter(draw_user(demand, "pro", draw) for _ in range(20_000))
    assert len(counts) > 700
    assert all(name.startswith("pro-") and len(name) == 10 for name in counts)
    assert sum(n for _, n in counts.most_common(100)) > 20_000 * 0.4
    assert counts["pro-000001"] > 10 * counts["pro-000500"]


def test_every_wrong_field_is_told_at_once() -> None:
    with pytest.raises(PlanError) as found:
        Demand(
            0.0,
            {"free": 0.4, "pro": 0.4},
            launches=(Launch(0.0, 0.5, decay_s=-1.0),),
            cv=-1.0,
            work_sigma=9.0,
            work_cap=1.0,
            users=0,
            user_skew=1.0,
        )
    assert len(found.value.mistakes) == 9
    assert found.value.code == "demand"
