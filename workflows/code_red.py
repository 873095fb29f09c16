"""A code red: side projects stand still and lend their GPUs to the core, for a while."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Final

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from tidegate.messages.catalogue import HoldNote
    from tidegate.messages.code_red import (
        CodeRedOrder,
        CodeRedPhase,
        CodeRedState,
        FreezeAct,
        SideProjects,
        SideProjectsQuestion,
        Taken,
    )
    from tidegate.messages.common import Act
    from tidegate.messages.rollout import BudgetAct
    from tidegate.quantities import counted
    from workflows.acts import act
    from workflows.looks import Looks
    from workflows.outbox import Outbox
    from workflows.refusal import refuse

_NONE: Final = timedelta()
_SPARE: Final = timedelta(hours=1)
"""Loans outlast a code red by this: it gives back in order, unless it was ended by force."""


@workflow.defn(name="CodeRed")
class CodeRed:
    """Remembers what it freezes and takes, and gives back in the reverse order."""

    @workflow.init
    def __init__(self, order: CodeRedOrder) -> None:
        self.order = order
        self.state = order.state
        self.outbox = Outbox(order.state.outbox)
        self.looks = Looks(lambda: self.state.abort is not None)

    @workflow.run
    async def run(self, _: CodeRedOrder) -> CodeRedState:
        """Freeze and take, until it is lifted or its time is up; then give everything back."""
        self.delivering = asyncio.create_task(self.outbox.deliver())
        await self.place()
        while not self.is_lifted:
            await self.freeze_and_take_what_is_not_yet()
            await self.until_something_is_new()
        await self.give_back_in_reverse()
        await self.note(stands=False)
        self.finish()
        await self.outbox.delivered()
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.state

    # The steps of the story, in its order.

    async def place(self) -> None:
        """Have the catalogue know of it, so that whoever starts a plan asks it first."""
        if self.state.placed_at is None:
            self.state.placed_at = workflow.now()
            self.tell("code_red.placed", self.order.spec.reason, by=self.order.spec.owner)
        await self.note(stands=True)

    async def freeze_and_take_what_is_not_yet(self) -> None:
        """Have each side project stand still, and then the core have its GPUs."""
        begun = self.looks.begin()
        question = SideProjectsQuestion(code_red=self.order.plan_id, spec=self.order.spec)
        answer = await act("find_side_projects", question, summary="find side projects")
        found = SideProjects.model_validate(answer)
        wanted = [Taken(plan=plan) for plan in found.plans]
        wanted += [Taken(loan=loan) for loan in found.loans]
        known = {_key(taken) for taken in self.state.taken}
        for taken in wanted:
            if _key(taken) not in known and not self.is_lifted:
                await self.take(taken)
        self.looks.end(begun)
        self.describe()

    async def take(self, taken: Taken) -> None:
        """Do one thing; remembered before it is done, so that it is undone in any case."""
        self.state.taken.append(taken)
        if taken.loan is None:
            freeze = FreezeAct(plan=taken.plan, freeze=self.order.freeze)
            try:
                await act("freeze", freeze, summary=f"freeze {taken.plan}")
            except ActivityError:  # it has ended meanwhile
                self.state.taken.remove(taken)
            return
        loan = taken.loan
        until = (self.state.placed_at or workflow.now()) + self.order.spec.lasts + _SPARE
        asked = BudgetAct(gpu_type=loan.gpu_type, loan=loan.model_copy(update={"until": until}))
        gpus = await act("lend", asked, summary=f"have {loan.lender} lend to {loan.borrower}")
        self.state.taken[self.state.taken.index(taken)] = taken.model_copy(update={"gpus": gpus})
        if gpus:
            why = f"{loan.borrower} has {counted(gpus, 'GPU')} of {loan.lender}"
            self.tell("code_red.lent", why, pool=loan.borrower, lender=loan.lender, gpus=gpus)

    async def until_something_is_new(self) -> None:
        """Wait until something was declared, it is lifted, or its time is up."""
        self.describe()
        if workflow.info().is_continue_as_new_suggested() and await self.looks.until_nobody_waits():
            workflow.continue_as_new(self.order)
        left = (self.state.placed_at or workflow.now()) + self.order.spec.lasts - workflow.now()
        try:
            await workflow.wait_condition(
                lambda: self.looks.is_asked or self.is_lifted,
                timeout=max(left, _NONE),
                timeout_summary=f"code red: {self.order.spec.reason}",
            )
        except TimeoutError:
            self.state.abort = Act(by=self.order.spec.owner, reason="its time is up")

    async def give_back_in_reverse(self) -> None:
        """Undo everything, the last first."""
        while self.state.taken:
            taken = self.state.taken[-1]
            if taken.loan is None:
                thaw = FreezeAct(plan=taken.plan, freeze=self.order.freeze, lifts=True)
                with suppress(ActivityError):  # it is over
                    await act("freeze", thaw, summary=f"thaw {taken.plan}")
            else:
                loan = taken.loan
                back = BudgetAct(gpu_type=loan.gpu_type, claim_id=loan.loan_id)
                gpus = counted(taken.gpus, "GPU")
                await act("release", back, summary=f"give {gpus} back to {loan.lender}")
            self.state.taken.pop()
            self.describe()

    async def note(self, *, stands: bool) -> None:
        """Have the catalogue know of it, or forget it."""
        note = HoldNote(hold_id=self.order.plan_id, stands=stands)
        await act("note_hold", note, summary=f"{'note' if stands else 'forget'} the code red")

    def finish(self) -> None:
        """All is as it was."""
        self.state.phase = CodeRedPhase.LIFTED
        if self.state.abort is not None:
            self.tell("code_red.lifted", self.state.abort.reason, by=self.state.abort.by)

    @property
    def is_lifted(self) -> bool:
        """Whether nothing more is to be taken."""
        return self.state.abort is not None

    # What people may say.

    @workflow.update
    def abort(self, order: Act) -> None:
        """Lift it: what was frozen goes on, and what was lent goes back."""
        self.state.abort = order

    @abort.validator
    def _may_abort(self, order: Act) -> None:
        lifted = self.state.abort
        if lifted is not None:
            raise refuse(f"{self.order.plan_id}: it is being lifted already: {lifted.reason}.")
        if not order.reason:
            raise refuse('abort: "reason" is missing. Say why, for those who read it later.')

    @workflow.update
    async def look_again(self) -> int:
        """Freeze and take what was declared since; returns how much is frozen and taken then."""
        await self.looks.another()
        return len(self.state.taken)

    @look_again.validator
    def _may_look_again(self) -> None:
        """Whoever signs for it may."""

    @workflow.query
    def current(self) -> CodeRedOrder:
        """Return what was ordered, and in its state what was frozen and taken."""
        return self.order

    def tell(self, event_type: str, reason: str, **data: str | float | bool | None) -> None:
        """Tell what it did."""
        self.outbox.tell(event_type, subject=self.order.plan_id, reason=reason, **data)
        self.describe()

    def describe(self) -> None:
        """Show in the Temporal UI what stands still, for whom, and until when."""
        spec, state = self.order.spec, self.state
        self.outbox.visible.show(
            kind="code-red",
            state=str(state.phase),
            waiting_for="nothing" if self.is_lifted else "lifting",
            owner=spec.owner,
        )
        ends_at = (state.placed_at or workflow.now()) + spec.lasts
        rows = [f"- {_tell(taken)}" for taken in state.taken] or ["- nothing"]
        lines = [
            f"**{spec.reason}**. Ask {spec.owner}.",
            "",
            f"Everything for {', '.join(spec.core)} until {ends_at:%F %H:%M}.",
            "",
            "Frozen and taken, in this order:",
            "",
            *rows,
            "",
            f'`tidegate abort {self.order.plan_id} --reason "…"` lifts it',
        ]
        workflow.set_current_details("\n".join(lines))


def _key(taken: Taken) -> str:
    return taken.plan if taken.loan is None else taken.loan.loan_id


def _tell(taken: Taken) -> str:
    loan = taken.loan
    if loan is None:
        return f"{taken.plan} stands still"
    return f"{loan.borrower} has {counted(taken.gpus, 'GPU')} of {loan.lender}"
