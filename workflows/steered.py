"""A plan that people steer: pause, resume, hold, release, abort, and time that stands still."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from tidegate.messages.common import Act
    from tidegate.messages.feature import Hold, HoldOrder
    from tidegate.messages.steered import (
        AbortOrder,
        FreezeOrder,
        PlanOrder,
        SteeredState,
        Waits,
    )
    from workflows.outbox import Outbox
    from workflows.refusal import refuse


_LOOK_AGAIN: Final = timedelta(seconds=1)
_SOON: Final = 6
_LATER: Final = 12
"""What another hand must change is looked at again after 2 s, and then up to every 64 s; what
changes in days, up to every 68 minutes."""


_CHANGE_IN_DAYS: Final = frozenset({Waits.USE, Waits.SUCCESSOR})


class Leaves(Exception):  # noqa: N818 - leaves what it does, never the workflow
    """What a plan does now is over before its end."""


class Aborted(Leaves):
    """A person, or a failed check, ended the plan."""


class Steered(ABC):
    """The base of plans; subclasses say what they tell, show and do about a hold."""

    order: PlanOrder
    """What the plan was started with; its state is in it, so that a new run goes on from there."""
    state: SteeredState
    outbox: Outbox
    subject: str
    delivering: asyncio.Task[None]
    placing: asyncio.Lock
    """Held while a hold is placed or lifted, so that one is done before the other begins."""

    def take_up(self) -> None:
        """Go on from the state in the order, which may say that the plan stands still."""
        self.outbox = Outbox(self.state.outbox)
        self.subject = self.order.plan_id
        self.placing = asyncio.Lock()
        if self.is_stopped:
            self._stop_the_clock()

    @abstractmethod
    def describe(self) -> None:
        """Show in the Temporal UI where the plan stands."""

    @abstractmethod
    async def place_hold(self, order: HoldOrder) -> None:
        """Do what a hold means beyond stopping this plan."""

    @abstractmethod
    async def lift_hold(self, order: HoldOrder) -> None:
        """Undo what placing the hold did."""

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """Whether nothing is left to steer."""

    # Time, which stands still while somebody has stopped the plan.

    @property
    def is_stopped(self) -> bool:
        """Whether a pause, a hold or a freeze has stopped the plan."""
        return self.state.is_stopped

    async def until(self, condition: Callable[[], bool], waits: Waits) -> None:
        """Wait for a condition and for nobody to have stopped the plan; an abort leaves."""
        self.show_waiting(waits)
        is_long = workflow.info().is_continue_as_new_suggested
        await workflow.wait_condition(
            lambda: self.leaves() is not None or is_long() or (condition() and not self.is_stopped)
        )
        if (leaves := self.leaves()) is not None:
            raise leaves
        if is_long():
            await self.go_on_in_a_new_run()

    def leaves(self) -> Leaves | None:
        """Say what ends what the plan does now, however it is stopped; None where nothing does."""
        return Aborted() if self.state.abort is not None else None

    async def go_on_in_a_new_run(self) -> None:
        """Leave this run, whose history is long enough, to one that resumes from its state."""
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(self.order)

    async def until_instant(
        self, planned_at: datetime, waits: Waits, *, or_when: Callable[[], bool] = lambda: False
    ) -> bool:
        """Wait for an instant of the plan, moved by all pauses and holds so far and to come.

        Returns whether it came, and not before it what is given as `or_when`.
        """
        while True:
            await self.until(lambda: True, waits)
            if or_when():
                return False
            due_at = planned_at + self.state.shift
            left = due_at - workflow.now()
            if left <= timedelta():
                return True
            try:
                await workflow.wait_condition(
                    lambda: self.is_stopped or self.leaves() is not None or or_when(),
                    timeout=left,
                    timeout_summary=f"{waits} until {due_at:%F %T}",
                )
            except TimeoutError:
                continue

    async def look_again(
        self, looks: int, waits: Waits, *, or_when: Callable[[], bool] = lambda: False
    ) -> None:
        """Wait before looking for the so-many-eth time, longer each time: it may take months."""
        doubles = _LATER if waits in _CHANGE_IN_DAYS else _SOON
        pause = _LOOK_AGAIN * 2 ** min(looks, doubles)
        at = workflow.now() - self.state.shift + pause
        await self.until_instant(at, waits, or_when=or_when)

    def show_waiting(self, waits: Waits) -> None:
        """Remember and show what is awaited."""
        if waits is not self.state.waits:
            self.state.waits = waits
            self.describe()

    # What people may say. Validators refuse what makes no sense, and then nothing is recorded.

    @workflow.update
    def pause(self, order: Act) -> None:
        """Stop the plan until it is resumed; everything later moves by as much."""
        self.state.paused = order
        self._stop_the_clock()
        self._tell("plan.paused", order)

    @pause.validator
    def _may_pause(self, order: Act) -> None:  # noqa: ARG002 - as the update
        self._refuse_when_over("pause")
        if self.state.paused is not None:
            message = f"{self.subject}: {self.state.paused.by} has paused it already. Resume it."
            raise refuse(message)

    @workflow.update
    def resume(self, order: Act) -> None:
        """Go on after a pause; a hold, if there is one, still stops the plan."""
        self.state.paused = None
        self._let_the_clock_run()
        self._tell("plan.resumed", order)

    @resume.validator
    def _may_resume(self, order: Act) -> None:  # noqa: ARG002 - as the update
        self._refuse_when_over("resume")
        if self.state.paused is None:
            raise refuse(f"{self.subject}: it is not paused, so there is nothing to resume.")

    @workflow.update
    def freeze(self, order: FreezeOrder) -> None:
        """Stop the plan for something that matters more; asked for again, it changes nothing."""
        if order.freeze_id not in self.state.freezes:
            self.state.freezes[order.freeze_id] = order
            self._stop_the_clock()
            self._tell("plan.frozen", order, freeze=order.freeze_id)

    @freeze.validator
    def _may_freeze(self, order: FreezeOrder) -> None:  # noqa: ARG002 - as the update
        self._refuse_when_over("freeze")

    @workflow.update
    def thaw(self, order: FreezeOrder) -> None:
        """Lift one freeze; lifting one that is not there changes nothing."""
        if self.state.freezes.pop(order.freeze_id, None) is not None:
            self._let_the_clock_run()
            self._tell("plan.thawed", order, freeze=order.freeze_id)

    @thaw.validator  # noqa: B027 - the proof is all that is looked at
    def _may_thaw(self, order: FreezeOrder) -> None:
        """Whoever signs for it may; a plan that is over is left as it is."""

    @workflow.update
    async def hold(self, order: HoldOrder) -> None:
        """Stop further exposure at once, in the name of a role."""
        self.state.hold = Hold(
            role=order.role, by=order.by, reason=order.reason, since=workflow.now()
        )
        self._stop_the_clock()
        self._tell("plan.held", order, role=order.role)
        async with self.placing:
            await self.place_hold(self._as_placed(order))

    @hold.validator
    def _may_hold(self, order: HoldOrder) -> None:
        self._refuse_when_over("hold")
        held = self.state.hold
        if held is not None:
            message = f"{self.subject}: {held.role} holds it already: {held.reason}."
            raise refuse(message)
        if not order.reason:
            raise refuse('hold: "reason" is missing. Say why, so that others can act on it.')

    @workflow.update
    async def release(self, order: HoldOrder) -> None:
        """Lift a hold; only the role that placed it may."""
        self.state.hold = None
        self._let_the_clock_run()
        self._tell("plan.released", order, role=order.role)
        async with self.placing:
            await self.lift_hold(self._as_placed(order))

    @release.validator
    def _may_release(self, order: HoldOrder) -> None:
        held = self.state.hold
        if held is None:
            raise refuse(f"{self.subject}: nobody holds it, so there is nothing to release.")
        if held.role != order.role:
            message = f"{self.subject}: {held.role} holds it, so only {held.role} releases it."
            raise refuse(message)

    @workflow.update
    def abort(self, order: AbortOrder) -> None:
        """End the plan; what is not finished is taken back."""
        self.state.abort = order

    @abort.validator
    def _may_abort(self, order: AbortOrder) -> None:
        self._refuse_when_over("abort")
        if self.state.abort is not None:
            raise refuse(f"{self.subject}: {self.state.abort.by} has aborted it already.")
        if not order.reason:
            raise refuse('abort: "reason" is missing. Say why, for those who read it later.')

    def _as_placed(self, order: HoldOrder) -> HoldOrder:
        return order.model_copy(update={"placed_by": workflow.info().workflow_id})

    def _refuse_when_over(self, verb: str) -> None:
        if self.is_over:
            raise refuse(f"{self.subject}: it is over, so there is nothing to {verb}.")

    def _stop_the_clock(self) -> None:
        if self.state.stopped_at is None:
            self.state.stopped_at = workflow.now()

    def _let_the_clock_run(self) -> None:
        if not self.is_stopped and self.state.stopped_at is not None:
            self.state.shift += workflow.now() - self.state.stopped_at
            self.state.stopped_at = None

    def _tell(self, event_type: str, order: Act, **data: str) -> None:
        self.outbox.tell(event_type, subject=self.subject, by=order.by, reason=order.reason, **data)
        self.describe()


def what_it_waits_for(state: SteeredState) -> Waits:
    """Say what a plan waits for: what has stopped it comes before what it waits for itself."""
    if state.hold is not None:
        return Waits.HOLD
    if state.freezes:
        return Waits.FREEZE
    return Waits.PAUSE if state.paused is not None else state.waits
