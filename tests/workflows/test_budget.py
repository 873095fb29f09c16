"""A budget: the only holder of claims, each made, spent and released once."""

import asyncio

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus

from tests.embedded.until import until
from tests.workflows.story import Given, Stage, Story, Then, When
from tidegate.errors import Refused
from tidegate.messages.budget import ClaimStatus, Reservation, budget_id
from tidegate.messages.steered import Waits
from tidegate.rules.ledger import ClaimState

pytestmark = pytest.mark.asyncio(loop_scope="session")


_SIGNALLED = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED


class Desk:
    """Asks a story's budget as the activities do."""

    def __init__(self, story: Story) -> None:
        self._story = story

    async def reserve(self, claim_id: str, gpus: int, owner: str = "nobody") -> ClaimStatus:
        wanted = Reservation(
            claim_id=claim_id,
            owner=owner,
            pool=self._story.pool,
            gpus=gpus,
            lead_p50_s=0.0,
            lead_p90_s=0.0,
        )
        return await self._ask("reserve", wanted)

    async def spend(self, claim_id: str) -> ClaimStatus:
        return await self._ask("spend", claim_id)

    async def release(self, claim_id: str) -> None:
        await self._story.plane.ask_budget(self._story.gpu_type, "release", claim_id, None)

    async def _ask(self, verb: str, message: object) -> ClaimStatus:
        story = self._story
        return await story.plane.ask_budget(story.gpu_type, verb, message, ClaimStatus)


@pytest.fixture
def desk(story: Story) -> Desk:
    return Desk(story)


async def test_the_same_claim_made_spent_and_released_twice_is_done_once(
    story: Story, given: Given, when: When, then: Then, desk: Desk
) -> None:
    await given.budget()
    await when.seen(installed=8, ready=8)
    first, again = await desk.reserve("a", 4), await desk.reserve("a", 4)
    assert first == again.model_copy(update={"forecast": first.forecast})  # which slides with now
    assert (await desk.reserve("a", 8)).gpus == 4
    assert (await desk.spend("a")).state is ClaimState.SPENT
    assert (await desk.spend("a")).in_use_gpus == 4
    await desk.release("a")
    await desk.release("a")
    assert "a" not in (await story.budget_state()).ledger.claims
    for event in ("claim.made", "claim.granted", "claim.spent", "claim.released"):
        await then.told(event)
    types = [e.type for e in story.events() if e.type.startswith("claim.")]
    assert types == ["claim.made", "claim.granted", "claim.spent", "claim.released"]


async def test_a_claim_is_spent_only_where_ready_replicas_cover_it(
    given: Given, when: When, desk: Desk
) -> None:
    await given.budget()
    with pytest.raises(Refused) as refusal:
        await desk.spend("a")
    assert str(refusal.value) == 'claim "a": nobody made it. Reserve the GPUs first.'
    await desk.reserve("a", 4)
    with pytest.raises(Refused, match=r'^claim "a": needs 4 GPUs, 0 are ready in all'):
        await desk.spend("a")
    await when.seen(installed=4, ready=3)
    with pytest.raises(Refused, match=r'^claim "a": needs 4 GPUs, 3 are ready in all'):
        await desk.spend("a")
    await when.seen(installed=4, ready=4)
    assert (await desk.spend("a")).state is ClaimState.SPENT


async def test_sick_gpus_are_granted_to_nobody(given: Given, when: When, desk: Desk) -> None:
    await given.budget()
    await when.seen(installed=8, ready=8, sick=5)
    assert (await desk.reserve("a", 4)).state is ClaimState.WAITING
    await when.seen(installed=8, ready=8, sick=4)
    assert (await desk.reserve("a", 4)).state is ClaimState.GRANTED


async def test_an_uncounted_budget_grants_nothing(given: Given, when: When, desk: Desk) -> None:
    await given.budget()
    waiting = await desk.reserve("a", 1)
    assert waiting.state is ClaimState.WAITING
    assert waiting.installed_gpus is None
    assert waiting.unclaimed_gpus == 0


async def test_an_owner_that_is_gone_neither_stops_the_others_nor_loses_its_claim(
    story: Story, given: Given, when: When, then: Then, desk: Desk
) -> None:
    await given.rollout([Stage("pro", reserve=4)])
    await then.it_waits_for(Waits.GPUS)
    await desk.reserve("a", 4, owner="gone")
    await until(lambda: _has_owners(story, 1))
    await when.seen(installed=8, ready=8)
    await then.exposure_is("pro", "100%")
    assert (await desk.reserve("a", 4)).state is ClaimState.GRANTED


async def test_claims_released_while_their_owners_are_being_told_stop_nobody_from_being_told(
    story: Story, given: Given, when: When, then: Then, desk: Desk
) -> None:
    await given.rollout([Stage("pro", reserve=4)])
    await then.it_waits_for(Waits.GPUS)
    for _ in range(10):
        owner = f"rollout/{story.rollout}"
        await asyncio.gather(*(desk.reserve(str(i), 1, owner=owner) for i in range(8)))
        await when.seen(installed=2, ready=2)
        await asyncio.gather(*(desk.release(str(i)) for i in range(8)))
        await when.seen(installed=3, ready=3)
    await when.seen(installed=4, ready=4)
    await then.exposure_is("pro", "100%")


async def test_a_budget_that_nobody_declared_hears_nothing_and_raises_nothing(
    story: Story, when: When
) -> None:
    await when.seen(installed=8, ready=8)
    assert await story.plane.budget(story.gpu_type) is None


async def test_a_budget_lives_on_whatever_it_is_asked(
    story: Story, given: Given, when: When
) -> None:
    await given.budget()
    await when.seen(installed=8, ready=8)
    found = await story.client.get_workflow_handle(budget_id(story.gpu_type)).describe()
    assert found.status is WorkflowExecutionStatus.RUNNING


async def _has_owners(story: Story, count: int) -> bool:
    return len((await story.budget_state()).owners) == count


async def test_an_owner_hears_once_of_gpus_that_take_no_time_to_come_and_do_not(
    story: Story, given: Given, when: When, desk: Desk
) -> None:
    await given.rollout(["pro"])
    owner = f"rollout/{story.rollout}"
    await when.seen(installed=8, ready=0)
    await desk.reserve("a", 4, owner=owner)

    async def signals() -> int:
        history = await story.client.get_workflow_handle(owner).fetch_history()
        return sum(
            e.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED for e in history.events
        )

    async def has_heard() -> bool:
        return await signals() == 1

    await until(has_heard)
    await desk.reserve("b", 4)  # each look at the ledger finds the range over again
    await when.seen(installed=8, ready=1)
    assert await signals() == 1
