"""Given, when, then: stories of one feature, its budget and its rollouts, in skipped time."""

import itertools
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.testing import WorkflowEnvironment

from tests.embedded.until import until
from tests.workflows.world import KEYS, World
from tidegate.audience import Segment
from tidegate.catalogue import BudgetSpec, FeatureSpec
from tidegate.checks import CheckSpec
from tidegate.cli.holding import release_hold
from tidegate.edges.temporal import ControlPlane
from tidegate.errors import Refused
from tidegate.events import Event
from tidegate.freezes import FreezeSpec
from tidegate.messages.budget import BudgetState, Observation, budget_id
from tidegate.messages.common import Act
from tidegate.messages.feature import (
    FeatureState,
    HoldOrder,
    SignupsOrder,
    SignupsVerb,
    feature_id,
)
from tidegate.messages.rollout import (
    Approval,
    ChangeOrder,
    RolloutOrder,
    RolloutPhase,
    RolloutState,
    rollout_id,
)
from tidegate.messages.steered import AbortOrder, FreezeOrder, Waits, WayBack
from tidegate.messages.supply import Expected
from tidegate.plans import RolloutSpec, StageSpec, StepsSpec, SupplySpec
from tidegate.quantities import parse_duration, parse_share
from tidegate.rules.verdict import Verdict

_numbers = itertools.count(1)

POOL: Final = "pool"
LEAD_P50_S: Final = 60.0
LEAD_P90_S: Final = 120.0
_OF_UPDATES: Final = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_REJECTED,
}
CHECK: Final = CheckSpec(name="wait", queue_wait_below=timedelta(seconds=2), fails_after=1)
COARSE: Final = timedelta(seconds=30)
"""What acts cost on the test server's clock, at the very most."""


@dataclass(frozen=True)
class Stage:
    """A stage, its instants counted from the story's beginning."""

    name: str
    tiers: tuple[str, ...] = ()
    exposure: str = "100%"
    steps: tuple[str, ...] = ()
    each: str = "10m"
    starts_in: str | None = None
    approval: str | None = None
    reserve: int = 0
    reserve_for: str | None = None
    bake: str = "10m"
    check: CheckSpec | None = None
    checks: tuple[CheckSpec, ...] = ()
    looks: int = 1
    only: Segment | None = None

    def spec(self, began_at: datetime) -> StageSpec:
        starts_at = began_at + parse_duration(self.starts_in) if self.starts_in else None
        shares = tuple(parse_share(share) for share in self.steps)
        steps = StepsSpec(shares=shares, each=parse_duration(self.each)) if shares else None
        return StageSpec(
            name=self.name,
            tiers=self.tiers or (self.name,),
            exposure=parse_share(self.exposure),
            steps=steps,
            starts_at=starts_at,
            approval=self.approval,
            reserve=self.reserve,
            reserve_for=parse_duration(self.reserve_for) if self.reserve_for else None,
            bake=parse_duration(self.bake),
            checks=(self.check, *self.checks) if self.check else self.checks,
            looks=self.looks,
            only=self.only,
        )


@dataclass
class Story:
    """One feature, one budget and the rollouts between them, named like no other story's."""

    client: Client
    world: World
    env: WorkflowEnvironment | None
    began_at: datetime
    number: int = field(default_factory=lambda: next(_numbers))
    rollouts: list[str] = field(default_factory=list)
    others: dict[str, str] = field(default_factory=dict)
    """Other workflows of the story, by kind."""

    @property
    def plane(self) -> ControlPlane:
        return ControlPlane(self.client, KEYS)

    @property
    def feature(self) -> str:
        return f"feature-{self.number}"

    @property
    def gpu_type(self) -> str:
        return f"gpu-{self.number}"

    @property
    def pool(self) -> str:
        return f"{POOL}-{self.number}"

    @property
    def rollout(self) -> str:
        return self.rollouts[-1]

    def order(
        self, name: str, stages: Sequence[Stage], freezes: Sequence[FreezeSpec] = ()
    ) -> RolloutOrder:
        specs = tuple(stage.spec(self.began_at) for stage in stages)
        return RolloutOrder(
            name=name,
            spec=RolloutSpec(
                feature=self.feature, owner="pm", stages=specs, freezes=tuple(freezes)
            ),
            pool=self.pool,
            gpu_type=self.gpu_type,
            lead_p50_s=LEAD_P50_S,
            lead_p90_s=LEAD_P90_S,
            reading_limit_s=10.0,
        )

    async def now(self) -> datetime:
        assert self.env is not None, "time is skipped on the test server only"
        return await self.env.get_current_time()

    async def state(self) -> RolloutState:
        order = await self.plane.plan(rollout_id(self.rollout), RolloutOrder)
        assert order is not None
        return order.state

    async def feature_state(self) -> FeatureState:
        state = await self.plane.feature(self.feature)
        assert state is not None
        return state

    async def budget_state(self) -> BudgetState:
        state = await self.plane.budget(self.gpu_type)
        assert state is not None
        return state

    def events(self, event_type: str = "", *, stage: str = "") -> list[Event]:
        """Return this story's events as recorded, by type and stage where they are given."""
        ids = [rollout_id(name) for name in self.rollouts]
        ids += [feature_id(self.feature), budget_id(self.gpu_type)]
        return [
            event
            for event in self.world.recorded
            if event.source.strip("/").rpartition("/")[0] in ids
            and (not event_type or event.type == event_type)
            and (not stage or event.data.get("stage") == stage)
        ]

    def types(self, stage: str = "") -> list[str]:
        """Return the types of the rollouts' own events, in order."""
        return [e.type for e in self.events(stage=stage) if e.source.startswith("/rollout/")]

    async def end(self) -> None:
        """Bring the rollouts to their end, so that no timer of theirs runs on.

        Nothing is terminated: on the test server a terminated workflow's pending activity would
        stop the clock for ever. The entities wait for nothing and cost nothing.
        """
        self.world.before.clear()
        self.world.after.clear()
        self.world.is_deaf = False
        for name in self.rollouts:
            with suppress(Refused):  # it has ended
                await self.plane.steer(
                    rollout_id(name), "abort", Act(by="test", reason="the story is told")
                )
            await until(partial(self.is_closed, name))

    async def is_closed(self, rollout: str) -> bool:
        return await self.is_over(rollout_id(rollout))

    async def is_over(self, workflow_id: str) -> bool:
        found = await self.client.get_workflow_handle(workflow_id).describe()
        return found.status is not WorkflowExecutionStatus.RUNNING


