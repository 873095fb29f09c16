"""A budget's claims by priority, and for a time: who gives way, who gets it back, what expires."""

from datetime import timedelta

import pytest

from tests.embedded.until import until
from tests.workflows.story import Given, Stage, Story, Then, When
from tidegate.errors import Refused
from tidegate.messages.budget import ClaimStatus, Loan, Reservation
from tidegate.messages.steered import Waits
from tidegate.rules.ledger import ClaimState

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def reserve(
    story: Story, claim_id: str, gpus: int, priority: int = 0, lasts_s: float | None = None
) -> ClaimState:
    """Ask the story's budget; returns how the claim stands."""
    wanted = Reservation(
        claim_id=claim_id,
        owner="nobody",
        pool=story.pool,
        gpus=gpus,
        lead_p50_s=0.0,
        lead_p90_s=0.0,
        priority=priority,
        lasts_s=lasts_s,
    )
    return (await story.plane.ask_budget(story.gpu_type, "reserve", wanted, ClaimStatus)).state


async def is_gone(story: Story, claim_id: str) -> bool:
    return claim_id not in (await story.budget_state()).ledger.claims


async def test_a_stage_gives_way_to_a_higher_priority_and_opens_when_that_gives_back(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", reserve=6)])
    await when.seen(installed=8, ready=0)
    await then.told("claim.granted")
    assert await reserve(story, "urgent", 4, priority=1) is ClaimState.GRANTED
    preempted = await then.told("claim.preempted")
    assert preempted.data["reason"] == "a claim of higher priority has them"
    await when.seen(installed=8, ready=8)
    await then.it_waits_for(Waits.GPUS)
    await then.exposure_stays("pro", "0%", over="1h")
    await story.plane.ask_budget(story.gpu_type, "release", "urgent", None)
    await then.exposure_is("pro", "100%")


async def test_a_claim_that_gave_way_cannot_be_spent(
    story: Story, given: Given, when: When
) -> None:
    await given.budget()
    await when.seen(installed=8, ready=8)
    assert await reserve(story, "low", 6) is ClaimState.GRANTED
    assert await reserve(story, "high", 6, priority=1) is ClaimState.GRANTED
    with pytest.raises(Refused, match='claim "low"'):
        await story.plane.ask_budget(story.gpu_type, "spend", "low", ClaimStatus)


async def test_a_stage_that_stands_still_loses_its_gpus_in_time_and_asks_anew_when_it_goes_on(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", reserve=6, reserve_for="2h")])
    await when.seen(installed=8, ready=0)
    await then.told("claim.granted")
    await when.paused()
    assert await reserve(story, "other", 6) is ClaimState.WAITING
    await when.passes("3h")
    expired = await then.told("claim.expired")
    assert (expired.data["gpus"], expired.data["reason"]) == (6, "no stage opened on it in time")
    assert await reserve(story, "other", 6) is ClaimState.GRANTED
    await when.seen(installed=16, ready=16)
    await when.passes("3h")
    assert len(story.events("claim.expired")) == 1
    await when.resumed()
    await then.exposure_is("pro", "100%")


async def test_a_stage_stopped_while_it_reserved_asks_anew_once_that_claim_has_expired(
    story: Story, given: Given, when: When, then: Then
) -> None:
    async def pause_once() -> None:
        del story.world.after["reserve"]
        await when.paused()

    await given.budget()
    await when.seen(installed=8, ready=0)
    story.world.after["reserve"] = pause_once
    await given.rollout([Stage("pro", reserve=6, reserve_for="2h")])
    await then.told("plan.paused")
    await when.seen(installed=8, ready=8)
    await when.passes("3h")
    await then.told("claim.expired")
    await when.resumed()
    await then.exposure_is("pro", "100%")


async def test_a_claim_of_an_owner_that_is_gone_expires_and_can_be_made_again(
    story: Story, given: Given, when: When
) -> None:
    await given.budget()
    await when.seen(installed=8, ready=0)
    assert await reserve(story, "a", 6, lasts_s=60.0) is ClaimState.GRANTED
    await when.passes("2m")
    await until(lambda: is_gone(story, "a"))
    assert await reserve(story, "a", 8) is ClaimState.GRANTED


async def test_a_loan_goes_back_by_itself_where_nobody_gives_it_back(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.budget()
    await when.seen(installed=8, ready=8, needed=6)
    until_then = await story.now() + timedelta(hours=1)
    loan = Loan(
        loan_id="loan",
        gpu_type=story.gpu_type,
        lender=story.pool,
        borrower="core",
        until=until_then,
    )
    assert await story.plane.ask_budget(story.gpu_type, "lend", loan, int) == 6
    await when.passes("2h")
    expired = await then.told("claim.expired")
    assert expired.data["reason"] == f"nobody gave it back to {story.pool} in time"
    assert await is_gone(story, "loan")
