"""What a user would have to be for an audience to be meant for them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tidegate.audience import AttributeTest, AudienceSpec, VersionRange
from tidegate.rules.audience import Test, cohorts_of, compile_audience
from tidegate.rules.outcome import Attributes

_EARLIEST: Final = "0"
_OTHERS: Final = ("another", 0, 1, -1, True, False)


@dataclass(frozen=True, slots=True)
class Fit:
    """A user's attributes, changed until an audience is meant for them, and the change in words."""

    attributes: Attributes
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Value:
    """A value that an attribute may take, and how that is said."""

    name: str
    value: object
    words: str


def fit(audience: AudienceSpec, said: Attributes) -> Fit | None:
    """Change what does not pass and nothing else; None where no change is known that does."""
    fitted, words = dict(said), []
    for part in _parts(audience):
        tests = compile_audience(part)
        if _passes(tests, fitted):
            continue
        for value in _values(part, fitted):
            if _passes(tests, {**fitted, value.name: value.value}):
                fitted[value.name] = value.value
                words.append(value.words)
                break
    # Two parts may ask for the same attribute, and then no value need do for both.
    return Fit(fitted, tuple(words)) if _passes(compile_audience(audience), fitted) else None


def in_cohort(cohort: str, said: Attributes) -> Fit:
    """Return the attributes of the same user in one cohort more."""
    cohorts = [*sorted(cohorts_of(said)), cohort]
    return Fit({**said, "cohorts": cohorts}, (f"in cohort {cohort}",))


def _passes(tests: tuple[Test, ...], said: Attributes) -> bool:
    return all(passes(said) for passes in tests)


def _parts(audience: AudienceSpec) -> Iterator[AudienceSpec]:
    """Split an audience so that each part asks for one attribute."""
    if audience.regions:
        yield AudienceSpec(regions=audience.regions)
    if audience.cohorts:
        yield AudienceSpec(cohorts=audience.cohorts)
    if audience.app_version is not None:
        yield AudienceSpec(app_version=audience.app_version)
    for name in dict.fromkeys(test.name for test in audience.attributes):
        tests = tuple(test for test in audience.attributes if test.name == name)
        yield AudienceSpec(attributes=tests)


def _values(part: AudienceSpec, said: Attributes) -> Iterator[_Value]:
    for region in part.regions:
        yield _Value("region", region, f"in region {region}")
    for cohort in part.cohorts:
        joined = in_cohort(cohort, said)
        yield _Value("cohorts", joined.attributes["cohorts"], joined.words[0])
    if part.app_version is not None:
        yield _version(part.app_version)
    if len(part.attributes) == 1 and (of_all := _in_general(part.attributes[0])) is not None:
        yield of_all
    for test in part.attributes:
        for value in _particular(test):
            shown = f"{value:g}" if isinstance(value, float) else json.dumps(value)
            yield _Value(test.name, value, f"with {test.name} {shown}")


def _version(between: VersionRange) -> _Value:
    low, high = between.at_least, between.below
    if low is None:
        return _Value("appVersion", _EARLIEST, f"before app version {high}")
    up_to = "" if high is None else f" and before {high}"
    return _Value("appVersion", low, f"from app version {low}{up_to}")


def _in_general(test: AttributeTest) -> _Value | None:
    """Return a value with words that hold for every other that passes; None for a mixed test."""
    name, low, high = test.name, test.at_least, test.below
    if test.none_of and not test.any_of and low is None and high is None:
        others = " or ".join(json.dumps(value) for value in test.none_of)
        return _Value(name, _other_than(test), f"with {name} other than {others}")
    if test.any_of or test.none_of:
        return None
    if low is None:
        return _Value(name, (high or 0.0) - 1.0, f"with {name} below {high:g}")
    below = "" if high is None else f" and below {high:g}"
    return _Value(name, low, f"with {name} at least {low:g}{below}")


def _other_than(test: AttributeTest) -> str:
    other = "other"
    while other in test.none_of:
        other += "-"
    return other


def _particular(test: AttributeTest) -> Iterator[object]:
    yield from test.any_of
    if test.at_least is not None:
        yield test.at_least
    if test.below is not None:
        yield test.below - 1.0
    if test.none_of:
        yield from _OTHERS
