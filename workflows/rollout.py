"""A rollout: stage by stage, due, approved, backed by ready replicas, exposed, baked."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import assert_never

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from tidegate.messages.budget import ClaimStatus, Reservation
    from tidegate.messages.common import Act
    from tidegate.messages.feature import ExposeOrder, FeatureAct, HoldOrder, WaitingNote
    from tidegate.messages.rollout import (
        Approval,
        BudgetAct,
        Measurement,
        RolloutOrder,
        RolloutPhase,
        RolloutState,
        StageProgress,
    )
    from tidegate.messages.steered import Waits
    from tidegate.plans import StageSpec
    from tidegate.quantities import counted
    from tidegate.rules.freezing import frozen_until
    from tidegate.rules.ledger import ClaimState
    from tidegate.rules.verdict import Verdict
    from workflows.acts import act
    from workflows.refusal import refuse
    from workflows.rollout_events import RolloutEvents
    from workflows.rollout_view import show_rollout, what_is_awaited
    from workflows.steered import Aborted, Steered


@workflow.defn(name="Rollout")
class Rollout(Steered):
    """Opens a feature to its tiers in order, and never ahead of the GPUs that serve them."""

    order: RolloutOrder
    state: RolloutState

    @workflow.init
    def __init__(self, order: RolloutOrder) -> None:
        self.order = order
        self.state = order.state
        self.take_up()
        self.events = RolloutEvents(self.outbox, order)

    @workflow.run
    async def run(self, _: RolloutOrder) -> RolloutState:
        """Open every stage in turn; returns where it ended."""
        self.delivering = asyncio.create_task(self.outbox.deliver())
        try:
            for stage in self.stages_left():
                await self.until_due(stage)
                await self.until_approved(stage)
                await self.until_no_freeze(stage)
                await self.until_backed_by_ready_replicas(stage)
                await self.expose(stage)
                match await self.bake(stage):
                    case Verdict.PASS:
                        self.finish_stage(stage)
                    case Verdict.FAIL:
                        self.fail(stage)
                    case Verdict.INCONCLUSIVE:
                        await self.until_a_person_decides(stage)
                    case never:
                        assert_never(never)
            self.finish()
        except Aborted:
            await self.step_back()
        await self.outbox.delivered()
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.state

    # The steps of the story, in its order.

    def stages_left(self) -> Iterator[StageSpec]:
        """Yield the stages that have not been baked yet."""
        for stage in self.order.spec.stages:
            if self.progress(stage).baked_at is None:
                self.state.stage = stage.name
                yield stage

    async def until_due(self, stage: StageSpec) -> None:
        """Wait for the stage's instant, as shifted by pauses and holds."""
        progress = self.progress(stage)
        if progress.due_at is None:
            planned_at = stage.starts_at or workflow.now() - self.state.shift
            await self.until_instant(planned_at, Waits.DUE)
            progress.due_at = workflow.now()
            self.events.tell("stage.due", stage, reason="its instant has come")

    async def until_approved(self, stage: StageSpec) -> None:
        """Wait for the role that must approve, where one must."""
        if stage.approval is None:
            return
        progress = self.progress(stage)
        if progress.approved_by is None:
            await self.note(stage, f"approval by {stage.approval}")
        await self.until(lambda: progress.approved_by is not None, Waits.APPROVAL)

    async def until_no_freeze(self, stage: StageSpec) -> bool:
        """Wait for the end of a freeze, where one holds now; returns whether one did."""
        is_open = self.progress(stage).exposed_at is not None
        frozen = None if is_open else frozen_until(self.order.spec.freezes, workflow.now())
        if frozen is None:
            return False
        until, reason = frozen
        await self.note(stage, f"the end of a freeze, {until:%F %H:%M} UTC: {reason}")
        await self.until_instant(until - self.state.shift, Waits.FREEZE)
        return True

    async def until_backed_by_ready_replicas(self, stage: StageSpec) -> None:
        """Reserve GPUs and wait until ready replicas cover them, at the instant of opening."""
        if stage.reserve == 0 or self.progress(stage).exposed_at is not None:
            return
        while True:
            await self.reserve(stage)
            if await self.spend(stage):
                return
            claim = self.state.claim
            if claim is not None and not claim.backed:
                await self.tell_what_is_awaited(stage, claim)
                await self.until_the_claim_is_not(claim)

    async def expose(self, stage: StageSpec) -> None:
        """Let the stage's users in, unless something has stopped the rollout since."""
        progress, looks = self.progress(stage), 0
        reason = f"stage {stage.name} opens for {', '.join(stage.tiers)}"
        order = self.exposure(stage, stage.tiers, stage.exposure, reason)
        while progress.exposed_at is None:
            has_waited = self.is_stopped or looks > 0 or await self.until_no_freeze(stage)
            await self.until(lambda: True, Waits.NOTHING)
            if has_waited and not await self.is_still_covered(stage):
                looks += 1
                await self.look_again(looks, Waits.GPUS)
                continue
            if self.is_stopped:
                continue
            try:
                before = await self.ask_feature(FeatureAct(feature=self.feature, expose=order))
            except ActivityError:  # somebody else holds the feature
                looks += 1
                await self.look_again(looks, Waits.HOLD)
                continue
            progress.exposure_before = dict(before)
            progress.exposed_at = workflow.now()
            progress.shift_when_exposed = self.state.shift
            self.events.advanced(stage, self.state.claim, reason)
            self.describe()

    async def bake(self, stage: StageSpec) -> Verdict:
        """Watch the stage for its bake time, then hold its check against what was read."""
        progress = self.progress(stage)
        if progress.verdict is not None:
            return progress.verdict  # measured by the run before this one
        exposed_at = progress.exposed_at or workflow.now()
        await self.until_instant(exposed_at - progress.shift_when_exposed + stage.bake, Waits.BAKE)
        if stage.check is None:
            return Verdict.PASS
        measurement = Measurement(
            pool=self.order.pool, check=stage.check, limit_s=self.order.reading_limit_s
        )
        verdict = Verdict(await act("measure", measurement, summary=f"check {stage.name}"))
        if verdict is Verdict.PASS:
            await self.until(lambda: True, Waits.BAKE)  # an abort may have come meanwhile
        return verdict

    async def until_a_person_decides(self, stage: StageSpec) -> None:
        """Wait for `promote` or `abort` after an inconclusive check."""
        progress = self.progress(stage)
        if progress.verdict is None:
            progress.verdict = Verdict.INCONCLUSIVE
            self.events.tell("stage.inconclusive", stage, reason="its check could not be read")
        await self.until(lambda: progress.verdict is Verdict.PASS, Waits.PERSON)
        self.finish_stage(stage)

    # What the steps do.

    async def reserve(self, stage: StageSpec) -> None:
        """Claim the stage's GPUs; asking again only tells how the claim stands now."""
        self.state.claim = None
        wanted = Reservation(
            claim_id=self.claim_id(stage.name),
            owner=workflow.info().workflow_id,
            pool=self.order.pool,
            gpus=stage.reserve,
            lead_p50_s=self.order.lead_p50_s,
            lead_p90_s=self.order.lead_p90_s,
        )
        found = await act(
            "reserve",
            BudgetAct(gpu_type=self.order.gpu_type, reservation=wanted),
            summary=f"reserve {counted(stage.reserve, 'GPU')} for {stage.name}",
        )
        if self.state.claim is None:  # what the budget has signalled since is newer
            self.state.claim = ClaimStatus.model_validate(found)

    async def spend(self, stage: StageSpec) -> bool:
        """Look again just before opening, and say whether ready replicas cover the reservation."""
        await self.until(lambda: True, Waits.GPUS)
        claim = self.state.claim
        if claim is None or (claim.state is not ClaimState.SPENT and not claim.backed):
            return False
        spending = BudgetAct(gpu_type=self.order.gpu_type, claim_id=self.claim_id(stage.name))
        try:
            found = await act("spend", spending, summary=f"open {stage.name} on ready GPUs")
        except ActivityError:
            return False
        self.state.claim = ClaimStatus.model_validate(found)
        return True

    async def until_the_claim_is_not(self, told: ClaimStatus) -> None:
        """Wait until the budget has said something new."""
        await self.until(lambda: self.state.claim != told, Waits.GPUS)

    async def is_still_covered(self, stage: StageSpec) -> bool:
        """Say whether replicas are still ready, where a stop came between spending and opening."""
        await self.until_backed_by_ready_replicas(stage)
        claim = self.state.claim
        return claim is None or claim.ready_gpus >= claim.in_use_gpus

    async def tell_what_is_awaited(self, stage: StageSpec, claim: ClaimStatus) -> None:
        """Say what the stage lacks, and when that is expected."""
        lacks = what_is_awaited(claim)
        self.events.awaited(stage, claim, lacks)
        await self.note(stage, lacks)

    async def note(self, stage: StageSpec, waits_for: str) -> None:
        """Let refusals say what the stage waits for."""
        opens = self.state.claim.forecast if self.state.claim else None
        note = WaitingNote(stage=stage.name, tiers=stage.tiers, waits_for=waits_for, opens=opens)
        await self.ask_feature(FeatureAct(feature=self.feature, note=note))

    async def step_back(self) -> None:
        """Take the open stage's users out again, give its GPUs back, and end."""
        self.state.phase = RolloutPhase.ABORTED
        self.state.claim = None
        stage = self.stage
        reason = self.state.abort.reason if self.state.abort else "its check failed"
        for tier, share in self.progress(stage).exposure_before.items():
            back = self.exposure(stage, (tier,), share, f"taken back: {reason}")
            await self.ask_feature(FeatureAct(feature=self.feature, expose=back))
        if stage.reserve:
            released = BudgetAct(gpu_type=self.order.gpu_type, claim_id=self.claim_id(stage.name))
            await act("release", released, summary=f"give {counted(stage.reserve, 'GPU')} back")
        await self.note(stage, f"a new rollout; this one was aborted: {reason}")
        self.events.aborted(stage, self.state.abort, reason)
        self.describe()

    def finish_stage(self, stage: StageSpec) -> None:
        """Remember that the stage is done, so that a continued run goes on behind it."""
        progress = self.progress(stage)
        progress.verdict, progress.baked_at = Verdict.PASS, workflow.now()
        self.state.claim = None
        self.events.tell("stage.baked", stage, reason="it baked and its check passed")
        self.describe()

    def fail(self, stage: StageSpec) -> None:
        """Leave the story: a check failed."""
        self.progress(stage).verdict = Verdict.FAIL
        self.events.tell("stage.failed", stage, reason="its check failed")
        raise Aborted

    def finish(self) -> None:
        """Every stage is open and baked."""
        self.state.phase = RolloutPhase.FINISHED
        self.state.waits = Waits.NOTHING
        self.events.finished()
        self.describe()

    async def ask_feature(self, asked: FeatureAct) -> dict[str, float]:
        """Have the feature do something; raises ActivityError where it refuses."""
        wanted = asked.expose or asked.note or asked.hold or asked.release
        summary = (
            "" if wanted is None else getattr(wanted, "reason", "") or "note what it waits for"
        )
        return dict(await act("ask_feature", asked, summary=summary) or {})

    def exposure(
        self, stage: StageSpec, tiers: tuple[str, ...], share: float, reason: str
    ) -> ExposeOrder:
        """Write the order that sets tiers to a share; its id makes it happen once."""
        order_id = f"{self.claim_id(stage.name)}/{','.join(tiers)}@{share}"
        return ExposeOrder(
            order_id=order_id,
            stage=stage.name,
            tiers=tiers,
            share=share,
            segment=stage.segment,
            reason=reason,
        )

    def claim_id(self, stage: str) -> str:
        """Name a stage's claim: the same for every run of one rollout, and for no other."""
        return f"{self.subject}/{workflow.info().first_execution_run_id[:8]}/{stage}"

    def progress(self, stage: StageSpec) -> StageProgress:
        """Return what is remembered of a stage."""
        return self.state.progress.setdefault(stage.name, StageProgress())

    @property
    def stage(self) -> StageSpec:
        """The stage that the rollout has come to."""
        return next(s for s in self.order.spec.stages if s.name == self.state.stage)

    @property
    def feature(self) -> str:
        """The feature that is rolled out."""
        return self.order.spec.feature

    # What it tells and shows.

    def describe(self) -> None:
        """Show in the Temporal UI where the rollout stands and who can act."""
        show_rollout(self.outbox.visible, self.order, self.state)

    # What people and the budget may say, beside what steers every plan.

    @property
    def is_over(self) -> bool:
        """Whether the rollout has ended."""
        return self.state.phase is not RolloutPhase.RUNNING

    @workflow.update
    def approve(self, approval: Approval) -> None:
        """Approve a stage in the name of the role that must."""
        stage = next(s for s in self.order.spec.stages if s.name == approval.stage)
        self.progress(stage).approved_by = approval.by
        self.events.approved(stage, approval)
        self.describe()

    @approve.validator
    def _may_approve(self, approval: Approval) -> None:
        self._refuse_when_over("approve")
        known = {stage.name: stage for stage in self.order.spec.stages}
        stage = known.get(approval.stage)
        if stage is None:
            message = f'{self.subject}: no stage "{approval.stage}". It has {", ".join(known)}.'
            raise refuse(message)
        if stage.approval is None:
            raise refuse(f'stage "{stage.name}": it needs no approval.')
        if stage.approval != approval.role:
            message = f'stage "{stage.name}": {stage.approval} approves it, not {approval.role}.'
            raise refuse(message)
        progress = self.state.progress.get(stage.name)
        if progress is not None and progress.approved_by is not None:
            raise refuse(f'stage "{stage.name}": {progress.approved_by} did already.')

    @workflow.update
    def promote(self, order: Act) -> None:
        """Take an inconclusive check as passed, on a person's word."""
        self.progress(self.stage).verdict = Verdict.PASS
        self.events.promoted(self.stage, order)

    @promote.validator
    def _may_promote(self, order: Act) -> None:  # noqa: ARG002 - as the update
        progress = self.state.progress.get(self.state.stage)
        waits = progress is not None and progress.verdict is Verdict.INCONCLUSIVE
        if self.is_over or self.state.abort is not None or not waits:
            raise refuse(f"{self.subject}: no check waits for a person, so nothing to promote.")

    @workflow.signal
    def claim_changed(self, status: ClaimStatus) -> None:
        """Hear from the budget how the open claim stands."""
        progress = self.state.progress.get(self.state.stage)
        is_open = progress is not None and progress.exposed_at is not None
        if status.claim_id == self.claim_id(self.state.stage) and not is_open:
            self.state.claim = status

    @workflow.query
    def current(self) -> RolloutOrder:
        """Return the plan, and in its state where the rollout stands."""
        return self.order

    async def place_hold(self, order: HoldOrder) -> None:
        """Have the feature say why nobody else gets in."""
        with suppress(ActivityError):
            await self.ask_feature(FeatureAct(feature=self.feature, hold=order))

    async def lift_hold(self, order: HoldOrder) -> None:
        """Let the feature grow again, unless somebody else holds it too."""
        with suppress(ActivityError):
            await self.ask_feature(FeatureAct(feature=self.feature, release=order))
