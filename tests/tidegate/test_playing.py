"""Playing a trace: the window, the speed, and thinning to what the stage can serve."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.demand import Demand, Launch, rate_at
from tidegate.errors import PlanError
from tidegate.playing import thin
from tidegate.traces import Trace, read_trace

DATA = Path(__file__).parents[3] / "shared" / "data"
TIERS = {"free": 0.6, "plus": 0.4}


def trace_of(rates_rps: list[float], dispersion: float = 9.0) -> Trace:
    return Trace("made", 600.0, tuple(rates_rps), (dispersion,) * len(rates_rps))


@given(
    rates_rps=st.lists(st.floats(0.01, 1000.0), min_size=1, max_size=40),
    max_rps=st.floats(1.0, 500.0),
    length_s=st.floats(10.0, 200.0),
    factor=st.floats(1.0, 10.0),
    speed=st.floats(1.0, 500.0),
)
def test_thinning_never_passes_the_most_that_can_be_served(
    rates_rps: list[float], max_rps: float, length_s: float, factor: float, speed: float
) -> None:
    trace = trace_of(rates_rps)
    played = thin(trace, max_rps=max_rps, length_s=length_s, factor=factor, speed=speed)
    demand = Demand(
        played.forecast_rps,
        TIERS,
        shape=played.shape,
        launches=(Launch(length_s / 4.0, factor),),
        cv=played.cv,
    )
    assert demand.peak_rps <= max_rps * (1 + 1e-9)
    for step in range(101):
        assert rate_at(demand, length_s * step / 100.0) <= max_rps * (1 + 1e-9)
    assert 0.0 < played.kept <= 1.0
    assert played.speed <= speed
    assert played.window.length_s == pytest.approx(length_s * played.speed)


def test_the_forecast_is_the_mean_of_the_played_window_after_thinning() -> None:
    trace = trace_of([1.0, 1.0, 4.0, 8.0, 1.0])
    played = thin(trace, max_rps=60.0, length_s=10.0, factor=3.0, speed=120.0)
    assert (played.window.from_s, played.window.to_s) == (1200.0, 2400.0)
    mean_rps = trace.mean_rps(1200.0, 2400.0) * played.speed * played.kept
    assert played.forecast_rps == pytest.approx(mean_rps)
    assert played.forecast_rps * played.shape.peak * 3.0 == pytest.approx(60.0)


def test_a_short_trace_is_played_slower_and_says_so() -> None:
    played = thin(trace_of([1.0, 2.0]), max_rps=60.0, length_s=80.0, factor=2.0, speed=240.0)
    assert played.speed == 1200.0 / 80.0
    assert played.window.length_s == 1200.0


def test_thinning_never_adds_requests() -> None:
    played = thin(trace_of([0.1] * 10), max_rps=150.0, length_s=60.0, factor=2.0, speed=10.0)
    assert played.kept == 1.0
    assert played.forecast_rps == pytest.approx(1.0)
    assert played.cv == pytest.approx(3.0)


def test_few_of_many_requests_come_almost_as_poisson() -> None:
    played = thin(trace_of([500.0] * 10), max_rps=150.0, length_s=60.0, factor=2.0, speed=100.0)
    assert played.cv == pytest.approx(1.0, abs=0.02)


def test_every_wrong_figure_is_told_at_once() -> None:
    with pytest.raises(PlanError) as found:
        thin(trace_of([1.0]), max_rps=0.0, length_s=-1.0, factor=1.0, speed=float("inf"))
    assert len(found.value.mistakes) == 3


def test_the_shared_traces_play_on_a_small_stage() -> None:
    for file in sorted(DATA.glob("*.csv.gz")):
        played = thin(read_trace(file), max_rps=150.0, length_s=80.0, factor=4.0, speed=240.0)
        assert played.forecast_rps * played.shape.peak * 4.0 <= 150.0 + 1e-6, file
        assert played.forecast_rps > 15.0, file
