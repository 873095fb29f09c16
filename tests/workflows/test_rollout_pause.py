"""A pause stops everything, and moves what comes later by as long as it lasted."""

from datetime import timedelta

import pytest

from tests.workflows.story import CHECK, Given, Stage, Story, Then, When
from tidegate.freezes import FreezeSpec
from tidegate.messages.rollout import RolloutPhase
from tidegate.messages.steered import Waits
from tidegate.rules.verdict import Verdict

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_pause_of_a_month_moves_every_later_instant_by_a_month(
    given: Given, when: When, then: Then
) -> None:
    await given.rollout(
        [Stage("pro", starts_in="10d", bake="5d"), Stage("free", starts_in="20d", bake="1d")]
    )
    await when.passes("5d")
    await when.paused()
    await then.exposure_stays("pro", "0%", over="30d")
    await when.resumed()
    await when.passes("48d")
    await then.it_ended(RolloutPhase.FINISHED)
    await then.happened("stage.advanced", stage="pro", after="40d")
    await then.happened("stage.baked", stage="pro", after="45d")
    await then.happened("stage.advanced", stage="free", after="50d")
    await then.happened("stage.baked", stage="free", after="51d")


async def test_two_freezes_stop_a_plan_until_both_are_lifted_and_twice_is_once(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", starts_in="10d")])
    await when.frozen("code-red/a")
    await when.frozen("code-red/b")
    await when.frozen("code-red/a")
    await then.exposure_stays("pro", "0%", over="20d")
    await when.thawed("code-red/a")
    await then.exposure_stays("pro", "0%", over="10d")
    await when.thawed("code-red/b")
    await when.thawed("code-red/b")
    await then.told("plan.frozen", times=2)
    await then.told("plan.thawed", times=2)
    await when.passes("11d")
    await then.happened("stage.advanced", stage="pro", after="40d")


async def test_no_stage_opens_in_a_freeze_of_its_calendar_and_it_says_why(
    story: Story, given: Given, when: When, then: Then
) -> None:
    begin = story.began_at
    freeze = FreezeSpec(reason="the holidays", start=begin, end=begin + timedelta(days=10))
    await given.rollout(["pro", "free"], freezes=[freeze])
    await then.it_waits_for(Waits.FREEZE)
    notes = (await story.feature_state()).notes
    assert "the holidays" in notes["pro"].waits_for
    await then.exposure_stays("pro", "0%", over="9d")
    await when.passes("25h")
    await then.exposure_is("pro", "100%")
    await then.happened("stage.advanced", stage="pro", after="10d")


async def test_gpus_that_are_ready_in_a_freeze_are_spent_when_it_is_over(
    story: Story, given: Given, when: When, then: Then
) -> None:
    begin = story.began_at
    freeze = FreezeSpec(reason="the holidays", start=begin, end=begin + timedelta(days=10))
    await given.rollout([Stage("pro", reserve=4)], freezes=[freeze])
    await when.seen(installed=8, ready=8)
    await then.exposure_stays("pro", "0%", over="9d")
    assert story.events("claim.made") == []
    await when.passes("25h")
    await then.exposure_is("pro", "100%")
    await then.told("claim.spent")


async def test_a_calendar_holds_back_what_a_pause_has_moved_into_it(
    story: Story, given: Given, when: When, then: Then
) -> None:
    start = story.began_at + timedelta(days=5)
    freeze = FreezeSpec(reason="the holidays", start=start, end=start + timedelta(days=10))
    await given.rollout([Stage("pro", starts_in="4d")], freezes=[freeze])
    await when.paused()
    await when.passes("2d")
    await when.resumed()
    await then.exposure_stays("pro", "0%", over="12d")
    await when.passes("2d")
    await then.happened("stage.advanced", stage="pro", after="15d")


async def test_a_pause_while_a_stage_bakes_makes_it_bake_for_as_long_as_planned(
    given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", bake="10h"), "free"])
    for _ in range(2):
        await when.passes("4h")
        await when.paused()
        await then.exposure_stays("free", "0%", over="40h")
        await when.resumed()
    await then.exposure_stays("free", "0%", over="118m")
    await when.passes("3m")
    await then.exposure_is("free", "100%")
    await then.happened("stage.baked", stage="pro", after="90h")


async def test_pauses_before_and_after_a_stage_opened_are_not_counted_twice(
    given: Given, when: When, then: Then
) -> None:
    await given.rollout(
        [Stage("pro", starts_in="1d", bake="1d"), Stage("free", starts_in="2d", bake="0s")]
    )
    for _ in range(3):
        await when.paused()
        await when.passes("1d")
        await when.resumed()
    await when.passes("36h")
    await when.paused()
    await when.passes("10d")
    await when.resumed()
    await when.passes("1d")
    await then.it_ended(RolloutPhase.FINISHED)
    await then.happened("stage.advanced", stage="pro", after="4d")
    await then.happened("stage.advanced", stage="free", after="15d")


async def test_what_happens_during_a_pause_counts_once_it_is_over(
    given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", approval="launch", reserve=8)])
    await when.paused()
    await when.approved("pro", role="launch")
    await when.seen(installed=8, ready=8)
    await then.exposure_stays("pro", "0%", over="7d")
    await when.resumed()
    await then.exposure_is("pro", "100%")


async def test_resuming_what_is_not_paused_is_refused(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", starts_in="1h")])
    name = f"rollout/{story.rollout}"
    nothing = f"{name}: it is not paused, so there is nothing to resume."
    await then.refused(when.resumed(), nothing)
    await when.held()
    await then.refused(when.resumed(), nothing)
    await when.paused(by="pm")
    await then.refused(when.paused(by="bob"), f"{name}: pm has paused it already. Resume it.")
    await when.resumed()
    await then.refused(when.resumed(), nothing)
    await then.told("plan.paused")
    await then.told("plan.resumed")


@pytest.mark.parametrize("last", ["resume", "release"])
async def test_a_hold_and_a_pause_that_overlap_move_what_follows_by_their_union(
    given: Given, when: When, then: Then, last: str
) -> None:
    await given.rollout([Stage("pro", starts_in="10d")])
    await when.passes("1d")
    await when.paused()
    await when.passes("2d")
    await when.held()
    await when.passes("3d")
    await (when.released() if last == "resume" else when.resumed())
    await then.exposure_stays("pro", "0%", over="20d")
    await (when.resumed() if last == "resume" else when.released())
    await then.exposure_stays("pro", "0%", over="8d")
    await when.passes("1d")
    await then.exposure_is("pro", "100%")
    await then.happened("stage.advanced", after="35d")


async def test_a_pause_during_the_check_holds_the_next_stage_back(
    story: Story, given: Given, when: When, then: Then
) -> None:
    async def pause_it() -> None:
        story.world.before.clear()
        await when.paused()

    await given.rollout([Stage("pro", check=CHECK), "free"])
    given.verdicts(Verdict.PASS)
    story.world.before["measure"] = pause_it
    await when.passes("11m")
    await then.told("plan.paused")
    await then.exposure_stays("free", "0%", over="5d")
    await when.resumed()
    await then.exposure_is("free", "100%")


async def test_a_paused_rollout_says_who_can_let_it_go_on(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", approval="launch")])
    await then.it_waits_for(Waits.APPROVAL)
    await when.paused(by="pm")
    state = await story.state()
    assert state.paused is not None
    assert state.paused.by == "pm"
    found = await story.client.get_workflow_handle(f"rollout/{story.rollout}").describe()
    shown = {pair.key.name: pair.value for pair in found.typed_search_attributes}
    assert shown["TidegateWaitingFor"] == "pause"
    assert shown["TidegateKind"] == "rollout"
    assert shown["TidegateFeature"] == story.feature
    assert shown["TidegateOwner"] == "pm"
