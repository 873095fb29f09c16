"""From the story to a plan and back: exact, and its mistakes told with their place."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenarios.mapping import forecast_gpus, map_plans
from scenarios.scenario import FOLDER, Clock, ScenarioSpec, load_scenario
from tidegate.errors import PlanError
from tidegate.manifests import Manifests, parse_manifests
from tidegate.rules.sizing import gpus_for

LAUNCH_DAY: Final = load_scenario("launch-day")
PLAN: Final = (FOLDER / LAUNCH_DAY.plan).read_text()
STARTED_AT: Final = datetime(2031, 7, 1, 12, 0, 7, 123_456, tzinfo=UTC)
FORECAST_RPS: Final = 14.4

MILLISECOND: Final = timedelta(milliseconds=1)
"""Durations are written to it."""

starts = st.datetimes(
    datetime(2026, 1, 1),  # noqa: DTZ001 - Hypothesis adds the zone
    datetime(2035, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
speeds = st.sampled_from([0.5, 1.0, 10.0, 60.0, 240.0, 1440.0])


def mapped(started_at: datetime = STARTED_AT, speed: float = 240.0) -> Manifests:
    clock = LAUNCH_DAY.clock.model_copy(update={"speed": speed})
    scenario = LAUNCH_DAY.model_copy(update={"clock": clock})
    gpus = forecast_gpus(scenario, FORECAST_RPS)
    mapped = map_plans(scenario, gpus, started_at)[scenario.plan]
    return parse_manifests(mapped, where="mapped")


def told() -> Manifests:
    """Return the plan on the story's clock, with some GPUs in it."""
    counted = PLAN
    for share in ("10%", "30%", "50%", "150%"):
        counted = counted.replace(f"{{forecast: {share}}}", "1")
    return parse_manifests(counted, where="plan")


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], ScenarioSpec]:
    """Return the launch day on another plan."""

    def plan(text: str) -> ScenarioSpec:
        path = tmp_path / "plan.yaml"
        path.write_text(text)
        return LAUNCH_DAY.model_copy(update={"plan": str(path)})

    return plan


def mistakes(scenario: ScenarioSpec) -> list[str]:
    with pytest.raises(PlanError) as found:
        forecast_gpus(scenario, FORECAST_RPS)
    return [line.rpartition("/")[2] for line in found.value.mistakes]


@settings(max_examples=15)
@given(started_at=starts, speed=speeds)
def test_instants_and_durations_map_to_ours_and_back_exactly(
    started_at: datetime, speed: float
) -> None:
    ours, story = mapped(started_at, speed), told()
    clock: Clock = LAUNCH_DAY.clock.model_copy(update={"speed": speed})

    def back(instant: datetime) -> datetime:
        at = clock.story_at((instant - started_at).total_seconds())
        return (at + timedelta(milliseconds=500)).replace(microsecond=0)

    for name, meant in story.supplies.items():
        real = ours.supplies[name]
        assert (back(real.at), back(real.latest)) == (meant.at, meant.latest)
    ours_stages, stages = (
        ours.rollouts["image-launch"].stages,
        story.rollouts["image-launch"].stages,
    )
    for real_stage, stage in zip(ours_stages, stages, strict=True):
        assert abs(real_stage.bake * speed - stage.bake) <= MILLISECOND / 2 * speed
        assert (real_stage.starts_at is None) == (stage.starts_at is None)
        if real_stage.starts_at is not None:
            assert back(real_stage.starts_at) == stage.starts_at
    [check] = ours_stages[-1].checks
    assert check.queue_wait_below is not None
    assert check.queue_wait_below * speed == timedelta(hours=4)


def test_the_launch_day_is_played_240_times_as_fast_to_the_millisecond() -> None:
    stages = mapped().rollouts["image-launch"].stages
    assert [stage.bake.total_seconds() for stage in stages] == [6.0, 9.0, 6.0, 7.0]
    assert stages[0].starts_at == STARTED_AT + timedelta(seconds=3)


