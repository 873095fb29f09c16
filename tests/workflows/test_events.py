"""Events: numbered without a gap by each source, delivered until they are acknowledged."""

import asyncio

import pytest

from tests.embedded.until import until
from tests.workflows.story import Given, Stage, Story, Then, When
from tidegate.messages.feature import HoldOrder
from tidegate.messages.rollout import RolloutPhase

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_each_source_numbers_its_events_without_a_gap(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", reserve=4), Stage("free", approval="launch", reserve=4)])
    await when.seen(installed=8, ready=8)
    await when.passes("11m")
    await when.held()
    await when.approved("free", role="launch")
    await when.released()
    await when.passes("11m")
    await then.it_ended(RolloutPhase.FINISHED)
    await until(lambda: len(story.events("claim.spent")) == 2)
    by_source: dict[str, list[int]] = {}
    for event in story.events():
        by_source.setdefault(event.source, []).append(event.sequence)
    assert len(by_source) == 3
    for sequences in by_source.values():
        assert sequences == list(range(1, len(sequences) + 1))


async def test_what_is_not_acknowledged_is_delivered_again_and_nothing_waits_for_it(
    story: Story, given: Given, when: When, then: Then
) -> None:
    story.world.is_deaf = True
    await given.rollout([Stage("pro", approval="launch"), Stage("free", bake="1h")])
    await when.approved("pro", role="launch")
    await then.exposure_is("pro", "100%")

    def attempts() -> int:
        return sum(batch[0].subject == f"rollout/{story.rollout}" for batch in world.announced)

    world = story.world
    await until(lambda: attempts() >= 3)
    assert story.events() == []
    waiting = (await story.state()).outbox.waiting
    assert [event.sequence for event in waiting] == list(range(1, len(waiting) + 1))
    world.is_deaf = False
    await then.told("stage.advanced", stage="pro")
    assert [e.sequence for e in story.events() if "rollout" in e.source][:3] == [1, 2, 3]


async def test_a_rollout_ends_only_when_its_last_event_is_recorded(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", bake="0s")])
    await then.told("stage.baked")
    await given.rollout([Stage("plus", starts_in="1h")])
    story.world.is_deaf = True
    await when.aborted()
    await then.it_is(RolloutPhase.ABORTED)
    assert not await story.is_closed(story.rollout)
    story.world.is_deaf = False
    state = await then.it_ended(RolloutPhase.ABORTED)
    assert story.types()[-1] == "rollout.aborted"
    assert state.outbox.waiting == []


async def test_two_lives_of_one_name_are_two_sources(
    story: Story, given: Given, then: Then
) -> None:
    await given.rollout([Stage("pro", bake="0s")])
    await then.it_ended(RolloutPhase.FINISHED)
    order = story.order(story.rollout, [Stage("pro", bake="1s")])
    assert await story.plane.start_plan(order, "again")
    await then.it_ended(RolloutPhase.FINISHED)
    sources = {event.source for event in story.events("rollout.finished")}
    assert len(sources) == 2


async def test_many_events_at_once_travel_together_and_in_order(
    story: Story, given: Given, then: Then
) -> None:
    await given.feature()
    hold = HoldOrder(by="lee", role="legal", reason="a review")
    for _ in range(5):
        await asyncio.gather(
            *(story.plane.ask_feature(story.feature, "hold", hold) for _ in range(8))
        )
    await then.told("feature.held", times=40)
    sequences = [event.sequence for event in story.events()]
    assert sequences == list(range(1, 42))
    batches = [b for b in story.world.announced if b[0].subject == f"feature/{story.feature}"]
    assert len(batches) < 30
