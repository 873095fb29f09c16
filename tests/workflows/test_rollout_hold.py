"""A hold stops exposure at once, whatever is waited for; only its role lifts it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.workflows.story import CHECK, Given, Stage, Story, Then, When
from tidegate.errors import Refused
from tidegate.messages.feature import HoldOrder
from tidegate.messages.rollout import RolloutPhase
from tidegate.messages.steered import Waits
from tidegate.rules.verdict import Verdict

pytestmark = pytest.mark.asyncio(loop_scope="session")

Step = Callable[[Given, When, Then], Awaitable[None]]


async def _comes_due(_: Given, when: When, __: Then) -> None:
    await when.passes("2d")


async def _is_approved(_: Given, when: When, then: Then) -> None:
    await when.passes("1d")
    await then.it_waits_for(Waits.APPROVAL)
    await when.held()
    await when.approved("free", role="launch")


async def _gets_its_gpus(_: Given, when: When, then: Then) -> None:
    await when.approved("free", role="launch")
    await when.passes("1d")
    await then.it_waits_for(Waits.GPUS)
    await when.held()
    await when.seen(installed=8, ready=8)


async def _finds_the_stage_before_baked(_: Given, when: When, then: Then) -> None:
    await when.approved("free", role="launch")
    await when.seen(installed=8, ready=8)
    await then.it_waits_for(Waits.BAKE, stage="pro")
    await when.held()
    await when.passes("3d")


async def _is_promoted(given: Given, when: When, then: Then) -> None:
    given.verdicts(Verdict.INCONCLUSIVE)
    await when.approved("free", role="launch")
    await when.seen(installed=8, ready=8)
    await when.passes("12h")
    await then.it_waits_for(Waits.PERSON)
    await when.held()
    await when.promoted()


STEPS = [_is_approved, _gets_its_gpus, _finds_the_stage_before_baked, _is_promoted]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__.strip("_"))
async def test_while_held_nobody_else_gets_in_though_the_stage(
    given: Given, when: When, then: Then, step: Step
) -> None:
    await given.rollout(
        [
            Stage("pro", bake="12h", check=CHECK),
            Stage("free", approval="launch", reserve=8, starts_in="1d"),
        ]
    )
    await step(given, when, then)
    await then.exposure_stays("free", "0%", over="9d")
    await when.released()
    await when.approved_if_needed("free", role="launch")
    await when.seen(installed=8, ready=8)
    await when.passes("2d")
    await then.exposure_is("free", "100%")


async def test_once_the_hold_is_acknowledged_an_opening_under_way_is_stopped(
    story: Story, given: Given, when: When, then: Then
) -> None:
    async def hold_it() -> None:
        story.world.before.clear()
        await when.held()

    story.world.before["ask_feature"] = hold_it
    await given.rollout(["pro"])
    await then.told("plan.held")
    await then.exposure_stays("pro", "0%", over="1d")
    await when.released()
    await when.passes("1m")
    await then.exposure_is("pro", "100%")


async def test_a_held_feature_says_why_and_who_must_release_it(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout(["pro", "free"])
    await then.exposure_is("pro", "100%")
    await when.held(role="legal", reason="a claim about training data")
    held = (await story.feature_state()).hold
    assert held is not None
    assert (held.role, held.reason) == ("legal", "a claim about training data")
    event = await then.told("feature.held")
    assert (event.data["role"], event.data["reason"]) == ("legal", "a claim about training data")
    assert (await story.feature_state()).exposure == {"pro": 1.0}
    await when.released(role="legal")
    assert (await story.feature_state()).hold is None


async def test_only_the_role_that_holds_releases(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", starts_in="1h")])
    name = f"rollout/{story.rollout}"
    await then.refused(
        when.released(role="legal"), f"{name}: nobody holds it, so there is nothing to release."
    )
    await then.refused(
        when.held(reason=""), 'hold: "reason" is missing. Say why, so that others can act on it.'
    )
    await when.held(role="legal", reason="a review")
    await then.refused(
        when.released(role="safety"), f"{name}: legal holds it, so only legal releases it."
    )
    await then.refused(when.held(role="safety"), f"{name}: legal holds it already: a review.")
    await then.exposure_stays("pro", "0%", over="1d")
    await when.released(role="legal")
    await when.passes("1h")
    await then.exposure_is("pro", "100%")


async def test_a_feature_held_by_another_hand_keeps_a_stage_out_and_lets_it_in_when_released(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.feature()
    order = HoldOrder(by="sam", role="safety", reason="a red team is at it")
    await story.plane.ask_feature(story.feature, "hold", order)
    await given.rollout([Stage("pro", reserve=8)])
    await when.seen(installed=8, ready=8)
    await then.it_waits_for(Waits.HOLD)
    await then.exposure_stays("pro", "0%", over="20m")
    await when.released(role="safety")
    await when.passes("2m")
    await then.exposure_is("pro", "100%")


async def test_a_hold_that_is_lifted_while_it_is_being_placed_does_not_stay_on_the_feature(
    story: Story, given: Given, when: When, then: Then
) -> None:
    is_lifting = asyncio.Event()

    async def wait_for_the_release() -> None:
        story.world.before.clear()
        await asyncio.wait_for(is_lifting.wait(), 1.5)
        await asyncio.sleep(0.2)  # as slow as a busy machine

    await given.rollout([Stage("pro", starts_in="1h")])
    await then.it_waits_for(Waits.DUE)
    story.world.before["ask_feature"] = wait_for_the_release
    holding = asyncio.create_task(when.held())
    await then.told("plan.held")
    releasing = asyncio.create_task(when.released())
    is_lifting.set()
    await asyncio.gather(holding, releasing)
    assert (await story.feature_state()).hold is None


async def test_a_feature_that_another_hand_holds_is_asked_again_about_once_a_minute(
    story: Story, given: Given, when: When, then: Then
) -> None:
    asked = 0

    async def count() -> None:
        nonlocal asked
        asked += 1

    await given.feature()
    order = HoldOrder(by="sam", role="safety", reason="a red team is at it")
    await story.plane.ask_feature(story.feature, "hold", order)
    story.world.before["ask_feature"] = count
    await given.rollout(["pro"])
    await then.it_waits_for(Waits.HOLD)
    await when.passes("34m")
    assert 30 <= asked <= 45


async def test_after_a_hold_the_gpus_are_looked_at_again_before_the_stage_opens(
    story: Story, given: Given, when: When, then: Then
) -> None:
    async def hold_it() -> None:
        story.world.after.clear()
        await when.held()

    story.world.after["spend"] = hold_it
    await given.rollout([Stage("pro", reserve=8)])
    await when.seen(installed=8, ready=8)
    await then.told("plan.held")
    await when.seen(installed=8, ready=3)
    await when.passes("1d")
    await when.released()
    await then.exposure_stays("pro", "0%", over="10m")
    await when.seen(installed=8, ready=8)
    await when.passes("2m")
    await then.exposure_is("pro", "100%")
    await then.told("claim.spent")
    assert (await then.told("stage.advanced")).data["ready_gpus"] == 8


async def test_two_roles_hold_two_rollouts_of_one_feature_and_each_lifts_its_own(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", starts_in="1h")])
    await when.held(role="legal", reason="a review")
    await given.rollout([Stage("plus", starts_in="1h")])
    await when.held(role="safety", reason="another")
    await when.passes("2h")
    await when.released(role="safety")
    held = (await story.feature_state()).holds
    assert [hold.role for hold in held.values()] == ["legal"]
    await then.exposure_stays("plus", "0%", over="1h")
    story.rollouts.reverse()
    await when.released(role="legal")
    await when.passes("2h")
    await then.exposure_is("pro", "100%")
    await then.exposure_is("plus", "100%")


async def test_an_aborted_rollout_leaves_the_hold_to_its_role(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout(["pro", "free"])
    await then.exposure_is("pro", "100%")
    await when.held(role="legal", reason="a review")
    await when.aborted()
    await then.it_ended(RolloutPhase.ABORTED)
    await then.exposure_is("pro", "0%")
    assert (await story.feature_state()).hold is not None
    with pytest.raises(Refused, match="only legal releases this hold"):
        await when.released(role="safety")
    await when.released(role="legal")
    assert (await story.feature_state()).hold is None
