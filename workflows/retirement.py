"""A retirement: announced, restricted, browned out, cut off tier by tier, drained, and gone."""

import asyncio

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from tidegate.messages.common import Act
    from tidegate.messages.feature import HoldOrder
    from tidegate.messages.model import CarryOrder, Going, GoingOrder
    from tidegate.messages.retirement import (
        ModelAct,
        MoveOrder,
        RetirementOrder,
        RetirementPhase,
        RetirementState,
        ReversalOrder,
        UseQuestion,
    )
    from tidegate.messages.rollout import BudgetAct
    from tidegate.messages.steered import Waits
    from tidegate.rules.retiring import (
        Step,
        StepKind,
        find_lack_of_room,
        find_overuse,
        steps_of,
    )
    from workflows.acts import act
    from workflows.giving_back import GivesGpusBack
    from workflows.refusal import refuse
    from workflows.retirement_view import show_retirement, what_is_told
    from workflows.steered import Aborted


@workflow.defn(name="Retirement")
class Retirement(GivesGpusBack):
    """Takes a model from its users as they were told, and never before its successor has room."""

    @workflow.init
    def __init__(self, order: RetirementOrder) -> None:
        self.order = order
        self.state = order.state
        self.take_up()
        self.claims = {}
        self.is_moved = False

    @workflow.run
    async def run(self, _: RetirementOrder) -> RetirementState:
        """Take every step at its instant; returns how it ended."""
        self.delivering = asyncio.create_task(self.outbox.deliver())
        self.telling = asyncio.create_task(self.keep_the_model_told())
        try:
            while (step := self.next_step()) is not None:
                if await self.until_due(step):
                    await self.take(step)
            await self.until_drained()
            await self.give_the_gpus_back()
            await self.keep_restorable()
        except Aborted:
            await self.take_back()
        await self.until_the_model_is_told()
        self.finish()
        await self.outbox.delivered()
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.state

    # The steps of the story, in its order.

    def next_step(self) -> Step | None:
        """Return the first step that was not taken."""
        steps = steps_of(self.order.spec, self.order.tiers)
        return next((step for step in steps if step.id not in self.state.done), None)

    async def until_due(self, step: Step) -> bool:
        """Wait for a step's instant; returns whether it is the step to take, and not another."""
        self.is_moved = False
        self.describe()
        return await self.until_instant(step.at, Waits.DUE, or_when=lambda: self.is_moved)

    async def take(self, step: Step) -> None:
        """Do what a step says, once nothing is in its way."""
        match step.kind:
            case StepKind.CUT_OFF | StepKind.SUNSET:
                if step.at > self.order.spec.announced_at:  # else they lost it before
                    await self.until_nothing_is_in_the_way(step)
                await self.take_from(step)
            case StepKind.ANNOUNCE:
                self.state.phase = RetirementPhase.ANNOUNCED
                sunset = self.order.spec.sunset_at.isoformat()
                self.tell("retirement.announced", "as planned", sunset_at=sunset)
            case StepKind.RESTRICT:
                self.state.is_restricted = True
                self.tell("retirement.restricted", "nobody new may come to it")
            case StepKind.NOTICE:
                self.remind(step)
            case StepKind.BROWNOUT_BEGINS:
                self.tell("retirement.brownout_began", "so that its last users notice")
            case StepKind.BROWNOUT_ENDS:
                self.tell("retirement.brownout_ended", "it is back, for now")
        self.state.done.append(step.id)
        await self.until_the_model_is_told()

    def remind(self, step: Step) -> None:
        """Have a tier told again that it will lose the model, and when."""
        (tier,) = step.tiers
        if self.has(tier):
            ends = (self.order.spec.end_of(tier) + self.state.shift).isoformat()
            lead = step.about.partition("/")[2]
            self.tell("retirement.notice", f"{lead} before", tier=tier, ends_at=ends)

    async def until_nothing_is_in_the_way(self, step: Step) -> None:
        """Wait while the model is used too much, or its successor has no room."""
        looks = 0
        while any(map(self.has, step.tiers)) and not self.state.is_waived:
            await self.until(lambda: True, Waits.NOTHING)
            lacks, waits = await self.what_is_in_the_way()
            if lacks != self.state.lacks:
                self.state.lacks = lacks
                if lacks:
                    self.tell("retirement.waiting", lacks, step=step.id)
            if not lacks and not self.is_stopped:
                return
            looks += 1
            await self.look_again(looks, waits, or_when=lambda: self.state.is_waived)
        self.state.lacks, self.state.is_waived = "", False

    async def what_is_in_the_way(self) -> tuple[str, Waits]:
        """Say why the model cannot go now; nothing where it can. What nobody measured is in it."""
        spec, used = self.order.spec, None
        if spec.use_below is not None:
            question = UseQuestion(model=spec.model, limit=spec.use_below)
            used = await act("weigh_use", question, summary=f"weigh the use of {spec.model}")
        if lacks := find_overuse(spec, used):
            return lacks, Waits.USE
        seen = await self.look_at(self.order.successors) if spec.headroom else None
        lacks = find_lack_of_room(spec, seen.spare_gpus if seen else None)
        return lacks, Waits.SUCCESSOR if lacks else Waits.NOTHING

    async def take_from(self, step: Step) -> None:
        """Refuse the model to the tiers of a step from now on, but for those that are spared."""
        tiers = [tier for tier in step.tiers if self.has(tier)]
        self.state.gone.update(dict.fromkeys(tiers, workflow.now()))
        names = ", ".join(tiers)
        if step.kind is StepKind.CUT_OFF:
            self.tell("retirement.cut_off", f"{names} go on with the successor", tier=names)
            return
        self.state.phase = RetirementPhase.SUNSET
        self.state.sunset_at = workflow.now()
        self.tell("retirement.sunset", "its day has come", tier=names)
        if self.is_for_all and self.order.pinned:
            spec = self.order.spec
            carry = CarryOrder(
                by=spec.owner,
                reason=f"{spec.model} is retired",
                model=spec.model,
                pinned=self.order.pinned,
            )
            asked = ModelAct(model=spec.successor, carry=carry)
            await act("ask_model", asked, summary=f"carry users over to {spec.successor}")

    async def keep_restorable(self) -> None:
        """Wait for the grace period to pass, or for somebody who wants the model back."""
        retired_at = self.state.sunset_at or workflow.now()
        until = retired_at - self.state.shift + self.order.spec.grace
        await self.until_instant(
            until, Waits.GRACE, or_when=lambda: self.state.restoring is not None
        )
        wanted = self.state.restoring
        if wanted is not None:
            self.state.phase = RetirementPhase.RESTORING
            for ref in self.order.pools:
                await self.get_gpus_again(ref)
            self.spare(wanted)
            self.state.phase = RetirementPhase.SUNSET  # for those who did not get it back
            await self.until(lambda: True, Waits.NOTHING)

    async def take_back(self) -> None:
        """Let everybody have the model again, as if nothing had been said."""
        if self.state.phase is RetirementPhase.RESTORING:  # it goes without waiting for them
            for ref in self.order.pools:
                asked = BudgetAct(gpu_type=ref.gpu_type, claim_id=self.claim_again(ref))
                await act("release", asked, summary=f"wait no more for GPUs of {ref.pool}")
        self.state.phase = RetirementPhase.TAKEN_BACK
        why = self.state.abort.reason if self.state.abort else ""
        self.tell("retirement.taken_back", why, by=self.state.abort.by if self.state.abort else "")

    def finish(self) -> None:
        """Nothing is left to do, and the model may be retired anew."""
        self.state.is_over = True
        self.tell("retirement.ended", "nothing is left to do, or to restore")
        self.describe()

    # What the steps do.

    def has(self, tier: str) -> bool:
        """Say whether a tier has the model and is to lose it."""
        return tier not in self.state.gone and tier not in self.state.spared

    def spare(self, order: ReversalOrder) -> None:
        """Let some tiers have the model again, and keep it."""
        tiers = order.tiers or self.order.tiers
        self.state.spared = list(dict.fromkeys([*self.state.spared, *tiers]))
        for tier in tiers:
            self.state.gone.pop(tier, None)
        names = ", ".join(tiers)
        self.tell("retirement.reversed", order.reason, tier=names, by=order.by)
        if set(self.state.spared) >= set(self.order.tiers):
            self.state.abort = order

    async def keep_the_model_told(self) -> None:
        """Have the model say how it goes, whenever that is another thing than it says."""
        while True:
            await workflow.wait_condition(lambda: self.wanted() != self.state.told)
            wanted, spec = self.wanted(), self.order.spec
            go = GoingOrder(
                by=spec.owner, reason=f"{self.subject}: {self.state.phase}", going=wanted
            )
            asked = ModelAct(model=spec.model, go=go)
            await act("ask_model", asked, summary=f"{spec.model} is {self.state.phase}")
            self.state.told = wanted

    async def until_the_model_is_told(self) -> None:
        """Wait until the model says what it should."""
        await workflow.wait_condition(lambda: self.wanted() == self.state.told)

    def wanted(self) -> Going | None:
        """Return what the model is to say."""
        return what_is_told(self.order, self.state, is_stopped=self.is_stopped)

    # What people may say, beside what steers every plan.

    @workflow.update
    def move(self, order: MoveOrder) -> None:
        """Take other dates; earlier ones in the name of safety alone."""
        if order.spec != self.order.spec:
            self.order = self.order.model_copy(update={"spec": order.spec})
            self.is_moved = True
            sunset = order.spec.sunset_at.isoformat()
            self.tell("retirement.moved", order.reason, by=order.by, sunset_at=sunset)

    @move.validator
    def _may_move(self, order: MoveOrder) -> None:
        self._refuse_when_over("move")
        conflict = self.order.conflict_with(order)
        if conflict is not None:
            raise refuse(conflict)

    @workflow.update
    def reverse(self, order: ReversalOrder) -> None:
        """Take it back for some tiers, or for all; once its GPUs are gone, when they are back."""
        if self.state.phase in {RetirementPhase.DRAINED, RetirementPhase.RETIRED}:
            self.state.restoring = order
        else:
            self.spare(order)
        self.is_moved = True

    @reverse.validator
    def _may_reverse(self, order: ReversalOrder) -> None:
        self._refuse_when_over("take back")
        if not order.reason:
            raise refuse('reverse: "reason" is missing. Say why, for those who read it later.')
        for tier in order.tiers:
            if tier not in self.order.tiers:
                known = ", ".join(self.order.tiers)
                raise refuse(f'{self.subject}: no tier "{tier}". There is {known}.')
        if self.state.restoring is not None:
            raise refuse(f"{self.subject}: {self.state.restoring.by} has taken it back already.")

    @workflow.update
    def promote(self, order: Act) -> None:
        """Go on with what is in the way, on a person's word, this once."""
        self.state.is_waived = True
        self.tell("retirement.waived", order.reason, by=order.by)

    @promote.validator
    def _may_promote(self, order: Act) -> None:  # noqa: ARG002 - as the update
        if self.is_over or self.state.abort is not None or not self.state.lacks:
            raise refuse(f"{self.subject}: nothing is in its way, so there is nothing to promote.")

    @workflow.query
    def current(self) -> RetirementOrder:
        """Return the plan, and in its state where the retirement stands."""
        return self.order

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to steer."""
        return self.state.is_over or self.state.phase is RetirementPhase.TAKEN_BACK

    async def place_hold(self, order: HoldOrder) -> None:
        """A hold on a retirement stops what it takes away, and nothing else."""

    async def lift_hold(self, order: HoldOrder) -> None:
        """Nothing was done that is to be undone."""

    def describe(self) -> None:
        """Show in the Temporal UI where the retirement stands and who can act."""
        show_retirement(self.outbox.visible, self.order, self.state)
