"""A rollout's stages, and what must hold between them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.strategies import NOW
from tidegate.checks import CheckSpec
from tidegate.plans import RolloutSpec, StageSpec, stage_mistakes

TIERS = ("pro", "plus", "free")


def stage(name: str, *tiers: str, **changes: object) -> StageSpec:
    made: dict[str, object] = {"name": name, "tiers": tiers or ("pro",), "bake": "1h"}
    return StageSpec.model_validate({**made, **changes})


def mistakes(*stages: StageSpec) -> list[str]:
    return list(stage_mistakes(enumerate(stages)))


def at(hours: float) -> str:
    return (NOW + timedelta(hours=hours)).isoformat()


def test_stages_that_only_go_forward_are_no_mistake() -> None:
    assert not mistakes(
        stage("pro", "pro", startsAt=at(0)),
        stage("some", "plus", "free", exposure="2.5%", startsAt=at(0)),
        stage("more", "plus", exposure="50%"),
        stage("all", "plus", "free", startsAt=at(24)),
    )


def test_a_stage_that_reaches_no_more_than_before_is_a_mistake() -> None:
    first = stage("first", "free", exposure="50%")
    (told,) = mistakes(first, stage("again", "free", exposure="50%"))
    assert told == (
        'stages[1].exposure: got "50%" for free, expected more than the 50% reached before. '
        "Raise it, or drop the stage."
    )


def test_every_stage_below_the_highest_before_is_told_not_only_the_first() -> None:
    shares = ["50%", "20%", "30%", "60%"]
    told = mistakes(*(stage(f"s{i}", "free", exposure=s) for i, s in enumerate(shares)))
    assert [line.split(":")[0] for line in told] == ["stages[1].exposure", "stages[2].exposure"]
    assert all("the 50% reached before" in line for line in told)


def test_a_stage_that_starts_before_an_earlier_one_is_a_mistake() -> None:
    (told,) = mistakes(
        stage("a", "pro", startsAt=at(2)), stage("b", "plus"), stage("c", "free", startsAt=at(1))
    )
    assert told == (
        f"stages[2].startsAt: got {at(1)}, expected no earlier than {at(2)}. "
        "Put the stages in the order they open."
    )


def test_two_stages_of_one_name_are_a_mistake() -> None:
    assert mistakes(stage("a", "pro"), stage("a", "plus")) == [
        'stages[1].name: got "a" again, expected a name of its own. Rename the stage.'
    ]


def test_a_tier_named_twice_in_a_stage_is_one_mistake_and_not_a_step_backward() -> None:
    assert mistakes(stage("a", "pro", "pro")) == [
        'stages[0].tiers[1]: got "pro" again, expected each tier once. Drop one of the two.'
    ]


def test_all_of_a_plans_mistakes_are_told_at_once() -> None:
    stages = (
        stage("a", "pro", exposure="50%", startsAt=at(2)),
        stage("a", "pro", exposure="10%", startsAt=at(1)),
    )
    with pytest.raises(ValidationError) as refused:
        RolloutSpec(feature="image", owner="mara", stages=stages)
    for path in ("stages[1].name", "stages[1].exposure", "stages[1].startsAt"):
        assert path in str(refused.value)


@given(
    st.lists(
        st.builds(
            lambda tiers, share, hour: stage("x", *tiers, exposure=share, startsAt=at(hour)),
            st.lists(st.sampled_from(TIERS), min_size=1, unique=True),
            st.sampled_from([0.1, 0.5, 1.0]),
            st.integers(0, 9),
        ),
        max_size=5,
    )
)
def test_a_plan_without_mistakes_raises_every_tier_and_never_goes_back_in_time(
    stages: list[StageSpec],
) -> None:
    named = [s.model_copy(update={"name": f"stage-{i}"}) for i, s in enumerate(stages)]
    per_tier = [[s.exposure for s in named if tier in s.tiers] for tier in TIERS]
    starts = [s.starts_at for s in named if s.starts_at is not None]
    forward = starts == sorted(starts) and all(shares == sorted(set(shares)) for shares in per_tier)
    assert (not mistakes(*named)) == forward


def test_a_plan_survives_the_way_through_json() -> None:
    check = CheckSpec(name="wait", queue_wait_below=timedelta(seconds=2))
    stages = (stage("a", "free", exposure="0.001%", startsAt=at(1), checks=(check,), reserve=4),)
    plan = RolloutSpec(feature="image", owner="mara", stages=stages)
    assert RolloutSpec.model_validate_json(plan.model_dump_json(by_alias=True)) == plan
    assert RolloutSpec.model_validate(plan.model_dump()) == plan


def test_a_check_that_nothing_could_pass_is_refused() -> None:
    with pytest.raises(ValidationError, match="expected more than 0s"):
        CheckSpec.model_validate({"name": "wait", "queueWaitBelow": "0s"})
