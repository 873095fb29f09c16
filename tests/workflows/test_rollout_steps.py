"""A stage grows share by share; each bakes, and whatever stops a stage stops the next share."""

from datetime import timedelta

import pytest

from tests.workflows.story import CHECK, Given, Stage, Story, Then, When
from tidegate.freezes import FreezeSpec
from tidegate.messages.rollout import RolloutPhase
from tidegate.messages.steered import Waits, WayBack
from tidegate.rules.ledger import ClaimKind
from tidegate.rules.verdict import Verdict

pytestmark = pytest.mark.asyncio(loop_scope="session")

CANARY = Stage("free", steps=("1%", "5%", "25%"), each="2h", bake="1h", reserve=8)


async def test_each_share_is_reached_when_the_one_before_has_baked(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([CANARY, "team"])
    await when.seen(installed=8, ready=8)
    for share in ("1%", "5%", "25%"):
        await then.exposure_is("free", share)
        await then.exposure_stays("free", share, over="1h")
        await when.passes("1h")
    await then.exposure_is("free", "100%")
    await when.passes("1h30m")
    await then.it_ended(RolloutPhase.FINISHED)
    reached = [e.data["after"] for e in story.events("stage.advanced", stage="free")]
    assert reached == [0.01, 0.05, 0.25, 1.0]
    assert len(story.events("stage.baked", stage="free")) == 1
    claims = (await story.budget_state()).ledger.claims.values()
    assert [c.gpus for c in claims if c.kind is ClaimKind.RESERVED] == [8], "claimed once, whole"


async def test_a_failing_check_at_a_later_share_takes_the_whole_stage_back(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro"), Stage("free", steps=("5%",), check=CHECK)])
    given.verdicts(Verdict.PASS, Verdict.FAIL)
    await when.passes("1h")
    await then.it_ended(RolloutPhase.ABORTED)
    assert [e.data["after"] for e in story.events("stage.advanced", stage="free")] == [0.05, 1.0]
    assert (await story.feature_state()).exposure == {"pro": 1.0, "free": 0.0}


@pytest.mark.parametrize("stop", ["paused", "held"])
async def test_a_stop_between_two_shares_moves_the_next_by_as_much(
    given: Given, when: When, then: Then, stop: str
) -> None:
    await given.rollout([Stage("free", steps=("5%",), each="2h")])
    await then.exposure_is("free", "5%")
    await when.passes("1h")
    await (when.paused() if stop == "paused" else when.held())
    await then.exposure_stays("free", "5%", over="4h")
    await (when.resumed() if stop == "paused" else when.released())
    await then.exposure_stays("free", "5%", over="50m")
    await when.passes("20m")
    await then.exposure_is("free", "100%")
    await when.passes("15m")
    await then.it_ended(RolloutPhase.FINISHED)


async def test_no_further_share_is_reached_in_a_freeze(
    story: Story, given: Given, when: When, then: Then
) -> None:
    began = story.began_at
    freeze = FreezeSpec.model_validate(
        {
            "reason": "the holidays",
            "start": began + timedelta(hours=1),
            "end": began + timedelta(hours=8),
        }
    )
    await given.rollout([Stage("free", steps=("5%",), each="2h")], freezes=[freeze])
    await then.exposure_is("free", "5%")
    await when.passes("2h")
    await then.it_waits_for(Waits.FREEZE)
    await then.exposure_stays("free", "5%", over="5h30m")
    await when.passes("40m")
    await then.exposure_is("free", "100%")


WAYS = {
    WayBack.HERE: ({"pro": 1.0, "free": 0.25}, [1, 2, 8]),
    WayBack.STAGE: ({"pro": 1.0, "free": 0.1}, [1, 2]),
    WayBack.NOTHING: ({}, []),
}


@pytest.mark.parametrize("back", WAYS)
async def test_an_abort_goes_back_as_far_as_it_says(
    story: Story, given: Given, when: When, then: Then, back: WayBack
) -> None:
    few = Stage("few", tiers=("free",), exposure="10%", reserve=1)
    many = Stage("many", tiers=("free",), steps=("25%",), each="1d", reserve=8)
    await given.rollout([Stage("pro", reserve=2), few, many])
    await when.seen(installed=16, ready=16)
    await when.passes("25m")
    await then.exposure_is("free", "25%")
    await when.aborted(back=back)
    await then.it_ended(RolloutPhase.ABORTED)
    exposed, gpus = WAYS[back]
    left = (await story.feature_state()).exposure
    assert {tier: share for tier, share in left.items() if share} == exposed
    reserved = (await story.budget_state()).ledger.of(ClaimKind.RESERVED)
    assert sorted(claim.gpus for claim in reserved) == gpus


async def test_an_abort_that_stays_here_gives_back_gpus_that_nobody_uses_yet(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout(["pro", Stage("free", reserve=8)])
    await when.passes("15m")
    await then.it_waits_for(Waits.GPUS, stage="free")
    await when.aborted(back=WayBack.HERE)
    await then.it_ended(RolloutPhase.ABORTED)
    assert (await story.feature_state()).exposure == {"pro": 1.0}
    assert (await story.budget_state()).ledger.of(ClaimKind.RESERVED) == ()
