"""A surge: stages stand still, GPUs are asked for, sign-ups close and reopen; it closes itself."""

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from tidegate.messages.budget import ClaimStatus, Reservation
    from tidegate.messages.code_red import FreezeAct
    from tidegate.messages.common import Act
    from tidegate.messages.feature import SignupsOrder, SignupsVerb
    from tidegate.messages.rollout import BudgetAct
    from tidegate.messages.surge import (
        GateMove,
        ServedBy,
        SignupsAct,
        SurgeOrder,
        SurgePhase,
        SurgeState,
    )
    from tidegate.quantities import counted, format_duration, format_share
    from workflows.acts import act
    from workflows.outbox import Outbox
    from workflows.refusal import refuse

_NONE: Final = timedelta()


@workflow.defn(name="Surge")
class Surge:
    """One at a time for each pool; it hears each move of the gate, and closes itself."""

    @workflow.init
    def __init__(self, order: SurgeOrder) -> None:
        self.order = order
        self.state = order.state
        self.outbox = Outbox(order.state.outbox)
        self.is_moved = False

    @workflow.run
    async def run(self, _: SurgeOrder) -> SurgeState:
        """Do what helps, step by step, and undo it as the demand is served."""
        self.delivering = asyncio.create_task(self.outbox.deliver())
        if self.state.began_at is None:
            self.begin()
            await self.let_stages_stand_still()
            await self.ask_for_gpus()
        while self.state.phase is not SurgePhase.OVER:
            if await self.until_the_gate_stayed_so():
                await self.take_the_next_step()
        await self.reopen_all()
        await self.give_back()
        self.end()
        await self.outbox.delivered()
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.state

    # The steps of the story, in its order.

    def begin(self) -> None:
        """Tell that more is asked for than can be served."""
        self.state.began_at = workflow.now()
        self.tell("surge.began", f"the gate of {self.order.name} narrows")

    async def let_stages_stand_still(self) -> None:
        """Have no stage of what the pool serves open on top of it."""
        served = await self.find_served()
        for rollout in served.rollouts:
            self.state.frozen.append(rollout)
            freeze = FreezeAct(plan=rollout, freeze=self.order.freeze)
            try:
                await act("freeze", freeze, summary=f"freeze {rollout}")
            except ActivityError:  # it has ended meanwhile
                self.state.frozen.remove(rollout)

    async def ask_for_gpus(self) -> None:
        """Claim what the policy allows; it is granted as GPUs become unclaimed, or arrive."""
        gpus = self.order.spec.asks_for
        if gpus == 0:
            return
        wanted = Reservation(
            claim_id=self.claim_id,
            owner=self.order.plan_id,
            pool=self.order.name,
            gpus=gpus,
            lead_p50_s=self.order.lead_p50_s,
            lead_p90_s=self.order.lead_p90_s,
        )
        asked = BudgetAct(gpu_type=self.order.gpu_type, reservation=wanted)
        await act("reserve", asked, summary=f"ask for {counted(gpus, 'GPU')}")
        self.state.asked_gpus = gpus
        self.tell("surge.asked", f"{counted(gpus, 'GPU')} more for {self.order.name}", gpus=gpus)

    async def until_the_gate_stayed_so(self) -> bool:
        """Wait until the gate stayed as it is for long enough; False where it moved before."""
        self.is_moved = False
        self.describe()
        if workflow.info().is_continue_as_new_suggested() and workflow.all_handlers_finished():
            workflow.continue_as_new(self.order)
        due_at = self.next_step_at()
        left = None if due_at is None else max(due_at - workflow.now(), _NONE)
        try:
            await workflow.wait_condition(
                lambda: self.is_moved or self.state.abort is not None,
                timeout=left,
                timeout_summary=f"{self.order.name} stays as it is",
            )
        except TimeoutError:
            return True
        return self.state.abort is not None

    def next_step_at(self) -> datetime | None:
        """Say when something is to be done if the gate stays as it is; None for nothing."""
        spec, state = self.order.spec, self.state
        if state.calm_since is not None:
            return state.calm_since + spec.calm
        if state.pressed_since is not None and state.phase is not SurgePhase.SUSPENDED:
            return state.pressed_since + spec.after
        return None

    async def take_the_next_step(self) -> None:
        """Suspend sign-ups after long pressure; after long calm reopen for some more, or end."""
        state, steps = self.state, self.order.spec.reopen
        is_calm = state.calm_since is not None
        if state.abort is not None:
            state.phase = SurgePhase.OVER
        elif not is_calm:
            await self.suspend_signups()
        elif not state.suspended or state.steps_done == len(steps):
            state.phase = SurgePhase.OVER
        else:
            step = steps[state.steps_done]
            await self.reopen(step.cohorts, step.share)
            state.steps_done += 1
            state.phase = SurgePhase.REOPENING
            state.calm_since = workflow.now()

    async def suspend_signups(self) -> None:
        """Let nobody new in; whoever is inside notices nothing."""
        reason = f"{self.order.name} has more demand than it can serve"
        order = SignupsOrder(verb=SignupsVerb.SUSPEND, by=self.order.plan_id, reason=reason)
        for feature in (await self.find_served()).features:
            asked = SignupsAct(feature=feature, order=order)
            is_ours = await act("steer_signups", asked, summary=f"suspend sign-ups of {feature}")
            if is_ours and feature not in self.state.suspended:
                self.state.suspended.append(feature)
        self.state.phase, self.state.steps_done = SurgePhase.SUSPENDED, 0
        after = format_duration(self.order.spec.after)
        self.tell("surge.suspended", f"the gate was narrow for {after}")

    async def reopen(self, cohorts: tuple[str, ...], share: float | None) -> None:
        """Let some more in: cohorts, or a share of those who ask."""
        order = SignupsOrder(
            verb=SignupsVerb.REOPEN,
            by=self.order.plan_id,
            cohorts=cohorts,
            share=share,
            reason="the demand is served",
        )
        for feature in self.state.suspended:
            asked = SignupsAct(feature=feature, order=order)
            with suppress(ActivityError):  # somebody holds it, or reopened it for more
                await act("steer_signups", asked, summary=f"reopen {feature} for some")
        whom = ", ".join(cohorts) or (format_share(share) if share is not None else "all")
        calm = format_duration(self.order.spec.calm)
        self.tell("surge.reopened", f"the gate was open for {calm}; {whom} may come in", to=whom)

    async def reopen_all(self) -> None:
        """Let everybody in again."""
        if self.state.suspended:
            await self.reopen((), None)
            self.state.suspended = []

    async def give_back(self) -> None:
        """Let stages go on, and give back what was asked for; the last first."""
        if self.state.asked_gpus:
            back = BudgetAct(gpu_type=self.order.gpu_type, claim_id=self.claim_id)
            await act("release", back, summary=f"give {counted(self.state.asked_gpus, 'GPU')} back")
            self.state.asked_gpus = 0
        while self.state.frozen:
            rollout = self.state.frozen[-1]
            thaw = FreezeAct(plan=rollout, freeze=self.order.freeze, lifts=True)
            with suppress(ActivityError):  # it is over
                await act("freeze", thaw, summary=f"thaw {rollout}")
            self.state.frozen.pop()

    def end(self) -> None:
        """Tell how it was, for those who look back at it."""
        state = self.state
        lasted = workflow.now() - (state.began_at or workflow.now())
        why = state.abort.reason if state.abort else "the demand is served"
        self.tell("surge.ended", why, lasted_s=lasted.total_seconds())

    # What the steps do.

    async def find_served(self) -> ServedBy:
        """Ask what the pool serves now."""
        pool = self.order.name
        found = await act("find_served", pool, summary=f"find what {pool} serves")
        return ServedBy.model_validate(found)

    @property
    def claim_id(self) -> str:
        """Name the claim: the same for every run of one surge, and for no other."""
        return f"{self.order.plan_id}/{workflow.info().first_execution_run_id[:8]}"

    def tell(self, event_type: str, reason: str, **data: str | float | bool | None) -> None:
        """Tell what was done, with how far it went so far."""
        self.outbox.tell(
            event_type,
            subject=self.order.plan_id,
            pool=self.order.name,
            lowest_ceiling=self.state.lowest_ceiling,
            reason=reason,
            **data,
        )
        self.describe()

    # What the gate and people may say.

    @workflow.signal
    def gate_moved(self, move: GateMove) -> None:
        """Hear how the pool's gate stands."""
        state = self.state
        state.lowest_ceiling = min(state.lowest_ceiling, move.lowest_ceiling)
        if move.is_open and state.calm_since is None:
            state.calm_since, state.pressed_since = workflow.now(), None
            self.is_moved = True
        elif not move.is_open and state.pressed_since is None:
            state.pressed_since, state.calm_since = workflow.now(), None
            self.is_moved = True

    @workflow.signal
    def claim_changed(self, status: ClaimStatus) -> None:
        """Hear from the budget how the GPUs stand; the pool scales by itself as they come."""

    @workflow.update
    def abort(self, order: Act) -> None:
        """End it: everything that it did is undone."""
        self.state.abort = order

    @abort.validator
    def _may_abort(self, order: Act) -> None:
        if self.state.abort is not None or self.state.phase is SurgePhase.OVER:
            raise refuse(f"{self.order.plan_id}: it is ending already.")
        if not order.reason:
            raise refuse('abort: "reason" is missing. Say why, for those who read it later.')

    @workflow.query
    def current(self) -> SurgeOrder:
        """Return what it was started with, and in its state what was done."""
        return self.order

    def describe(self) -> None:
        """Show in the Temporal UI what is done about the demand, and until when."""
        state, due_at = self.state, self.next_step_at()
        self.outbox.visible.show(
            kind="surge",
            state=str(state.phase),
            waiting_for="nothing" if state.phase is SurgePhase.OVER else "demand",
        )
        when = "when the gate opens again" if due_at is None else f"{due_at:%F %T} if it stays so"
        workflow.set_current_details(
            f"Pool **{self.order.name}** is **{state.phase}**; the next step comes {when}.\n\n"
            f"Frozen: {', '.join(state.frozen) or 'nothing'}. "
            f"Sign-ups suspended: {', '.join(state.suspended) or 'none'}. "
            f"Asked for {counted(state.asked_gpus, 'GPU')}.\n\n"
            f'`tidegate abort {self.order.plan_id} --reason "…"` undoes all of it.'
        )
