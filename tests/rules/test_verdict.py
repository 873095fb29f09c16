"""What checks say of a stage: pass, fail, or inconclusive."""

from datetime import timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import fresh_readings, reading, unusable_readings
from tidegate.checks import CheckSpec
from tidegate.readings import Reading
from tidegate.rules.verdict import Verdict, judge, judge_queue_wait, judge_value, worst

BELOW_2_S: Final = CheckSpec(name="wait", queue_wait_below=timedelta(seconds=2))
ASKED: Final = CheckSpec(name="looks-right", answer="design")
verdicts = st.sampled_from(Verdict)
PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("wait_s", "verdict"), [(0.0, PASS), (1.999, PASS), (2.0, FAIL), (60.0, FAIL)]
)
def test_a_queue_wait_passes_only_below_its_limit(wait_s: float, verdict: Verdict) -> None:
    assert judge_queue_wait(BELOW_2_S, reading("queue_wait", wait_s)).verdict is verdict


@given(unusable_readings("queue_wait"))
def test_missing_data_is_inconclusive_and_neither_passes_nor_fails(queue_wait: Reading) -> None:
    assert judge_queue_wait(BELOW_2_S, queue_wait).verdict is INCONCLUSIVE


@given(
    shorter=fresh_readings("queue_wait", st.floats(0.0, 10.0)),
    longer=fresh_readings("queue_wait", st.floats(0.0, 10.0)),
)
def test_a_longer_wait_never_turns_a_failure_into_a_pass(shorter: Reading, longer: Reading) -> None:
    assert shorter.value is not None
    assert longer.value is not None
    if shorter.value <= longer.value and judge_queue_wait(BELOW_2_S, shorter).verdict is FAIL:
        assert judge_queue_wait(BELOW_2_S, longer).verdict is FAIL


@pytest.mark.parametrize(
    ("limits", "value", "baseline", "verdict"),
    [
        ({"below": 0.01}, 0.009, None, PASS),
        ({"below": 0.01}, 0.01, None, FAIL),
        ({"above": 4.0}, 4.1, None, PASS),
        ({"above": 4.0}, 4.0, None, FAIL),
        ({"baseline": "b", "worseBy": "10%"}, 1.1, 1.0, PASS),
        ({"baseline": "b", "worseBy": "10%"}, 1.11, 1.0, FAIL),
        ({"baseline": "b", "worseBy": "0%"}, 0.0, 0.0, PASS),
        ({"baseline": "b", "worseBy": "10%"}, 0.0, None, INCONCLUSIVE),
    ],
)
def test_a_query_is_held_against_its_limit_or_its_baseline(
    limits: dict[str, object], value: float, baseline: float | None, verdict: Verdict
) -> None:
    check = CheckSpec.model_validate({"name": "errors", "query": "q", **limits})
    assert judge_value(check, value, baseline).verdict is verdict


def test_of_several_tiers_the_worst_counts_and_a_failure_before_a_gap() -> None:
    looks = [judge_queue_wait(BELOW_2_S, reading("queue_wait", wait_s)) for wait_s in (1.0, 3.0)]
    assert worst(looks).reason == "queue wait is 3 s, limit 2 s"


@given(st.lists(verdicts, max_size=8))
def test_only_failures_in_a_row_fail_and_what_flaps_is_inconclusive(looks: list[Verdict]) -> None:
    verdict = judge([BELOW_2_S], {"wait": looks}, {})
    if looks[-3:] == [FAIL] * 3:
        assert verdict is FAIL
    elif looks[-1:] == [PASS]:
        assert verdict is PASS
    else:
        assert verdict is INCONCLUSIVE


@given(st.lists(verdicts, max_size=4))
def test_a_dry_run_decides_nothing(looks: list[Verdict]) -> None:
    dry = BELOW_2_S.model_copy(update={"dry_run": True})
    assert judge([dry], {"wait": looks}, {}) is PASS


def test_a_person_s_word_counts_at_once_and_none_is_inconclusive() -> None:
    assert judge([ASKED], {}, {}) is INCONCLUSIVE
    assert judge([ASKED], {}, {"looks-right": True}) is PASS
    assert judge([ASKED, BELOW_2_S], {"wait": [PASS]}, {"looks-right": False}) is FAIL


@given(st.lists(verdicts, max_size=4), st.sampled_from([True, False, None]))
def test_one_check_more_never_makes_a_verdict_better(
    looks: list[Verdict], answer: bool | None
) -> None:
    order = [PASS, INCONCLUSIVE, FAIL]
    answers = {} if answer is None else {"looks-right": answer}
    alone = judge([BELOW_2_S], {"wait": looks}, answers)
    assert order.index(judge([BELOW_2_S, ASKED], {"wait": looks}, answers)) >= order.index(alone)


def test_a_stage_without_checks_passes_by_its_bake_time() -> None:
    assert judge([], {}, {}) is PASS
