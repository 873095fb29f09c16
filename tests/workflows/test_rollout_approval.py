"""A stage that needs an approval waits for its role; others are told what is wrong."""

import pytest

from tests.workflows.story import Given, Stage, Story, Then, When
from tidegate.messages.rollout import RolloutPhase
from tidegate.messages.steered import Waits

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_approval_that_makes_no_sense_is_refused_and_leaves_no_trace(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", approval="launch"), "free"])
    await then.it_waits_for(Waits.APPROVAL)
    await then.refused(
        when.approved("pro", role="legal"), 'stage "pro": launch approves it, not legal.'
    )
    await then.refused(
        when.approved("plus", role="launch"),
        f'rollout/{story.rollout}: no stage "plus". It has pro, free.',
    )
    await then.refused(when.approved("free", role="launch"), 'stage "free": it needs no approval.')
    await then.exposure_stays("pro", "0%", over="1h")
    assert "free" not in (await story.state()).progress


async def test_a_stage_is_approved_once(given: Given, when: When, then: Then) -> None:
    await given.rollout([Stage("pro", approval="launch", starts_in="1h")])
    await when.approved("pro", role="launch", by="ann")
    await then.refused(
        when.approved("pro", role="launch", by="bob"), 'stage "pro": ann did already.'
    )
    await then.told("stage.approved")


async def test_a_later_stage_may_be_approved_ahead_and_opens_in_its_turn(
    given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", bake="1h"), Stage("free", approval="legal")])
    await when.approved("free", role="legal")
    await then.exposure_stays("free", "0%", over="59m")
    await when.passes("2m")
    await then.exposure_is("free", "100%")


async def test_a_stage_that_waits_for_its_approval_says_so_to_those_it_keeps_out(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", approval="launch")])
    await then.told("feature.waiting")
    note = (await story.feature_state()).notes["pro"]
    assert note.waits_for == "approval by launch"
    assert note.opens is None
    await when.approved("pro", role="launch")
    await then.exposure_is("pro", "100%")
    assert (await story.feature_state()).notes == {}


@pytest.mark.parametrize("verb", ["approve", "pause", "hold", "abort"])
async def test_what_is_over_cannot_be_steered(
    story: Story, given: Given, when: When, then: Then, verb: str
) -> None:
    await given.rollout([Stage("pro", approval="launch")])
    story.world.is_deaf = True  # it has ended and waits for its last event to be recorded
    await when.aborted()
    await then.it_is(RolloutPhase.ABORTED)
    acts = {
        "approve": when.approved("pro", role="launch"),
        "pause": when.paused(),
        "hold": when.held(),
        "abort": when.aborted(),
    }
    chosen = acts.pop(verb)
    for unused in acts.values():
        unused.close()
    over = f"rollout/{story.rollout}: it is over, so there is nothing to {verb}."
    await then.refused(chosen, over)