def test_a_plan_played_at_its_own_speed_from_its_own_start_is_as_it_was_written() -> None:
    ours, story = mapped(LAUNCH_DAY.clock.starts_at, 1.0), told()
    real = ours.rollouts["image-launch"].model_dump(exclude={"stages": {"__all__": {"reserve"}}})
    assert real == story.rollouts["image-launch"].model_dump(
        exclude={"stages": {"__all__": {"reserve"}}}
    )


def test_pools_are_real_machines_and_keep_their_own_times() -> None:
    ours, story = mapped(), told()
    assert ours.pools == story.pools
    assert (ours.tiers, ours.models, ours.features) == (story.tiers, story.models, story.features)


def test_shares_of_the_forecast_become_the_gpus_that_serve_them() -> None:
    ours = mapped()
    need = [gpus_for(FORECAST_RPS * share, 8.0, 0.6) for share in (0.1, 0.5, 0.1, 0.3)]
    assert [stage.reserve for stage in ours.rollouts["image-launch"].stages] == need
    assert [a.gpus for a in ours.supplies.values()] == [gpus_for(21.6, 8.0, 0.6)] * 2


@settings(max_examples=30)
@given(st.floats(0.0, 5.0), st.floats(0.0, 5.0), st.floats(0.01, 500.0))
def test_more_of_the_forecast_never_takes_fewer_gpus_and_never_none(
    one: float, other: float, forecast_rps: float
) -> None:
    gpus = forecast_gpus(LAUNCH_DAY, forecast_rps)
    less, more = sorted((one, other))
    assert 1 <= gpus(less) <= gpus(more)


def test_a_share_that_is_none_is_told_with_its_place(
    written: Callable[[str], ScenarioSpec],
) -> None:
    wrong = PLAN.replace("{forecast: 50%}", "{forecast: half}")
    wrong = wrong.replace("reserve: {forecast: 30%}", "reserve: {forecast: 0.3}")
    assert mistakes(written(wrong)) == [
        (
            'plan.yaml[11]: spec.stages[1].reserve.forecast: got "half", '
            'expected a share of the forecast. Write it like "150%".'
        ),
        (
            "plan.yaml[11]: spec.stages[3].reserve.forecast: got 0.3, "
            'expected a share of the forecast. Write it like "150%".'
        ),
    ]


def test_every_mistake_in_a_plan_is_told_with_its_place_before_anything_is_played(
    written: Callable[[str], ScenarioSpec],
) -> None:
    wrong = PLAN.replace("bake: 36m", "bake: soon").replace("rank: 3, gated", "rank: 0, gated")
    first, second = mistakes(written(wrong))
    title = 'plan.yaml[11]: Rollout "image-launch"'
    assert first.startswith(f'{title}: spec.stages[1].bake: got "soon", expected a duration.')
    assert "rank" in second


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (PLAN + "---\nspec: [", "plan.yaml: line 107: got what is no YAML"),
        ("", "plan.yaml: got no manifest"),
        (
            PLAN.replace("model: image-2", "model: image-3"),
            'Pool "image": spec.model: got "image-3"',
        ),
    ],
)
def test_a_plan_that_is_none_or_names_what_it_lacks_is_told(
    written: Callable[[str], ScenarioSpec], text: str, line: str
) -> None:
    assert line in "\n".join(mistakes(written(text)))


def test_a_plan_that_lacks_what_the_scenario_plays_is_told() -> None:
    pool = LAUNCH_DAY.pools[0].model_copy(update={"name": "chat"})
    scenario = LAUNCH_DAY.model_copy(update={"pools": (pool,), "feature": "chat"})
    assert mistakes(scenario) == [
        f"{LAUNCH_DAY.plan}: got no {kind}, which the scenario plays. Add it."
        for kind in ('Feature "chat"', 'Pool "chat"')
    ]


def test_a_plan_that_is_not_there_is_told() -> None:
    scenario = LAUNCH_DAY.model_copy(update={"plan": "nobody-wrote-it.yaml"})
    assert mistakes(scenario) == [
        (
            "nobody-wrote-it.yaml: cannot be read (No such file or directory). "
            "Mend the scenario's spec.plan."
        )
    ]
