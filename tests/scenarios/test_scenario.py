"""A scenario as it is written: what is read of it, and how its mistakes are told."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scenarios.scenario import FOLDER, Clock, ScenarioSpec, StoryClock, load_scenario
from tidegate.errors import PlanError

WRITTEN: Final = yaml.safe_load((FOLDER / "launch-day.yaml").read_text())

instants = st.datetimes(
    datetime(2020, 1, 1),  # noqa: DTZ001 - Hypothesis adds the zone
    datetime(2035, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
clocks = st.builds(
    lambda starts_at, length, speed: Clock(
        starts_at=starts_at, ends_at=starts_at + length, speed=speed
    ),
    instants,
    st.timedeltas(timedelta(seconds=1), timedelta(days=400)),
    st.floats(0.5, 100_000.0),
)


@pytest.fixture
def load(tmp_path: Path) -> Callable[[object], ScenarioSpec]:
    """Read whatever is given as a scenario's file: text as it is, anything else as YAML."""

    def written(document: object) -> ScenarioSpec:
        text = document if isinstance(document, str) else yaml.safe_dump(document)
        (tmp_path / "story.yaml").write_text(text)
        return load_scenario(str(tmp_path / "story"))

    return written


def changed(**changes: object) -> dict[str, Any]:
    """Return the launch day with other fields of its spec; a dot in a name is written `__`."""
    document: dict[str, Any] = yaml.safe_load(yaml.safe_dump(WRITTEN))
    for path, value in changes.items():
        holder = document["spec"]
        *above, last = path.split("__")
        for part in above:
            holder = holder[part]
        holder[last] = value
    return document


def mistakes(load: Callable[[object], ScenarioSpec], document: object) -> tuple[str, ...]:
    with pytest.raises(PlanError) as found:
        load(document)
    return found.value.mistakes


def test_every_scenario_of_the_folder_loads() -> None:
    names = [path.stem for path in FOLDER.glob("*.yaml") if not path.stem.endswith("-plan")]
    assert "launch-day" in names
    for name in names:
        assert load_scenario(name).clock.length_s > 0.0


def test_a_scenario_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(PlanError) as found:
        load_scenario("lunch-day")
    names = sorted(p.stem for p in FOLDER.glob("*.yaml") if not p.stem.endswith("-plan"))
    told = f'scenario "lunch-day": there is no lunch-day.yaml. There is {", ".join(names)}.'
    assert str(found.value) == told


ALL_AT_ONCE: Final = (
    (
        'story.yaml: spec.clock.startsAt: got "2026-03-04", expected an instant with its zone. '
        'Write it like "2026-03-04T09:00:00Z".'
    ),
    "story.yaml: spec.clock.speed: got 0, expected more than 0. Raise it.",
    (
        "story.yaml: spec.demand.tiers.free: got 0.5, expected 0% to 100%. "
        'Write the share reached, such as "2.5%".'
    ),
    (
        'story.yaml: spec.demand.tiers.pro: got "110%", expected 0% to 100%. '
        'Write the share reached, such as "2.5%".'
    ),
    'story.yaml: spec.demand.maxRps: got "many", expected a number. Write digits, such as 2.5.',
    (
        'story.yaml: spec.pools[0].service: got "435", expected a duration. '
        'Write a number and a unit, such as "90s", "36h" or "1h30m".'
    ),
    (
        'story.yaml: spec.supply.installed: got "half", expected a share of the forecast. '
        'Write it like "150%".'
    ),
    (
        "story.yaml: spec.supply.arrivals[0].gpus: got 1.5, expected a share of the forecast. "
        'Write it like "150%".'
    ),
    (
        'story.yaml: spec.holds[0]: got "events-have-no-gaps", expected an assertion. '
        'Write "events-have-no-gap".'
    ),
    (
        "story.yaml: spec.endWith: got an unknown field, expected a known one. "
        'Did you mean "endsWith"?'
    ),
)


