"""A hold by a role on a feature, on all that a model serves, or on everything."""

import asyncio
from datetime import timedelta
from typing import Final

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from tidegate.messages.catalogue import HoldNote
    from tidegate.messages.feature import FeatureAct, HoldOrder
    from tidegate.messages.hold import HoldState
    from tidegate.quantities import counted
    from workflows.acts import act
    from workflows.looks import Looks
    from workflows.outbox import Outbox
    from workflows.refusal import refuse

_AT_ONCE: Final = 25
_LOOK_AGAIN: Final = timedelta(hours=1)
"""What is declared meanwhile asks for the hold itself; this is for what comes under it unasked."""


@workflow.defn(name="Hold")
class Hold:
    """Keeps every feature in its scope held, from the one order to the other."""

    @workflow.init
    def __init__(self, state: HoldState) -> None:
        self.state = state
        self.outbox = Outbox(state.outbox)
        self.looks = Looks(self._is_released)

    @workflow.run
    async def run(self, _: HoldState) -> HoldState:
        """Hold what there is and what is declared later, until the role releases it."""
        self.delivering = asyncio.create_task(self.outbox.deliver())
        await self.note(stands=True)
        while self.state.released is None:
            await self.until_asked()
            await self.place_where_it_is_missing()
            if (
                workflow.info().is_continue_as_new_suggested()
                and await self.looks.until_nobody_waits()
            ):
                workflow.continue_as_new(self.state)
        await self.lift_everywhere()
        await self.note(stands=False)
        await self.outbox.delivered()
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.state

    async def note(self, *, stands: bool) -> None:
        """Have the catalogue know of it, so that whoever declares a feature asks for the hold."""
        note = HoldNote(hold_id=self._id, stands=stands)
        await act("note_hold", note, summary=f"{'note' if stands else 'forget'} the hold")

    async def until_asked(self) -> None:
        """Wait for somebody to ask for the hold, or its end; look by itself from time to time."""
        try:
            await workflow.wait_condition(
                lambda: self.looks.is_asked or self._is_released(),
                timeout=_LOOK_AGAIN,
                timeout_summary=f"{self.state.scope} is held by {self.state.role}",
            )
        except TimeoutError:
            return

    async def place_where_it_is_missing(self) -> None:
        """Have each feature in the scope held, and say so to those who asked."""
        order, begun = self.state.order, self.looks.begin()
        if order is None or self.state.released is not None:
            return
        found = await act("find_features", self.state.scope, summary=f"find {self.state.scope}")
        missing = [feature for feature in found if feature not in self.state.features]
        for first in range(0, len(missing), _AT_ONCE):
            some = missing[first : first + _AT_ONCE]
            await asyncio.gather(*(self.place_on(feature, order) for feature in some))
        self.looks.end(begun)
        self.describe()

    async def place_on(self, feature: str, order: HoldOrder) -> None:
        """Have one feature held."""
        held = FeatureAct(feature=feature, hold=self._as_placed(order))
        await act("ask_feature", held, summary=f"hold {feature}: {order.reason}")
        self.state.features.append(feature)

    async def lift_everywhere(self) -> None:
        """Release what was held, the last first."""
        order = self.state.released
        while order is not None and self.state.features:
            some = self.state.features[: -_AT_ONCE - 1 : -1]
            await asyncio.gather(*(self.lift_from(feature, order) for feature in some))
        self.state.is_lifted = True
        self.describe()

    async def lift_from(self, feature: str, order: HoldOrder) -> None:
        """Have one feature released."""
        freed = FeatureAct(feature=feature, release=self._as_placed(order))
        await act("ask_feature", freed, summary=f"release {feature}")
        self.state.features.remove(feature)

    @workflow.update
    async def hold(self, order: HoldOrder) -> int:
        """Place it, or mend its reason; returns how many features it holds once they are held."""
        before = self.state.order
        if before is None or before != order:
            self.state.order = order
            self.state.since = self.state.since or workflow.now()
            self.state.features = []  # each hears the new reason
            self._tell("hold.placed", order)
        return await self._placed()

    @hold.validator
    def _may_hold(self, order: HoldOrder) -> None:
        if self._is_released():
            raise refuse(f"{self._id}: it is being released. Place it again in a moment.")
        if order.role != self.state.role:
            raise refuse(f"{self._id}: got the role {order.role}, expected {self.state.role}.")
        if not order.reason:
            raise refuse('hold: "reason" is missing. Say why, so that others can act on it.')

    @workflow.update
    async def look_again(self) -> int:
        """Place it on what was declared since; returns how many features it holds then."""
        return await self._placed()

    @look_again.validator
    def _may_look_again(self) -> None:
        """Whoever signs for it may."""

    @workflow.update
    async def release(self, order: HoldOrder) -> None:
        """Lift it everywhere, in the name of the role that placed it."""
        self.state.released = order
        self._tell("hold.released", order)
        await workflow.wait_condition(lambda: self.state.is_lifted)

    @release.validator
    def _may_release(self, order: HoldOrder) -> None:
        if order.role != self.state.role:
            role = self.state.role
            raise refuse(f"{self._id}: {role} holds it, so only {role} releases it.")
        if self._is_released():
            raise refuse(f"{self._id}: it is being released already.")

    @workflow.query
    def current(self) -> HoldState:
        """Return who holds what, and since when."""
        return self.state

    @property
    def _id(self) -> str:
        return workflow.info().workflow_id

    async def _placed(self) -> int:
        await self.looks.another()
        return len(self.state.features)

    def _is_released(self) -> bool:
        return self.state.released is not None

    def _as_placed(self, order: HoldOrder) -> HoldOrder:
        return order.model_copy(update={"placed_by": self._id})

    def _tell(self, event_type: str, order: HoldOrder) -> None:
        self.outbox.tell(
            event_type,
            subject=self._id,
            scope=self.state.scope,
            role=order.role,
            by=order.by,
            rolls_back=order.rolls_back,
            reason=order.reason,
        )
        self.describe()

    def describe(self) -> None:
        """Tell the Temporal UI what is held, why, and who can end it."""
        state, order = self.state, self.state.order
        is_over = self._is_released()
        waiting_for = "nothing" if is_over else f"release by {state.role}"
        self.outbox.visible.show(
            kind="hold", state="released" if is_over else "held", waiting_for=waiting_for
        )
        since = f" since {state.since:%F %H:%M}" if state.since else ""
        lines = [
            f"**{state.role}** holds **{state.scope}**{since}: {order.reason if order else ''}",
            "",
            f"{counted(len(state.features), 'feature')} held: {', '.join(state.features)}",
            "",
            f"`tidegate release {state.scope} --role {state.role}`",
        ]
        workflow.set_current_details("\n".join(lines))
