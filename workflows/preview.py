"""A preview: a few who are invited, on a surface of its own, until it is promoted or forgotten."""

import asyncio
from datetime import timedelta
from typing import Final

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from tidegate.messages.common import Act
    from tidegate.messages.preview import (
        MOST_INVITED,
        SAID_KEPT,
        Feedback,
        InviteOrder,
        PreviewAct,
        PreviewOrder,
        PreviewPhase,
        PreviewState,
    )
    from tidegate.quantities import counted
    from workflows.acts import act
    from workflows.outbox import Outbox
    from workflows.refusal import refuse

_LOOK_AGAIN: Final = timedelta(seconds=1)
_DOUBLES: Final = 12
"""Its rollout is looked at after 2 s, and then up to every 68 minutes."""
_NONE: Final = timedelta()


@workflow.defn(name="Preview")
class Preview:
    """Keeps what is personal under a key of its own, and ends by destroying it."""

    @workflow.init
    def __init__(self, order: PreviewOrder) -> None:
        self.order = order
        self.state = order.state
        self.outbox = Outbox(order.state.outbox)

    @workflow.run
    async def run(self, _: PreviewOrder) -> PreviewState:
        """Stay quiet until somebody decides, or its time is up; then become a rollout, or end."""
        self.delivering = asyncio.create_task(self.outbox.deliver())
        await self.open()
        await self.until_somebody_decides()
        if self.state.promoted is not None:
            await self.become_a_rollout()
            await self.until_that_is_over()
        await self.end_without_a_trace()
        await self.outbox.delivered()
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.state

    # The steps of the story, in its order.

    async def open(self) -> None:
        """Make the key; from then on users can be invited."""
        if self.state.opened_at is None:
            await act("make_preview_key", self.about(), summary="make its key")
            self.state.opened_at = workflow.now()
            self.tell("preview.opened", "whoever is invited may come")

    async def until_somebody_decides(self) -> None:
        """Wait for a promotion, for the end, or for its time to be up."""
        ends_at = (self.state.opened_at or workflow.now()) + self.order.spec.lasts
        while not self.is_decided:
            self.leave_a_long_history()
            try:
                await workflow.wait_condition(
                    lambda: self.is_decided or workflow.info().is_continue_as_new_suggested(),
                    timeout=max(ends_at - workflow.now(), _NONE),
                    timeout_summary=f"{self.order.spec.feature} is shown to a few",
                )
            except TimeoutError:
                self.state.abort = Act(by=self.order.spec.owner, reason="its time is up")

    async def become_a_rollout(self) -> None:
        """Start the rollout; those who are invited stay in until it is over."""
        if self.state.phase is PreviewPhase.QUIET:
            await act("become_a_rollout", self.about(), summary="start its rollout")
            self.state.phase = PreviewPhase.PROMOTED
            why = self.state.promoted.reason if self.state.promoted else ""
            self.tell("preview.promoted", why or "it becomes a rollout")

    async def until_that_is_over(self) -> None:
        """Wait for the rollout's end, or for somebody who ends the preview before."""
        looks = 0
        while self.state.abort is None:
            looks += 1
            if await act("is_over", self.about(), summary="look at its rollout"):
                return
            self.leave_a_long_history()
            try:
                await workflow.wait_condition(
                    lambda: self.state.abort is not None,
                    timeout=_LOOK_AGAIN * 2 ** min(looks, _DOUBLES),
                    timeout_summary="its rollout goes on",
                )
            except TimeoutError:
                continue

    async def end_without_a_trace(self) -> None:
        """Destroy the key, and with it all that was written under it."""
        is_promoted = self.state.phase is PreviewPhase.PROMOTED
        self.state.phase = PreviewPhase.ENDED
        self.state.invited, self.state.said_ids = [], []
        gone = self.about(feature="" if is_promoted else self.order.spec.feature)
        await act("forget_preview", gone, summary="destroy its key, and forget it")
        ended = self.state.abort
        self.tell("preview.ended", ended.reason if ended else "its rollout is over")

    def leave_a_long_history(self) -> None:
        """Go on in a new run where this one has become long, and nobody waits for it."""
        if workflow.info().is_continue_as_new_suggested() and workflow.all_handlers_finished():
            workflow.continue_as_new(self.order)

    def about(self, *, feature: str = "") -> PreviewAct:
        """Write what an activity is to do it about."""
        by = self.state.promoted.by if self.state.promoted else self.order.spec.owner
        return PreviewAct(
            preview=self.order.name, feature=feature, rollout=self.order.rollout, by=by
        )

    @property
    def is_decided(self) -> bool:
        """Whether it is to become a rollout, or to end."""
        return self.state.abort is not None or self.state.promoted is not None

    # What people may say.

    @workflow.update
    def invite(self, order: InviteOrder) -> int:
        """Let users in; returns how many are invited."""
        self.state.invited = [*self.state.invited, *order.sealed]
        self.tell("preview.invited", order.reason, by=order.by, users=len(order.sealed))
        return len(self.state.invited)

    @invite.validator
    def _may_invite(self, order: InviteOrder) -> None:
        self._refuse_when_over("invite to")
        if len(self.state.invited) + len(order.sealed) > MOST_INVITED:
            message = (
                f"{self.order.plan_id}: {len(self.state.invited)} users are invited, expected "
                f"{MOST_INVITED} at most. Promote it, and open it by a rollout."
            )
            raise refuse(message)

    @workflow.update
    def feedback(self, said: Feedback) -> None:
        """Keep what somebody said, in the record."""
        if said.said_id in self.state.said_ids:
            return
        self.state.said_ids = [*self.state.said_ids, said.said_id][-SAID_KEPT:]
        self.state.said += 1
        self.tell("preview.feedback", "", sealed=said.sealed)

    @feedback.validator
    def _may_feedback(self, said: Feedback) -> None:  # noqa: ARG002 - as the update
        self._refuse_when_over("say of")

    @workflow.update
    def promote(self, order: Act) -> None:
        """Have it become a rollout."""
        self.state.promoted = order

    @promote.validator
    def _may_promote(self, order: Act) -> None:  # noqa: ARG002 - as the update
        self._refuse_when_over("promote")
        if self.order.rollout is None:
            message = f'{self.order.plan_id}: "becomes" is missing. Apply it with the rollout.'
            raise refuse(message)
        if self.state.promoted is not None:
            raise refuse(f"{self.order.plan_id}: {self.state.promoted.by} has promoted it already.")

    @workflow.update
    def abort(self, order: Act) -> None:
        """End it without a trace."""
        self.state.abort = order

    @abort.validator
    def _may_abort(self, order: Act) -> None:
        self._refuse_when_over("end")
        if not order.reason:
            raise refuse('abort: "reason" is missing. Say why, for those who read it later.')

    @workflow.query
    def current(self) -> PreviewOrder:
        """Return what was ordered, and in its state who is invited, sealed."""
        return self.order

    def _refuse_when_over(self, verb: str) -> None:
        if self.state.phase is PreviewPhase.ENDED or self.state.abort is not None:
            raise refuse(f"{self.order.plan_id}: it is over, so there is nothing to {verb}.")

    def tell(self, event_type: str, reason: str, **data: str | float | bool | None) -> None:
        """Tell what became of it, and nothing of who it is for."""
        feature = self.order.spec.feature
        subject = self.order.plan_id
        self.outbox.tell(event_type, subject=subject, feature=feature, reason=reason, **data)
        self.describe()

    def describe(self) -> None:
        """Show in the Temporal UI where it stands."""
        spec, state = self.order.spec, self.state
        over = state.phase is PreviewPhase.ENDED
        self.outbox.visible.show(
            kind="preview",
            state=str(state.phase),
            feature=spec.feature,
            waiting_for="nothing" if over else "person",
            owner=spec.owner,
        )
        ends_at = (state.opened_at or workflow.now()) + spec.lasts
        workflow.set_current_details(
            f"{spec.feature} is **{state.phase}**: {counted(len(state.invited), 'user')} invited, "
            f"feedback {state.said} times. Ask {spec.owner}. It ends {ends_at:%F %H:%M}.\n\n"
            f"`tidegate promote {self.order.plan_id}` makes a rollout of it, "
            f'`tidegate abort {self.order.plan_id} --reason "…"` ends it without a trace.'
        )