@dataclass(frozen=True)
class Given:
    story: Story

    async def feature(self) -> None:
        await self.story.plane.declare_feature(
            self.story.feature, FeatureSpec(pool=self.story.pool)
        )

    async def budget(self, *arrivals: Expected) -> None:
        story = self.story
        await story.plane.declare_budget(story.gpu_type, BudgetSpec())
        for arrival in arrivals:
            await story.plane.expect(story.gpu_type, arrival)

    async def rollout(
        self,
        stages: Sequence[Stage | str],
        *arrivals: Expected,
        freezes: Sequence[FreezeSpec] = (),
    ) -> None:
        """Declare the feature and the budget, and start a rollout of these stages."""
        story = self.story
        await self.feature()
        await self.budget(*arrivals)
        story.rollouts.append(f"rollout-{story.number}-{len(story.rollouts) + 1}")
        named = [Stage(stage) if isinstance(stage, str) else stage for stage in stages]
        assert await story.plane.start_plan(story.order(story.rollout, named, freezes), "a story")

    def arrival(self, gpus: int, at: str, latest: str, name: str = "order") -> Expected:
        began_at = self.story.began_at
        spec = SupplySpec(
            gpu_type=self.story.gpu_type,
            owner="procurement",
            gpus=gpus,
            at=began_at + parse_duration(at),
            latest=began_at + parse_duration(latest),
        )
        return Expected(name=name, owner=f"supply/{name}", spec=spec)

    def verdicts(self, *verdicts: Verdict) -> None:
        """Say what the next measurements say."""
        self.story.world.verdicts[self.story.pool] = list(verdicts)


