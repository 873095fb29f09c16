"""Readings are fresh, stale or absent, and never zero when absent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import fresh_readings, unusable_readings
from tidegate.readings import Freshness, Reading


@pytest.mark.parametrize(
    ("value", "age_s", "freshness"),
    [
        (0.0, 0.0, Freshness.FRESH),
        (3.0, 15.0, Freshness.FRESH),
        (3.0, 15.1, Freshness.STALE),
        (None, 1.0, Freshness.ABSENT),
        (3.0, None, Freshness.ABSENT),
        (None, None, Freshness.ABSENT),
        (float("nan"), 1.0, Freshness.ABSENT),
        (float("inf"), 1.0, Freshness.ABSENT),
        (3.0, float("nan"), Freshness.ABSENT),
    ],
)
def test_a_reading_is_fresh_up_to_its_limit_and_absent_without_a_number(
    value: float | None, age_s: float | None, freshness: Freshness
) -> None:
    assert Reading("queue_wait", value, age_s, 15.0).freshness is freshness


@given(fresh_readings("demand", st.floats(0.0, 1e9)))
def test_a_fresh_reading_gives_its_value_zero_included(demand: Reading) -> None:
    assert demand.fresh_value == demand.value


@given(unusable_readings("demand"))
def test_a_stale_or_absent_reading_gives_no_value_rather_than_zero(demand: Reading) -> None:
    assert demand.fresh_value is None


def test_a_reading_says_what_is_wrong_with_it_as_an_operator_reads_it() -> None:
    stale = Reading("queue wait", 2.0, 47.2, 15.0)
    assert stale.explain() == "queue wait was read 47 s ago, limit 15 s"
    assert Reading("demand", None, None, 15.0).explain() == "demand is absent"
    assert Reading("demand", 0.0, 1.0, 15.0).explain() == "demand is fresh"
