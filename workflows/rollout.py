"""A rollout: stage by stage, due, approved, backed by ready replicas, exposed, baked."""

import asyncio
from typing import assert_never

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from tidegate.messages.budget import ClaimStatus, Reservation
    from tidegate.messages.feature import ExposeOrder, FeatureAct, WaitingNote
    from tidegate.messages.rollout import (
        BudgetAct,
        RolloutOrder,
        RolloutPhase,
        RolloutState,
    )
    from tidegate.messages.steered import Waits, WayBack
    from tidegate.plans import RolloutSpec, StageSpec
    from tidegate.quantities import counted
    from tidegate.rules.freezing import frozen_until
    from tidegate.rules.ledger import ClaimState
    from workflows.acts import act
    from workflows.rollout_checks import WatchedRollout
    from workflows.rollout_events import RolloutEvents
    from workflows.rollout_steering import Replanned, Skipped
    from workflows.rollout_view import what_is_awaited
    from workflows.steered import Aborted


@workflow.defn(name="Rollout")
class Rollout(WatchedRollout):
    """Opens a feature to its tiers in order, and never ahead of the GPUs that serve them."""

    @workflow.init
    def __init__(self, order: RolloutOrder) -> None:
        self.order = order
        self.state = order.state
        self.state.stage = self.state.stage or order.spec.stages[0].name
        self.take_up()
        self.events = RolloutEvents(self.outbox, order)

    @workflow.run
    async def run(self, _: RolloutOrder) -> RolloutState:
        """Open every stage in turn; returns where it ended."""
        self.delivering = asyncio.create_task(self.outbox.deliver())
        try:
            while (stage := await self.next_stage()) is not None:
                try:
                    await self.until_due(stage)
                    await self.until_approved(stage)
                    await self.until_no_freeze(stage)
                    await self.until_backed_by_ready_replicas(stage)
                    await self.open_share_by_share(stage)
                except Skipped:
                    await self.pass_over(stage)
                except Replanned:
                    continue
            self.finish()
        except Aborted:
            await self.go_back()
        await self.outbox.delivered()
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.state

    # The steps of the story, in its order.

    async def next_stage(self) -> StageSpec | None:
        """Return the first stage that is neither baked nor skipped, by the plan as it is now."""
        while self.state.change is not None:
            await self.take_up_the_change(self.state.change)
        if self.state.abort is not None:
            raise Aborted
        for stage in self.order.spec.stages:
            progress = self.progress(stage)
            if progress.baked_at is None and progress.skipped_at is None:
                self.state.stage = stage.name
                return stage
        return None

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
        is_open = self.progress(stage).watched_since is not None
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
            # The budget says nothing more of a claim that has expired: that one is made anew.
            if claim and claim.state is not ClaimState.EXPIRED and not claim.backed:
                await self.tell_what_is_awaited(stage, claim)
                await self.until_the_claim_is_not(claim)

    async def open_share_by_share(self, stage: StageSpec) -> None:
        """Let more and more of the stage's users in, each time after the share before baked."""
        progress = self.progress(stage)
        while progress.steps < len(stage.shares):
            await self.expose(stage)
            await self.watch(stage)
        self.finish_stage(stage)

    async def expose(self, stage: StageSpec) -> None:
        """Let the next share of users in, unless something has stopped the rollout since."""
        progress, looks = self.progress(stage), 0
        while progress.watched_since is None:
            has_waited = self.is_stopped or looks > 0 or await self.until_no_freeze(stage)
            await self.until(lambda: True, Waits.NOTHING)
            if has_waited and not await self.is_still_covered(stage):
                looks += 1
                await self.look_again(looks, Waits.GPUS)
                continue
            if self.is_stopped:
                continue
            if not await self.reach_the_next_share(stage):  # somebody else holds the feature
                looks += 1
                await self.look_again(looks, Waits.HOLD)

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
            priority=self.order.spec.priority,
            lasts_s=stage.reserve_for.total_seconds() if stage.reserve_for else None,
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

    async def reach_the_next_share(self, stage: StageSpec) -> bool:
        """Have the feature let the next share in; returns whether it did."""
        progress = self.progress(stage)
        share = stage.shares[progress.steps]
        reason = f"stage {stage.name} opens for {', '.join(stage.tiers)}"
        order = self.exposure(stage, stage.tiers, share, reason)
        progress.is_opening = True
        try:
            before = await self.ask_feature(FeatureAct(feature=self.feature, expose=order))
        except ActivityError:
            return False
        finally:
            progress.is_opening = False
        progress.verdict = None
        if progress.exposed_at is None:
            progress.exposure_before = dict(before)
            progress.exposed_at = workflow.now()
        self.watch_from_now(progress)
        self.events.advanced(stage, share, self.state.claim, reason)
        self.describe()
        return True

    async def is_still_covered(self, stage: StageSpec) -> bool:
        """Say whether replicas are still ready, where a stop came between spending and opening.

        What is lost after that is the gate's matter, further shares of a stage included.
        """
        if self.progress(stage).exposed_at is not None:
            return True
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

    async def pass_over(self, stage: StageSpec) -> None:
        """Leave the stage as it is, and give back GPUs that it has not opened on."""
        progress = self.progress(stage)
        skip = progress.skip
        if progress.exposed_at is None:
            await self.give_up_claim(stage)
            reason = f"a new rollout; {skip.by} skipped this: {skip.reason}" if skip else ""
            await self.note(stage, reason)
        progress.skipped_at = workflow.now()
        self.state.claim = None
        if skip is not None:
            self.events.told_by("stage.skipped", stage, skip)
        self.describe()

    async def take_up_the_change(self, changed: RolloutSpec) -> None:
        """Go on by another plan; a stage that has not opened and is changed begins anew."""
        becoming = {stage.name: stage for stage in changed.stages}
        for stage in self.order.spec.stages:
            if not self.progress(stage).has_opened and becoming.get(stage.name) != stage:
                await self.give_up_claim(stage)
                del self.state.progress[stage.name]
        self.state.revision += 1
        self.order = self.order.model_copy(update={"spec": changed})
        if self.state.change == changed:
            self.state.change = None
        self.state.claim = None
        self.describe()

    async def go_back(self) -> None:
        """Take users out again as far as the abort says, give GPUs back, and end."""
        self.state.phase = RolloutPhase.ABORTED
        self.state.claim = None
        ended = self.state.abort
        reason = ended.reason if ended else "a check failed"
        match ended.back if ended else WayBack.STAGE:
            case WayBack.HERE:
                if self.progress(self.stage).exposed_at is None:
                    await self.give_up_claim(self.stage)
            case WayBack.STAGE:
                await self.take_back(self.stage, reason)
            case WayBack.NOTHING:
                for stage in reversed(self.order.spec.stages):
                    await self.take_back(stage, reason)
            case never:
                assert_never(never)
        await self.note(self.stage, f"a new rollout; this one was aborted: {reason}")
        self.events.aborted(self.stage, ended, reason)
        self.describe()

    async def take_back(self, stage: StageSpec, reason: str) -> None:
        """Set the stage's tiers to what they had before it, and give its GPUs back."""
        for tier, share in self.progress(stage).exposure_before.items():
            back = self.exposure(stage, (tier,), share, f"taken back: {reason}")
            await self.ask_feature(FeatureAct(feature=self.feature, expose=back))
        await self.give_up_claim(stage)

    async def give_up_claim(self, stage: StageSpec) -> None:
        """Give the stage's GPUs back, where it has claimed any."""
        if stage.reserve:
            released = BudgetAct(gpu_type=self.order.gpu_type, claim_id=self.claim_id(stage.name))
            await act("release", released, summary=f"give {counted(stage.reserve, 'GPU')} back")

    def finish_stage(self, stage: StageSpec) -> None:
        """Remember that the stage is done, so that a continued run goes on behind it."""
        self.progress(stage).baked_at = workflow.now()
        self.state.claim = None
        self.events.tell("stage.baked", stage, reason="it baked and its checks passed")
        self.describe()

    def finish(self) -> None:
        """Every stage is open and baked."""
        self.state.phase = RolloutPhase.FINISHED
        self.state.waits = Waits.NOTHING
        self.events.finished()
        self.describe()

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
