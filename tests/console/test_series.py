from hypothesis import given
from hypothesis import strategies as st

from console.series import Series, summed

readings = st.lists(st.one_of(st.none(), st.floats(0, 1e6)), max_size=300)


def test_a_level_keeps_its_changes_alone() -> None:
    series = Series(keep_s=60)
    for at, value in enumerate((1.0, 1.0, 2.0, 2.0, None, None, 2.0)):
        series.level(float(at), value)
    assert list(series.points) == [(0.0, 1.0), (2.0, 2.0), (4.0, None), (6.0, 2.0)]


def test_a_level_holds_until_now() -> None:
    series = Series(keep_s=60)
    series.level(0.0, 3.0)
    assert series.until(10.0) == ((0.0, 3.0), (10.0, 3.0))


def test_the_level_that_held_when_the_window_began_is_kept() -> None:
    series = Series(keep_s=60)
    series.level(0.0, 3.0)
    series.level(30.0, 4.0)
    series.level(100.0, 5.0)
    assert list(series.points) == [(30.0, 4.0), (100.0, 5.0)]


def test_a_change_told_late_is_placed_no_earlier_than_the_one_before() -> None:
    series = Series(keep_s=60)
    series.level(10.0, 1.0)
    series.level(8.0, 2.0)
    assert list(series.points) == [(10.0, 1.0), (10.0, 2.0)]


@given(readings)
def test_a_series_is_bounded(values: list[float | None]) -> None:
    series = Series(keep_s=30)
    for at, value in enumerate(values):
        series.sample(float(at), value)
    assert len(series.points) <= 32


@given(readings, st.integers(10, 50))
def test_thinning_invents_nothing_and_keeps_holes(values: list[float | None], most: int) -> None:
    series = Series(keep_s=1000)
    for at, value in enumerate(values):
        series.sample(float(at), value)
    thinned = series.thinned(most)
    assert len(thinned) <= most + 1
    known = [value for value in values if value is not None]
    for _, value in thinned:
        assert value is None or min(known) * 0.999 <= value <= max(known) * 1.001
    if not known:
        assert all(value is None for _, value in thinned)


def test_levels_add_up_where_both_are_known() -> None:
    ready = ((0.0, 2.0), (10.0, 4.0))
    loading = ((5.0, 1.0), (10.0, 0.0), (12.0, None))
    assert summed(ready, loading) == ((0.0, None), (5.0, 3.0), (10.0, 4.0), (12.0, None))
