"""Aborting takes back the stage that is open and not baked, and gives its GPUs back."""

import pytest

from tests.workflows.story import CHECK, Given, Stage, Story, Then, When
from tidegate.messages.rollout import RolloutPhase
from tidegate.messages.steered import Waits
from tidegate.rules.ledger import ClaimKind
from tidegate.rules.verdict import Verdict

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_abort_takes_back_the_open_stage_and_leaves_the_baked_ones(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout(
        [
            Stage("pro", reserve=8),
            Stage("free-some", tiers=("free",), exposure="10%", reserve=4),
            Stage("free-all", tiers=("free",), reserve=8, bake="1h"),
        ]
    )
    await when.seen(installed=20, ready=20)
    await when.passes("30m")
    await then.exposure_is("free", "100%")
    await when.aborted(reason="it draws hands wrong", by="ann")
    await then.it_ended(RolloutPhase.ABORTED)
    assert (await story.feature_state()).exposure == {"pro": 1.0, "free": 0.1}
    claims = (await story.budget_state()).ledger.claims
    assert sorted(c.gpus for c in claims.values() if c.kind is ClaimKind.RESERVED) == [4, 8]
    aborted = await then.told("rollout.aborted")
    assert aborted.data["reason"] == "it draws hands wrong"
    assert aborted.data["by"] == "ann"


async def test_the_gpus_of_an_aborted_stage_go_to_the_next_in_the_queue(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("large", reserve=16)])
    await then.it_waits_for(Waits.GPUS)
    await given.rollout([Stage("small", reserve=4)])
    await then.it_waits_for(Waits.GPUS)
    await when.seen(installed=8, ready=8)
    story.rollouts.reverse()
    await when.aborted()
    await then.it_ended(RolloutPhase.ABORTED)
    await then.exposure_is("small", "100%")


@pytest.mark.parametrize("waits", [Waits.DUE, Waits.APPROVAL, Waits.GPUS, Waits.BAKE])
async def test_an_abort_ends_the_rollout_whatever_it_waits_for_and_however_it_is_stopped(
    story: Story, given: Given, when: When, then: Then, waits: Waits
) -> None:
    stage = Stage("pro", starts_in="1h", approval="launch", reserve=8)
    await given.rollout([stage, "free"])
    if waits is not Waits.DUE:
        await when.passes("1h")
    if waits in {Waits.GPUS, Waits.BAKE}:
        await when.approved("pro", role="launch")
    if waits is Waits.BAKE:
        await when.seen(installed=8, ready=8)
    await then.it_waits_for(waits)
    await when.paused()
    await when.held()
    await when.aborted()
    await then.it_ended(RolloutPhase.ABORTED)
    await then.exposure_is("pro", "0%")
    assert (await story.budget_state()).ledger.of(ClaimKind.RESERVED) == ()


async def test_those_kept_out_by_an_abort_are_told_of_it(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", reserve=8)], given.arrival(8, "1d", "2d"))
    await then.it_waits_for(Waits.GPUS)
    await when.aborted(reason="it draws hands wrong")
    await then.it_ended(RolloutPhase.ABORTED)
    note = (await story.feature_state()).notes["pro"]
    assert note.waits_for == "a new rollout; this one was aborted: it draws hands wrong"
    assert note.opens is None


async def test_an_abort_while_the_last_check_is_measured_is_not_lost(
    story: Story, given: Given, when: When, then: Then
) -> None:
    async def abort_it() -> None:
        story.world.before.clear()
        await when.aborted()

    await given.rollout([Stage("pro", check=CHECK)])
    given.verdicts(Verdict.PASS)
    story.world.before["measure"] = abort_it
    await when.passes("11m")
    await then.it_ended(RolloutPhase.ABORTED)
    await then.exposure_is("pro", "0%")


async def test_an_abort_right_after_an_opening_whose_answer_was_lost_takes_it_back(
    story: Story, given: Given, when: When, then: Then
) -> None:
    async def lose_the_answer() -> None:
        story.world.after.clear()
        raise ConnectionError("the worker was killed before it could answer")

    await given.feature()
    story.world.after["ask_feature"] = lose_the_answer
    await given.rollout([Stage("pro", bake="1h")])
    await then.it_waits_for(Waits.BAKE)
    await when.aborted()
    await then.it_ended(RolloutPhase.ABORTED)
    await then.exposure_is("pro", "0%")
    shares = [event.data["after"] for event in story.events("feature.exposed")]
    assert shares == [1.0, 0.0]


async def test_an_abort_needs_a_reason_and_comes_once(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", bake="1h", reserve=8)])
    await when.seen(installed=8, ready=8)
    await then.exposure_is("pro", "100%")
    await then.refused(
        when.aborted(reason=""),
        'abort: "reason" is missing. Say why, for those who read it later.',
    )

    async def abort_again() -> None:
        story.world.before.clear()
        name = f"rollout/{story.rollout}"
        await then.refused(when.aborted(), f"{name}: pm has aborted it already.")

    story.world.before["release"] = abort_again
    story.world.before["ask_feature"] = abort_again
    await when.aborted()
    await then.it_ended(RolloutPhase.ABORTED)
    assert story.world.before == {}


async def test_a_new_rollout_after_an_aborted_one_starts_from_the_beginning(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", reserve=8)])
    await when.seen(installed=8, ready=8)
    await then.exposure_is("pro", "100%")
    await when.aborted()
    await then.it_ended(RolloutPhase.ABORTED)
    stages = [Stage("pro", reserve=8, bake="1h")]
    assert await story.plane.start_plan(story.order(story.rollout, stages), "again")
    await then.exposure_is("pro", "100%")
    assert len((await story.budget_state()).ledger.of(ClaimKind.RESERVED)) == 1