@dataclass(frozen=True)
class When:
    story: Story

    async def passes(self, duration: str) -> None:
        """Let time pass; whatever falls due on the way happens at its instant."""
        assert self.story.env is not None, "time is skipped on the test server only"
        await self.story.env.sleep(parse_duration(duration))

    async def seen(self, *, installed: int, ready: int, needed: int = 0, sick: int = 0) -> None:
        """Tell the budget what the capacity controller saw."""
        pool = self.story.pool
        observed = Observation(
            installed_gpus=installed,
            sick_gpus=sick,
            ready_gpus={pool: ready},
            needed_gpus={pool: needed},
        )
        await self.story.plane.observe(self.story.gpu_type, observed)

    async def approved(self, stage: str, *, role: str, by: str = "ann") -> None:
        approval = Approval(by=by, stage=stage, role=role)
        await self.story.plane.steer(rollout_id(self.story.rollout), "approve", approval)

    async def approved_if_needed(self, stage: str, *, role: str) -> None:
        with suppress(Refused):
            await self.approved(stage, role=role)

    async def paused(self, by: str = "pm") -> None:
        await self._steer("pause", Act(by=by, reason="a holiday"))

    async def resumed(self, by: str = "pm") -> None:
        await self._steer("resume", Act(by=by))

    async def promoted(self, by: str = "pm") -> None:
        await self._steer("promote", Act(by=by, reason="looked at it by hand"))

    async def retried(self, by: str = "pm") -> None:
        await self._steer("retry", Act(by=by, reason="the exporter was down"))

    async def skipped(self, reason: str = "nobody asked for it", by: str = "pm") -> None:
        await self._steer("skip", Act(by=by, reason=reason))

    async def changed(self, stages: Sequence[Stage | str]) -> None:
        """Have the rollout go on by other stages."""
        named = [Stage(stage) if isinstance(stage, str) else stage for stage in stages]
        spec = self.story.order(self.story.rollout, named).spec
        await self._steer("change", ChangeOrder(by="pm", spec=spec))

    async def aborted(
        self, reason: str = "a mistake", by: str = "pm", back: WayBack = WayBack.STAGE
    ) -> None:
        await self._steer("abort", AbortOrder(by=by, reason=reason, back=back))

    async def held(self, role: str = "legal", reason: str = "a review") -> None:
        await self._steer("hold", HoldOrder(by="lee", role=role, reason=reason))

    async def released(self, role: str = "legal") -> None:
        order = HoldOrder(by="lee", role=role)
        await release_hold(self.story.plane, self.story.rollout, order)

    async def frozen(self, freeze_id: str) -> None:
        order = FreezeOrder(by="cto", reason="all hands", freeze_id=freeze_id)
        await self._steer("freeze", order)

    async def thawed(self, freeze_id: str) -> None:
        await self._steer("thaw", FreezeOrder(by="cto", reason="it is over", freeze_id=freeze_id))

    async def signups_suspended(self, reason: str = "a surge") -> None:
        order = SignupsOrder(verb=SignupsVerb.SUSPEND, by="mara", reason=reason)
        await self.story.plane.set_signups(self.story.feature, order)

    async def signups_reopened(self, *cohorts: str, share: float | None = None) -> None:
        order = SignupsOrder(
            verb=SignupsVerb.REOPEN, by="mara", cohorts=cohorts, share=share, reason="it calms"
        )
        await self.story.plane.set_signups(self.story.feature, order)

    async def _steer(self, verb: str, order: Act) -> None:
        await self.story.plane.steer(rollout_id(self.story.rollout), verb, order)


@dataclass(frozen=True)
class Then:
    story: Story

    async def it_waits_for(self, waits: Waits, *, stage: str = "") -> None:
        """Wait until the rollout says that it waits for this."""

        async def holds() -> bool:
            state = await self.story.state()
            return state.waits is waits and stage in {"", state.stage}

        await until(holds)

    async def it_is(self, phase: RolloutPhase) -> None:
        """Wait until the rollout has come to this, its last events recorded or not."""

        async def holds() -> bool:
            return (await self.story.state()).phase is phase

        await until(holds)

    async def it_ended(self, phase: RolloutPhase) -> RolloutState:
        """Wait until the rollout is over, its last event recorded, and hold that it ended so."""
        await until(partial(self.story.is_closed, self.story.rollout))
        state = await self.story.state()
        assert state.phase is phase
        assert state.outbox.waiting == []
        return state

    async def exposure_is(self, tier: str, share: str) -> None:
        wanted = parse_share(share)

        async def holds() -> bool:
            state = await self.story.feature_state()
            return state.exposure.get(tier, 0.0) == wanted

        await until(holds)

    async def exposure_stays(self, tier: str, share: str, *, over: str) -> None:
        """Hold that a tier's exposure is this now, and at four looks while time passes."""
        assert self.story.env is not None, "time is skipped on the test server only"
        for _ in range(4):
            state = await self.story.feature_state()
            assert state.exposure.get(tier, 0.0) == parse_share(share)
            await self.story.env.sleep(parse_duration(over) / 4)
        state = await self.story.feature_state()
        assert state.exposure.get(tier, 0.0) == parse_share(share)

    async def told(self, event_type: str, *, stage: str = "", times: int = 1) -> Event:
        """Wait until an event is recorded so many times; returns the last."""
        await until(lambda: len(self.story.events(event_type, stage=stage)) >= times)
        found = self.story.events(event_type, stage=stage)
        assert len(found) == times, found
        return found[-1]

    async def happened(self, event_type: str, *, stage: str = "", after: str) -> None:
        """Hold that an event happened once, so long after the story's beginning."""
        event = await self.told(event_type, stage=stage)
        late = event.at - (self.story.began_at + parse_duration(after))
        assert timedelta() <= late <= COARSE, f"{event_type} was {late} late"

    async def refused(self, act: Coroutine[Any, Any, None], message: str) -> None:
        """Hold that this is refused with these words, and that nothing is written of it."""
        before = await self._written()
        with pytest.raises(Refused) as refusal:
            await act
        assert str(refusal.value) == message
        assert await self._written() == before

    async def _written(self) -> list[int]:
        """Return the ids of what the history says of updates.

        The test server, unlike the real one, also writes the task that refused.
        """
        handle = self.story.client.get_workflow_handle(rollout_id(self.story.rollout))
        history = await handle.fetch_history()
        return [e.event_id for e in history.events if e.event_type in _OF_UPDATES]
