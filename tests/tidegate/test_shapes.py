"""Shapes: lines between knots, a mean of one, and the generated day."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import PlanError
from tidegate.shapes import Shape, level, rising_day


@given(seed=st.integers(0, 10_000), length_s=st.floats(10.0, 100_000.0))
def test_a_rising_day_has_the_mean_one_and_rises(seed: int, length_s: float) -> None:
    shape = rising_day(length_s, seed=seed)
    assert shape.mean == pytest.approx(1.0)
    assert shape(length_s) > shape(0.0) * 1.3
    assert 1.1 < shape.peak < 2.5


def test_the_same_seed_makes_the_same_day() -> None:
    assert rising_day(80.0, seed=4) == rising_day(80.0, seed=4)
    assert rising_day(80.0, seed=4) != rising_day(80.0, seed=5)


def test_demand_moves_in_lines_between_knots_and_stays_level_outside() -> None:
    shape = Shape((10.0, 20.0), (1.0, 3.0))
    assert [shape(t_s) for t_s in (0.0, 10.0, 15.0, 20.0, 99.0)] == [1.0, 1.0, 2.0, 3.0, 3.0]
    assert level()(123.0) == level().mean == 1.0


@pytest.mark.parametrize(
    ("times_s", "values"),
    [
        ((), ()),
        ((0.0, 1.0), (1.0,)),
        ((1.0, 0.0), (1.0, 1.0)),
        ((0.0, float("nan")), (1.0, 1.0)),
        ((0.0, 1.0), (1.0, -1.0)),
        ((0.0, 1.0), (0.0, 0.0)),
    ],
)
def test_knots_that_are_no_shape_are_refused(
    times_s: tuple[float, ...], values: tuple[float, ...]
) -> None:
    with pytest.raises(PlanError, match="shape: got"):
        Shape(times_s, values)
