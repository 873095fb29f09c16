"""The feature entity: exposure, holds, and the history of both."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from tidegate.catalogue import FeatureSpec
    from tidegate.messages.feature import (
        HISTORY_KEPT,
        ExposeOrder,
        FeatureState,
        Hold,
        HoldOrder,
        KillNote,
        Transition,
        WaitingNote,
    )
    from tidegate.quantities import format_share
    from workflows.entity import live
    from workflows.outbox import Outbox
    from workflows.refusal import refuse
    from workflows.visibility import show


@workflow.defn(name="Feature")
class Feature:
    """Knows who a feature is exposed to; a hold stops exposure from growing."""

    @workflow.init
    def __init__(self, state: FeatureState) -> None:
        self.state = state
        self.outbox = Outbox(state.outbox)
        self.subject = f"feature/{state.name}"

    @workflow.run
    async def run(self, _: FeatureState) -> None:
        """Live for ever."""
        self.describe()
        await live(self.outbox)
        workflow.continue_as_new(self.state)

    @workflow.update
    def declare(self, spec: FeatureSpec) -> None:
        """Take the feature's settings."""
        if spec != self.state.spec:
            self.state.spec = spec
            self.remember("declared", "its settings were applied")
            self.outbox.tell("feature.declared", subject=self.subject, feature=self.state.name)

    @workflow.update
    def expose(self, order: ExposeOrder) -> dict[str, float]:
        """Set the exposure of some tiers, once; returns what it was before."""
        if order.order_id in self.state.orders_done:
            return self.state.orders_done[order.order_id]
        before = {tier: self.state.exposure.get(tier, 0.0) for tier in order.tiers}
        done = [*self.state.orders_done.items(), (order.order_id, before)]
        self.state.orders_done = dict(done[-HISTORY_KEPT:])
        for tier in order.tiers:
            self.state.exposure[tier] = order.share
            self.state.notes.pop(tier, None)
            self.outbox.tell(
                "feature.exposed",
                subject=self.subject,
                feature=self.state.name,
                tier=tier,
                stage=order.stage,
                before=before[tier],
                after=order.share,
                reason=order.reason,
            )
        reached = format_share(order.share)
        self.remember(f"{', '.join(order.tiers)} at {reached}", order.reason)
        return before

    @expose.validator
    def _may_expose(self, order: ExposeOrder) -> None:
        widens = any(order.share > self.state.exposure.get(t, 0.0) for t in order.tiers)
        if self.state.hold is not None and widens and order.order_id not in self.state.orders_done:
            hold = self.state.hold
            message = (
                f'feature "{self.state.name}": held by {hold.role} since {hold.since:%F %H:%M}: '
                f"{hold.reason}. {hold.role} must release it first."
            )
            raise refuse(message)

    @workflow.update
    def note_waiting(self, note: WaitingNote) -> None:
        """Remember what the next stage of some tiers waits for."""
        self.state.notes.update(dict.fromkeys(note.tiers, note))
        self.outbox.tell(
            "feature.waiting",
            subject=self.subject,
            feature=self.state.name,
            stage=note.stage,
            reason=note.waits_for,
        )

    @workflow.update
    def hold(self, order: HoldOrder) -> None:
        """Stop exposure from growing until the same role releases it."""
        self.state.hold = Hold(
            role=order.role, by=order.by, reason=order.reason, since=workflow.now()
        )
        self.remember(f"held by {order.role}", order.reason)
        self.outbox.tell(
            "feature.held",
            subject=self.subject,
            feature=self.state.name,
            role=order.role,
            by=order.by,
            reason=order.reason,
        )

    @hold.validator
    def _may_hold(self, order: HoldOrder) -> None:
        held = self.state.hold
        if held is not None and held.role != order.role:
            message = (
                f'feature "{self.state.name}": {held.role} holds it already: {held.reason}. '
                f"Ask {held.role}."
            )
            raise refuse(message)
        if not order.reason:
            raise refuse('hold: "reason" is missing. Say why, so that others can act on it.')

    @workflow.update
    def release(self, order: HoldOrder) -> None:
        """Let exposure grow again; releasing what is not held changes nothing."""
        if self.state.hold is not None:
            self.state.hold = None
            self.remember(f"released by {order.role}", order.reason)
            self.outbox.tell(
                "feature.released",
                subject=self.subject,
                feature=self.state.name,
                role=order.role,
                by=order.by,
                reason=order.reason,
            )

    @release.validator
    def _may_release(self, order: HoldOrder) -> None:
        held = self.state.hold
        if held is not None and held.role != order.role:
            message = f'feature "{self.state.name}": only {held.role} releases this hold.'
            raise refuse(message)

    @workflow.update
    def note_kill(self, note: KillNote) -> None:
        """Remember, once, an order that closed the feature or ended that, and took effect before.

        Exposure stays as it is: whoever was in is in again when the order ends.
        """
        if note.version <= self.state.kill_noted:
            return
        self.state.kill_noted = note.version
        whom = "all tiers" if note.tiers is None else ", ".join(note.tiers)
        closed = f"closed for {whom} until {note.until:%F %H:%M:%S} UTC"
        self.remember(f"{'reopened' if note.is_lift else closed} by {note.by}", note.reason)
        self.outbox.tell(
            "feature.kill_lifted" if note.is_lift else "feature.killed",
            subject=self.subject,
            feature=self.state.name,
            tiers=whom,
            until=note.until.isoformat(),
            by=note.by,
            reason=note.reason,
        )

    @workflow.query
    def current(self) -> FeatureState:
        """Return all that is known of the feature."""
        return self.state

    def remember(self, what: str, reason: str) -> None:
        """Add to the history and show it."""
        entry = Transition(at=workflow.now(), what=what, reason=reason)
        self.state.history = [*self.state.history, entry][-HISTORY_KEPT:]
        self.describe()

    def describe(self) -> None:
        """Tell the Temporal UI where the feature stands."""
        held = self.state.hold
        show(
            kind="feature",
            state="held" if held else "live",
            feature=self.state.name,
            waiting_for=f"release by {held.role}" if held else "nothing",
        )
        lines = [f"**{t}** {format_share(share)}" for t, share in self.state.exposure.items()]
        history = [f"- {h.at:%F %H:%M:%S} {h.what}: {h.reason}" for h in self.state.history[-10:]]
        exposed = ", ".join(lines) or "nobody"
        workflow.set_current_details("\n".join([f"Exposed to {exposed}", "", *history]))
