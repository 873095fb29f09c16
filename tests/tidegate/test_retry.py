"""Coming back spread out."""

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.tidegate.snapshots import texts
from tidegate.rules.retry import JITTER, come_back_in_s

waits = st.floats(0.0, 1e6)
versions = st.integers(0, 2**53)


@given(waits, texts, versions)
def test_the_wait_is_at_least_a_second_and_within_a_quarter_of_what_was_said(
    retry_after_s: float, user: str, version: int
) -> None:
    wait_s = come_back_in_s(retry_after_s, user, version)
    assert wait_s >= 1
    assert wait_s >= math.floor(retry_after_s * (1 - JITTER))
    assert wait_s <= max(1, math.ceil(retry_after_s * (1 + JITTER)))


@given(waits, texts, versions)
def test_the_same_question_to_the_same_snapshot_has_the_same_answer(
    retry_after_s: float, user: str, version: int
) -> None:
    assert come_back_in_s(retry_after_s, user, version) == come_back_in_s(
        retry_after_s, user, version
    )


def test_users_are_spread_and_come_back_on_average_when_said() -> None:
    waits_s = Counter(come_back_in_s(8.0, f"user-{n}", 7) for n in range(5_000))
    assert set(waits_s) == {6, 7, 8, 9, 10}
    assert abs(sum(s * n for s, n in waits_s.items()) / 5_000 - 8.0) < 0.1


def test_even_a_short_wait_is_spread() -> None:
    assert len({come_back_in_s(2.0, f"user-{n}", 7) for n in range(200)}) == 3


def test_who_waits_longest_changes_with_the_snapshot() -> None:
    by_version = {come_back_in_s(8.0, "ada", version) for version in range(50)}
    assert len(by_version) > 2
