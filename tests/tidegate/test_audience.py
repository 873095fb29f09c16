"""Typed comparisons: what is not said of a user, or said in another type, never passes."""

import math
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.tidegate.snapshots import attributes, texts
from tidegate.audience import AudienceSpec, LayerSlice
from tidegate.rules.audience import compile_audience, version_key

DE: Final = {"name": "country", "anyOf": ["de"]}


def is_in(audience: dict[str, object], said: dict[str, object]) -> bool:
    tests = compile_audience(AudienceSpec.model_validate(audience))
    return all(passes(said) for passes in tests)


@pytest.mark.parametrize(
    ("audience", "said", "expected"),
    [
        ({"regions": ["eu"]}, {"region": "eu"}, True),
        ({"regions": ["eu"]}, {"region": "us"}, False),
        ({"regions": ["eu"]}, {"region": ["eu"]}, False),
        ({"cohorts": ["beta", "staff"]}, {"cohorts": ["x", "staff"]}, True),
        ({"cohorts": ["beta"]}, {"cohorts": "beta"}, False),
        ({"cohorts": ["beta"]}, {"cohorts": [["beta"], 1]}, False),
        ({"attributes": [DE]}, {"country": "de"}, True),
        ({"attributes": [{"name": "n", "anyOf": [1]}]}, {"n": 1}, True),
        ({"attributes": [{"name": "n", "anyOf": [1]}]}, {"n": True}, False),
        ({"attributes": [{"name": "n", "anyOf": [True]}]}, {"n": 1}, False),
        ({"attributes": [{"name": "n", "anyOf": ["1"]}]}, {"n": 1}, False),
        ({"attributes": [{"name": "n", "noneOf": ["gb"]}]}, {"n": "de"}, True),
        ({"attributes": [{"name": "n", "noneOf": ["gb"]}]}, {"n": "gb"}, False),
        ({"attributes": [{"name": "n", "atLeast": 10, "below": 20}]}, {"n": 10}, True),
        ({"attributes": [{"name": "n", "atLeast": 10, "below": 20}]}, {"n": 19.5}, True),
        ({"attributes": [{"name": "n", "atLeast": 10, "below": 20}]}, {"n": 20}, False),
        ({"attributes": [{"name": "n", "atLeast": 10}]}, {"n": "11"}, False),
        ({"attributes": [{"name": "n", "atLeast": 0}]}, {"n": True}, False),
        ({"attributes": [{"name": "n", "below": 10}]}, {"n": math.nan}, False),
        ({"appVersion": {"atLeast": "2.9"}}, {"appVersion": "2.10.0"}, True),
        ({"appVersion": {"atLeast": "2.9"}}, {"appVersion": "2.9.0-rc.1"}, False),
        ({"appVersion": {"below": "3.0.0"}}, {"appVersion": "3.0.0-rc.1"}, True),
        ({"appVersion": {"atLeast": "2.9"}}, {"appVersion": "newest"}, False),
        ({"appVersion": {"atLeast": "2.9"}}, {"appVersion": 3}, False),
        ({"regions": ["eu"], "attributes": [DE]}, {"region": "eu", "country": "fr"}, False),
    ],
)
def test_each_comparison_compares_what_it_says(
    audience: dict[str, object], said: dict[str, object], *, expected: bool
) -> None:
    assert is_in(audience, said) is expected


@pytest.mark.parametrize(
    "audience",
    [
        {"regions": ["eu"]},
        {"cohorts": ["beta"]},
        {"appVersion": {"atLeast": "1.0"}},
        {"appVersion": {"below": "9.0"}},
        {"attributes": [DE]},
        {"attributes": [{"name": "n", "noneOf": ["gb"]}]},
        {"attributes": [{"name": "n", "below": 10}]},
    ],
)
def test_what_is_not_said_of_a_user_never_passes(audience: dict[str, object]) -> None:
    assert not is_in(audience, {})


@given(texts, attributes)
def test_no_text_and_no_attribute_makes_a_comparison_fail(
    text: str, said: dict[str, object]
) -> None:
    version_key(text)
    audience = {
        "regions": ["eu"],
        "cohorts": ["beta"],
        "appVersion": {"atLeast": "2.0"},
        "attributes": [DE, {"name": "seats", "atLeast": 10}, {"name": "plan", "noneOf": [1]}],
    }
    for passes in compile_audience(AudienceSpec.model_validate(audience)):
        assert passes(said) in {True, False}


@given(st.lists(st.integers(0, 999), min_size=1, max_size=4), st.data())
def test_versions_are_ordered_by_their_numbers(numbers: list[int], data: st.DataObject) -> None:
    others = data.draw(st.lists(st.integers(0, 999), min_size=len(numbers), max_size=len(numbers)))
    one, other = (version_key(".".join(map(str, each))) for each in (numbers, others))
    assert one is not None
    assert other is not None
    assert (one < other) is (numbers < others)


@pytest.mark.parametrize(
    "wrong",
    [
        {"attributes": [{"name": "n"}]},
        {"attributes": [{"name": "", "anyOf": ["de"]}]},
        {"attributes": [{"name": "n", "anyOf": [1.5]}]},
        {"attributes": [{"name": "n", "atLeast": "nan"}]},
        {"appVersion": {"atLeast": "newest"}},
    ],
)
def test_a_comparison_that_could_not_be_meant_is_refused_on_load(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AudienceSpec.model_validate(wrong)


def test_a_part_of_a_layer_ends_above_its_start() -> None:
    with pytest.raises(ValidationError, match="above the start"):
        LayerSlice(name="labs", start=0.5, end=0.5)
