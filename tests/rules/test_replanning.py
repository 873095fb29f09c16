"""A new plan changes what is to come; what has opened stays as it was, and where it was."""

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tidegate.plans import RolloutSpec
from tidegate.rules.replanning import find_rewritten, tell_changes

NAMES = ("internal", "pro", "plus", "free")


def plan(
    *stages: str, feature: str = "image", changes: Mapping[str, Mapping[str, Any]] | None = None
) -> RolloutSpec:
    """Write a plan of these stages, each for a tier of its name, but for the changes to some."""
    written = [
        {"name": name, "tiers": [name], "bake": "1h", **(changes or {}).get(name, {})}
        for name in stages
    ]
    return RolloutSpec.model_validate({"feature": feature, "owner": "ada", "stages": written})


def test_another_feature_needs_another_rollout() -> None:
    assert find_rewritten(plan("pro"), plan("pro", feature="voice"), []) == (
        'feature: got "voice", expected "image". '
        "Give a rollout of another feature a name of its own."
    )


def test_what_has_opened_may_not_be_dropped_moved_or_preceded() -> None:
    before = plan("pro", "free")
    for after in (plan("free"), plan("free", "pro"), plan("internal", "pro", "free")):
        found = find_rewritten(before, after, ["pro"])
        assert found is not None
        assert found.startswith(f'stages[0]: got "{after.stages[0].name}", expected "pro"')


def test_what_has_opened_may_not_be_changed() -> None:
    after = plan("pro", "free", changes={"pro": {"exposure": "5%"}})
    assert find_rewritten(plan("pro", "free"), after, ["pro"]) == (
        'stages[0]: "pro" has opened, and stays as it is: exposure: none to 5%. '
        "Abort the rollout, or add a stage behind it."
    )
    assert find_rewritten(plan("pro", "free"), after, []) is None


@st.composite
def plans(draw: st.DrawFn) -> RolloutSpec:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    shares = st.sampled_from(["5%", "50%", "100%"])
    return plan(*names, changes={name: {"exposure": draw(shares)} for name in names})


@given(before=plans(), after=plans(), opened=st.integers(0, 4))
def test_a_plan_is_taken_exactly_where_its_past_is_the_same(
    before: RolloutSpec, after: RolloutSpec, opened: int
) -> None:
    past = before.stages[:opened]
    is_same = after.stages[: len(past)] == past
    found = find_rewritten(before, after, [stage.name for stage in past])
    assert (found is None) is is_same


@given(before=plans(), after=plans())
def test_a_diff_is_empty_exactly_where_nothing_changes(
    before: RolloutSpec, after: RolloutSpec
) -> None:
    assert (list(tell_changes(before, after)) == []) is (before == after)


def test_a_diff_tells_what_is_added_dropped_changed_and_moved() -> None:
    after = plan("free", "pro", "team", changes={"free": {"bake": "2h"}})
    assert list(tell_changes(plan("pro", "plus", "free"), after)) == [
        "- stage plus",
        "~ stage free: bake: 1h to 2h",
        "+ stage team: tiers ['team'], bake 1h",
        "~ order of stages: free, pro, team",
    ]
