"""Coming back spread out."""

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.tidegate.snapshots import texts
from tidegate.rules.retry import JITTER, Spared, come_back_in_s

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


@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 30.0)), min_size=1))
def test_nobody_is_spared_whom_a_ceiling_refused_who_may_still_come_back(
    gates: list[tuple[float, float]],
) -> None:
    spared = Spared()
    shares = [spared.share(*gate, float(at)) for at, gate in enumerate(gates)]
    for now, share in enumerate(shares):
        latest = [
            (at + retry_after_s * (1.0 + JITTER), ceiling)
            for at, (ceiling, retry_after_s) in enumerate(gates[: now + 1])
        ]
        assert all(share <= ceiling for back_by, ceiling in latest if back_by >= now)


def test_everybody_is_spared_again_once_those_refused_have_had_twice_their_wait() -> None:
    spared = Spared()
    assert spared.share(0.4, 10.0, 0.0) == 0.4
    assert spared.share(0.7, 1.0, 1.0) == 0.4, "the lower one may still be felt"
    assert spared.share(0.2, 1.0, 15.0) == 0.2
    assert spared.share(1.0, 1.0, 19.5) == 0.4, "and longer than a later one"
    assert spared.share(1.0, 1.0, 22.5) == 1.0
