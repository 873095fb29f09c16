"""Sticky shares: who is in stays in."""

import math
from collections import Counter

import pytest
from hypothesis import given

from tests.tidegate.snapshots import any_float, shares, texts, users
from tidegate.rules.exposure import FULL, is_exposed, place, threshold


@given(users, shares, shares)
def test_raising_exposure_drops_nobody(user: str, one: float, other: float) -> None:
    low, high = sorted([one, other])
    assert not is_exposed("image", user, low) or is_exposed("image", user, high)


@given(users)
def test_nobody_is_in_at_nothing_and_everybody_at_all(user: str) -> None:
    assert not is_exposed("image", user, 0.0)
    assert is_exposed("image", user, 1.0)


@given(texts, texts)
def test_any_text_has_a_place_and_it_never_moves(salt: str, user: str) -> None:
    assert 0 <= place(salt, user) < FULL
    assert place(salt, user) == place(salt, user)


def test_places_stay_where_earlier_releases_put_them() -> None:
    """A change of hash would reshuffle every rollout that is under way."""
    assert place("image", "ada") == 12_854_028_428_815_195_980
    assert place("image", "grace") == 18_298_729_426_004_917_145


@given(any_float)
def test_no_number_makes_a_threshold_fail_or_leave_its_range(share: float) -> None:
    assert 0 <= threshold(share) <= FULL


@pytest.mark.parametrize(
    ("share", "expected"),
    [(math.nan, 0), (-0.5, 0), (math.inf, FULL), (2.0, FULL), (0.5, FULL // 2)],
)
def test_a_share_out_of_range_is_clipped_and_no_number_lets_nobody_in(
    share: float, expected: int
) -> None:
    assert threshold(share) == expected


@pytest.mark.parametrize("share", [0.001, 0.025, 0.5, 0.9])
def test_a_share_of_users_is_that_share(share: float) -> None:
    count = 40_000
    inside = sum(is_exposed("image", f"user-{n}", share) for n in range(count))
    deviation = math.sqrt(share * (1 - share) / count)
    assert inside / count == pytest.approx(share, abs=4.5 * deviation)


def test_a_thousandth_of_a_percent_lets_some_in() -> None:
    inside = sum(is_exposed("image", f"user-{n}", 0.00001) for n in range(400_000))
    assert 0 < inside < 20


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_features_draw_independently(share: float) -> None:
    users_of_image = {n for n in range(10_000) if is_exposed("image", str(n), share)}
    both = sum(is_exposed("video", str(n), share) for n in users_of_image)
    assert both / len(users_of_image) == pytest.approx(share, abs=0.08)


@pytest.mark.parametrize("pair", [("image", "video"), ("a", "b"), ("image", "image-2")])
def test_buckets_of_two_features_are_independent_by_chi_square(pair: tuple[str, str]) -> None:
    """Ten by ten buckets of 100,000 users, against what independence expects.

    With 81 degrees of freedom chi-square is beyond 137 once in ten thousand draws.
    """
    users = 100_000
    tenth = FULL // 10
    seen = Counter(
        (place(pair[0], f"user-{n}") // tenth, place(pair[1], f"user-{n}") // tenth)
        for n in range(users)
    )
    rows, columns = (Counter[int](), Counter[int]())
    for (row, column), count in seen.items():
        rows[min(row, 9)] += count
        columns[min(column, 9)] += count
    chi_square = sum(
        (seen[row, column] - rows[row] * columns[column] / users) ** 2
        / (rows[row] * columns[column] / users)
        for row in range(10)
        for column in range(10)
    )
    assert chi_square < 137.0


def test_buckets_of_one_feature_are_even_by_chi_square() -> None:
    """A hundred buckets, 99 degrees of freedom: beyond 160 once in ten thousand draws."""
    users = 100_000
    seen = Counter(place("image", f"user-{n}") * 100 // FULL for n in range(users))
    assert sum((seen[b] - 1_000) ** 2 / 1_000 for b in range(100)) < 160.0
