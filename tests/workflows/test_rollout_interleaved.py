"""However holds, pauses, approvals, GPUs and time interleave, a stopped rollout lets nobody in."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from temporalio.testing import WorkflowEnvironment

from tests.workflows.story import CHECK, COARSE, Given, Stage, Story, Then, When
from tests.workflows.world import World
from tidegate.errors import Refused
from tidegate.messages.rollout import RolloutPhase
from tidegate.rules.verdict import Verdict

pytestmark = pytest.mark.asyncio(loop_scope="session")

GPUS = 16


class Step(StrEnum):
    HOLD = "legal holds it"
    RELEASE = "legal releases it"
    WRONG_RELEASE = "safety tries to release it"
    PAUSE = "its owner pauses it"
    RESUME = "its owner resumes it"
    APPROVE = "the free stage is approved"
    GPUS_COME = "GPUs become ready"
    GPUS_GO = "GPUs are lost"
    HOUR = "an hour passes"
    WEEK = "a week passes"
    PROMOTE = "a person promotes it"


STAGES = [
    Stage("pro", reserve=4, bake="1h", check=CHECK),
    Stage("free-some", tiers=("free",), exposure="10%", approval="launch", reserve=4, bake="1h"),
    Stage("free-all", tiers=("free",), reserve=4, bake="1h"),
]


@dataclass
class Telling:
    """Does steps to a rollout, and knows for how long it was stopped."""

    story: Story
    stopped_at: datetime | None = None
    stopped_for: timedelta = field(default_factory=timedelta)
    by: set[Step] = field(default_factory=set)

    async def step(self, step: Step) -> None:
        try:
            await self._act(step)
        except Refused:
            return
        if step in {Step.HOLD, Step.PAUSE}:
            self.by.add(step)
            self.stopped_at = self.stopped_at or await self.story.now()
        lifted = {Step.RELEASE: Step.HOLD, Step.RESUME: Step.PAUSE}.get(step)
        if lifted is not None:
            self.by.discard(lifted)
            if not self.by and self.stopped_at is not None:
                self.stopped_for += await self.story.now() - self.stopped_at
                self.stopped_at = None

    async def _act(self, step: Step) -> None:  # noqa: C901 - one line a step
        when = When(self.story)
        match step:
            case Step.HOLD:
                await when.held(role="legal")
            case Step.RELEASE:
                await when.released(role="legal")
            case Step.WRONG_RELEASE:
                await when.released(role="safety")
            case Step.PAUSE:
                await when.paused()
            case Step.RESUME:
                await when.resumed()
            case Step.APPROVE:
                await when.approved("free-some", role="launch")
            case Step.GPUS_COME:
                await when.seen(installed=GPUS, ready=GPUS)
            case Step.GPUS_GO:
                await when.seen(installed=GPUS, ready=3)
            case Step.HOUR:
                await when.passes("61m")
            case Step.WEEK:
                await when.passes("7d")
            case Step.PROMOTE:
                await when.promoted()


@settings(max_examples=8)
@given(
    st.lists(st.sampled_from(Step), min_size=4, max_size=12),
    st.sampled_from([Verdict.PASS, Verdict.INCONCLUSIVE]),
)
@example([Step.HOLD, Step.PAUSE, Step.GPUS_COME, Step.RELEASE, Step.WEEK, Step.RESUME], "pass")
@example([Step.GPUS_COME, Step.HOUR, Step.HOLD, Step.PROMOTE, Step.APPROVE, Step.WEEK], "pass")
async def test_a_stopped_rollout_lets_nobody_in_and_ends_as_much_later_as_it_was_stopped(
    env: WorkflowEnvironment, world: World, steps: list[Step], verdict: Verdict
) -> None:
    story = Story(env.client, world, env, await env.get_current_time())
    given_, when, then = Given(story), When(story), Then(story)
    given_.verdicts(Verdict(verdict))
    await given_.rollout(STAGES)
    telling = Telling(story)
    for step in steps:
        was_stopped, before = bool(telling.by), (await story.feature_state()).exposure
        await telling.step(step)
        if was_stopped and telling.by:
            assert (await story.feature_state()).exposure == before, step
        await when.passes("1s")  # whatever is under way comes to rest
        if telling.by and step is Step.HOLD:
            assert (await story.feature_state()).exposure == before
    for step in (Step.RELEASE, Step.RESUME, Step.GPUS_COME, Step.APPROVE, Step.HOUR):
        await telling.step(step)
    for step in (Step.PROMOTE, Step.APPROVE, Step.HOUR, Step.HOUR, Step.HOUR):
        await telling.step(step)
    state = await then.it_ended(RolloutPhase.FINISHED)
    assert (await story.feature_state()).exposure == {"pro": 1.0, "free": 1.0}
    assert abs(state.shift - telling.stopped_for) < COARSE
    advanced = story.events("stage.advanced")
    assert [event.data["stage"] for event in advanced] == ["pro", "free-some", "free-all"]
    for event in advanced:
        ready, in_use = event.data["ready_gpus"], event.data["in_use_gpus"]
        assert isinstance(ready, int)
        assert isinstance(in_use, int)
        assert ready >= in_use
    sequences = [event.sequence for event in story.events() if "rollout" in event.source]
    assert sequences == list(range(1, len(sequences) + 1))