def test_all_mistakes_are_told_at_once_each_with_its_place(
    load: Callable[[object], ScenarioSpec],
) -> None:
    document = changed(
        clock__startsAt="2026-03-04",
        clock__speed=0,
        demand__tiers={"pro": "110%", "free": 0.5},
        demand__maxRps="many",
        pools=[{"name": "image", "slots": 4, "service": "435"}],
        supply__installed="half",
        supply__arrivals=[{"at": "2026-03-04T12:00:00Z", "gpus": 1.5}],
        holds=["events-have-no-gaps"],
        endWith="rollout.finished",
    )
    del document["spec"]["endsWith"]
    assert mistakes(load, document) == ALL_AT_ONCE


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ("", "story.yaml: got nothing, expected one manifest of kind Scenario"),
        ("- a\n- b\n", "story.yaml: got None, expected one manifest of kind Scenario"),
        ("kind: Tier", "story.yaml: got Tier, expected one manifest of kind Scenario"),
        ("kind: Scenario\n---\nkind: Scenario", "story.yaml: got Scenario, Scenario, expected one"),
        ("kind: Scenario\nspec: [", "story.yaml: line 2: got what is no YAML"),
        ("kind: Scenario\nkind: Scenario", 'story.yaml: line 2: got what is no YAML ("kind" is'),
    ],
)
def test_a_file_that_is_no_scenario_is_told_in_one_line(
    load: Callable[[object], ScenarioSpec], document: str, told: str
) -> None:
    (line,) = mistakes(load, document)
    assert line.startswith(told)


@pytest.mark.parametrize("supply", [None, [], "all", {"installed": "100%", "arrivals": None}])
def test_supply_of_any_other_form_is_a_mistake_and_no_crash(
    load: Callable[[object], ScenarioSpec], supply: object
) -> None:
    assert mistakes(load, changed(supply=supply))[0].startswith("story.yaml: spec.supply")


def test_a_story_ends_after_it_starts(load: Callable[[object], ScenarioSpec]) -> None:
    document = changed(clock__endsAt="2026-03-04T10:00:00Z")
    assert mistakes(load, document) == (
        (
            'story.yaml: spec.clock.endsAt: got "2026-03-04T10:00:00Z", expected later than '
            '"startsAt", which is 2026-03-04T10:00:00+00:00. Swap the two.'
        ),
    )


def test_two_assertions_in_one_item_are_a_mistake(load: Callable[[object], ScenarioSpec]) -> None:
    both = {"stage-waits-for-gpus": "free-first", "opens-fully": ["pro"]}
    (line,) = mistakes(load, changed(holds=[both]))
    assert "expected one assertion an item" in line


def test_a_share_of_the_forecast_may_be_more_than_all_of_it(
    load: Callable[[object], ScenarioSpec],
) -> None:
    supply = load(changed(supply__installed="250%")).supply
    assert supply.installed == 2.5
    assert [arrival.gpus for arrival in supply.arrivals] == [1.5, 1.5]


@given(clocks, instants)
def test_an_instant_of_the_story_maps_to_ours_and_back_exactly(
    clock: Clock, instant: datetime
) -> None:
    assert clock.story_at(clock.real_s(instant)) == instant


@given(clocks, st.floats(0.0, 1.0))
def test_a_story_begins_at_0_s_and_ends_after_its_length(clock: Clock, share: float) -> None:
    assert clock.real_s(clock.starts_at) == 0.0
    assert clock.real_s(clock.ends_at) == clock.length_s
    assert clock.starts_at <= clock.story_at(clock.length_s * share) <= clock.ends_at


def test_the_story_stands_at_its_beginning_until_it_is_started() -> None:
    clock = load_scenario("launch-day").clock
    story = StoryClock(clock)
    assert story(1_772_000_000.0) == clock.starts_at
    story.started_at = 1_772_000_000.0
    assert story(1_772_000_010.0) == clock.starts_at + timedelta(minutes=40)
    assert story(1_771_999_985.0) == clock.starts_at - timedelta(hours=1)
