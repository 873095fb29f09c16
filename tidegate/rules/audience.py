"""Who a feature is meant for: typed comparisons of what the caller says of a user."""

import re
from collections.abc import Callable, Iterator
from typing import Final

from tidegate.audience import AttributeTest, AudienceSpec
from tidegate.rules.outcome import Attributes

Test = Callable[[Attributes], bool]
"""Says whether a user's attributes pass; a missing one, or one of another type, never does."""

_VERSION: Final = re.compile(r"v?(\d{1,9}(?:\.\d{1,9}){0,3})(-[0-9A-Za-z.-]+)?(?:\+.*)?")
_PARTS: Final = 4


def compile_audience(audience: AudienceSpec) -> tuple[Test, ...]:
    """Turn an audience into its tests, all of which must pass."""
    tests: list[Test] = []
    if audience.regions:
        regions = frozenset(audience.regions)
        tests.append(lambda said: _text(said.get("region")) in regions)
    if audience.cohorts:
        cohorts = frozenset(audience.cohorts)
        tests.append(lambda said: not cohorts.isdisjoint(cohorts_of(said)))
    if audience.app_version is not None:
        low, high = audience.app_version.at_least, audience.app_version.below
        tests.append(_version_between(low, high))
    for attribute in audience.attributes:
        tests.extend(_comparisons(attribute))
    return tuple(tests)


def cohorts_of(said: Attributes) -> frozenset[str]:
    """Return the cohorts that the caller names; anything but a list of texts is none."""
    named = said.get("cohorts")
    if not isinstance(named, (list, tuple)):
        return frozenset()
    return frozenset(cohort for cohort in named if isinstance(cohort, str))


def version_key(text: object) -> tuple[tuple[int, ...], bool] | None:
    """Read a version such as 2.10.0-rc.1 so that it compares by its numbers; None if it is none.

    A pre-release comes before its release; two pre-releases of one release compare equal.
    """
    match = _VERSION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    numbers = [int(part) for part in match[1].split(".")]
    return (*numbers, *[0] * (_PARTS - len(numbers))), match[2] is None


def _version_between(low: str | None, high: str | None) -> Test:
    at_least, below = version_key(low), version_key(high)

    def is_between(said: Attributes) -> bool:
        version = version_key(said.get("appVersion"))
        if version is None:
            return False
        return (at_least is None or version >= at_least) and (below is None or version < below)

    return is_between


def _comparisons(test: AttributeTest) -> Iterator[Test]:
    name = test.name
    if test.any_of:
        yield _listed(name, test.any_of, wanted=True)
    if test.none_of:
        yield _listed(name, test.none_of, wanted=False)
    if test.at_least is not None or test.below is not None:
        yield _between(name, test.at_least, test.below)


def _listed(name: str, values: tuple[bool | int | str, ...], *, wanted: bool) -> Test:
    # The type is compared as well: to Python, 1 is True.
    listed = frozenset((type(value), value) for value in values)

    def is_as_wanted(said: Attributes) -> bool:
        value = said.get(name)
        if not isinstance(value, (str, bool, int)):
            return False
        return ((type(value), value) in listed) is wanted

    return is_as_wanted


def _between(name: str, low: float | None, high: float | None) -> Test:
    def is_between(said: Attributes) -> bool:
        value = said.get(name)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return False
        # NaN is in no range: it compares with nothing, and one bound at least is given.
        return (low is None or value >= low) and (high is None or value < high)

    return is_between


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
