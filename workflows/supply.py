"""A supply: GPUs on their way, counted on until they have come, late or short or not at all."""

import asyncio
from datetime import timedelta
from typing import Final

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from tidegate.messages.feature import HoldOrder
    from tidegate.messages.steered import Waits
    from tidegate.messages.supply import (
        Expected,
        ExpectedAct,
        SupplyOrder,
        SupplyPhase,
        SupplyState,
    )
    from tidegate.plans import SupplySpec
    from tidegate.quantities import counted
    from workflows.acts import act
    from workflows.refusal import refuse
    from workflows.steered import Aborted, Steered, what_it_waits_for

_NONE: Final = timedelta()


@workflow.defn(name="Supply")
class Supply(Steered):
    """Has the budget count on GPUs that are to come, and says when they are late or short."""

    order: SupplyOrder
    state: SupplyState

    @workflow.init
    def __init__(self, order: SupplyOrder) -> None:
        self.order = order
        self.state = order.state
        self.take_up()
        self.is_moved = False

    @workflow.run
    async def run(self, _: SupplyOrder) -> SupplyState:
        """Wait for the GPUs; returns what became of them."""
        self.delivering = asyncio.create_task(self.outbox.deliver())
        try:
            await self.have_the_budget_count_on_it()
            while self.state.come < self.order.spec.gpus:
                await self.until_more_came_or_it_is_late()
            self.finish()
        except Aborted:
            self.cancel()
        await self.have_the_budget_forget_it()
        await self.outbox.delivered()
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.state

    # The steps of the story, in its order.

    async def have_the_budget_count_on_it(self) -> None:
        """Tell the budget the dates, which move the forecasts of the stages that wait."""
        self.is_moved = False
        spec = self.order.spec
        expected = Expected(name=self.order.name, owner=self.subject, spec=spec)
        asked = ExpectedAct(gpu_type=spec.gpu_type, name=self.order.name, expected=expected)
        await act("expect", asked, summary=f"expect {counted(spec.gpus, 'GPU')} {spec.at:%F %H:%M}")
        self.describe()

    async def until_more_came_or_it_is_late(self) -> None:
        """Wait for GPUs, for other dates, or for the last date to pass; say what it was."""
        come, spec = self.state.come, self.order.spec
        left = None if self.state.late_told else max(spec.latest - workflow.now(), _NONE)
        self.show_waiting(Waits.ARRIVAL)
        try:
            await workflow.wait_condition(
                lambda: self.state.abort is not None or self.is_moved or self.state.come != come,
                timeout=left,
                timeout_summary=f"late after {spec.latest:%F %H:%M}",
            )
        except TimeoutError:
            self.state.late_told = True
            self.tell("supply.late", "they did not come by the latest date that was told")
        await self.until(lambda: True, Waits.ARRIVAL)
        if self.is_moved:
            await self.have_the_budget_count_on_it()
        elif come < self.state.come < spec.gpus:
            self.tell("supply.short", f"{self.state.come} of them came")

    async def have_the_budget_forget_it(self) -> None:
        """Have it counted on no more: what came is installed, what did not will not."""
        gpu_type, name = self.order.spec.gpu_type, self.order.name
        await act("expect", ExpectedAct(gpu_type=gpu_type, name=name), summary="expect no more")

    def finish(self) -> None:
        """All of it came."""
        self.state.phase = SupplyPhase.COMPLETE
        self.tell("supply.complete", "all of them came")

    def cancel(self) -> None:
        """It will not come, or not any more of it."""
        self.state.phase = SupplyPhase.CANCELLED
        why = self.state.abort.reason if self.state.abort else ""
        self.tell("supply.cancelled", why)

    def tell(self, event_type: str, reason: str) -> None:
        """Tell what became of it."""
        spec = self.order.spec
        self.outbox.tell(
            event_type,
            subject=self.subject,
            gpu_type=spec.gpu_type,
            gpus=spec.gpus,
            come=self.state.come,
            at=spec.at.isoformat(),
            latest=spec.latest.isoformat(),
            reason=reason,
        )
        self.describe()

    # What people and the budget may say, beside what steers every plan.

    @workflow.update
    def move(self, spec: SupplySpec) -> None:
        """Take other dates, or another number: what was told before is history."""
        if spec != self.order.spec:
            self.order = self.order.model_copy(update={"spec": spec})
            self.state.late_told = False
            self.is_moved = True
            self.tell("supply.moved", "other dates or another number were applied")

    @move.validator
    def _may_move(self, spec: SupplySpec) -> None:
        self._refuse_when_over("move")
        conflict = self.order.conflict_with(spec)
        if conflict is not None:
            raise refuse(conflict)

    @workflow.signal
    def came(self, gpus: int) -> None:
        """Hear from the budget how many came so far."""
        self.state.come = gpus

    @workflow.query
    def current(self) -> SupplyOrder:
        """Return what is expected, and in its state what came."""
        return self.order

    @property
    def is_over(self) -> bool:
        """Whether nothing is to come any more."""
        return self.state.phase is not SupplyPhase.EXPECTED

    async def place_hold(self, order: HoldOrder) -> None:
        """A hold on a supply stops what it tells, and nothing else."""

    async def lift_hold(self, order: HoldOrder) -> None:
        """Nothing was done that is to be undone."""

    def describe(self) -> None:
        """Show in the Temporal UI what is expected, and whom to ask."""
        spec, state = self.order.spec, self.state
        self.outbox.visible.show(
            kind="supply",
            state=str(state.phase),
            waiting_for="nothing" if self.is_over else str(what_it_waits_for(state)),
            owner=spec.owner,
        )
        late = "; it is **late**" if state.late_told else ""
        workflow.set_current_details(
            f"{state.come} of {counted(spec.gpus, 'GPU')} of type {spec.gpu_type} came. "
            f"Expected {spec.at:%F %H:%M} to {spec.latest:%F %H:%M}{late}. Ask {spec.owner}.\n\n"
            f"Other dates: apply its manifest again. It will not come: "
            f'`tidegate abort {self.subject} --reason "…"`'
        )
