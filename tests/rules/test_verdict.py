"""What a check says of a stage: pass, fail, or inconclusive."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import any_readings, fresh_readings, reading, unusable_readings
from tidegate.plans import CheckSpec
from tidegate.readings import Reading
from tidegate.rules.verdict import Verdict, judge

BELOW_2_S = CheckSpec(queue_wait_below=timedelta(seconds=2))


@pytest.mark.parametrize(
    ("wait_s", "verdict"),
    [(0.0, Verdict.PASS), (1.999, Verdict.PASS), (2.0, Verdict.FAIL), (60.0, Verdict.FAIL)],
)
def test_a_stage_passes_only_below_its_limit(wait_s: float, verdict: Verdict) -> None:
    assert judge(BELOW_2_S, reading("queue_wait", wait_s)) is verdict


@given(unusable_readings("queue_wait"))
def test_missing_data_is_inconclusive_and_neither_passes_nor_fails(queue_wait: Reading) -> None:
    assert judge(BELOW_2_S, queue_wait) is Verdict.INCONCLUSIVE


@given(any_readings("queue_wait", st.floats(0.0, 100.0)))
def test_a_stage_without_a_check_passes_by_its_bake_time(queue_wait: Reading) -> None:
    assert judge(None, queue_wait) is Verdict.PASS


@given(
    shorter=fresh_readings("queue_wait", st.floats(0.0, 10.0)),
    longer=fresh_readings("queue_wait", st.floats(0.0, 10.0)),
)
def test_a_longer_wait_never_turns_a_failure_into_a_pass(shorter: Reading, longer: Reading) -> None:
    assert shorter.value is not None
    assert longer.value is not None
    if shorter.value <= longer.value and judge(BELOW_2_S, shorter) is Verdict.FAIL:
        assert judge(BELOW_2_S, longer) is Verdict.FAIL
