"""The feature entity: exposure, holds, sign-ups, and the history of all three."""

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
        SignupsOrder,
        Transition,
        WaitingNote,
    )
    from tidegate.quantities import format_share
    from tidegate.rules.signups import (
        after_order,
        find_conflict,
        find_mistake,
        tell_let_in,
        tell_signups,
        widens,
    )
    from tidegate.snapshot import Signups
    from workflows.entity import live
    from workflows.outbox import Outbox
    from workflows.refusal import refuse


@workflow.defn(name="Feature")
class Feature:
    """Knows who a feature is exposed to and who may sign up; a hold stops both from growing."""

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

    @declare.validator
    def _may_declare(self, spec: FeatureSpec) -> None:
        """Whoever signs for it may."""

    @workflow.update
    def expose(self, order: ExposeOrder) -> dict[str, float]:
        """Set the exposure of some tiers, once; returns what it was before."""
        if order.order_id in self.state.orders_done:
            return self.state.orders_done[order.order_id]
        before = {tier: self.state.share_of(tier, order.segment) for tier in order.tiers}
        done = [*self.state.orders_done.items(), (order.order_id, before)]
        self.state.orders_done = dict(done[-HISTORY_KEPT:])
        for tier in order.tiers:
            self.state.expose(tier, order.segment, order.share)
            self.state.notes.pop(tier, None)
            self.outbox.tell(
                "feature.exposed",
                subject=self.subject,
                feature=self.state.name,
                tier=tier,
                stage=order.stage,
                segment=str(order.segment),
                before=before[tier],
                after=order.share,
                reason=order.reason,
            )
        where = f" on {order.segment}" if not order.segment.is_everybody else ""
        reached = f"{', '.join(order.tiers)} at {format_share(order.share)}{where}"
        self.remember(reached, order.reason)
        return before

    @expose.validator
    def _may_expose(self, order: ExposeOrder) -> None:
        is_wider = any(order.share > self.state.share_of(t, order.segment) for t in order.tiers)
        if is_wider and order.order_id not in self.state.orders_done:
            self._refuse_while_held()

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

    @note_waiting.validator
    def _may_note_waiting(self, note: WaitingNote) -> None:
        """Whoever signs for it may."""

    @workflow.update
    def hold(self, order: HoldOrder) -> None:
        """Stop exposure from growing until the same role releases it; others may hold it too."""
        self.state.holds[order.hold_id] = Hold(
            role=order.role,
            by=order.by,
            reason=order.reason,
            since=workflow.now(),
            rolls_back=order.rolls_back,
        )
        self.remember(f"held by {order.role}", order.reason)
        self.outbox.tell(
            "feature.held",
            subject=self.subject,
            feature=self.state.name,
            role=order.role,
            by=order.by,
            rolls_back=order.rolls_back,
            reason=order.reason,
        )

    @hold.validator
    def _may_hold(self, order: HoldOrder) -> None:
        if not order.reason:
            raise refuse('hold: "reason" is missing. Say why, so that others can act on it.')

    @workflow.update
    def release(self, order: HoldOrder) -> None:
        """Let exposure grow again; releasing what is not held changes nothing."""
        if self.state.holds.pop(order.hold_id, None) is not None:
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
        held = self.state.holds.get(order.hold_id)
        if held is not None and held.role != order.role:
            message = f'feature "{self.state.name}": only {held.role} releases this hold.'
            raise refuse(message)

    @workflow.update
    def set_signups(self, order: SignupsOrder) -> Signups:
        """Suspend or reopen sign-ups; returns how they stand, changed or not."""
        before, after = self.state.signups, after_order(self.state.signups, order)
        if after == before:
            return after
        self.state.signups = after
        let_in = tell_let_in(after)
        if after.state == "open":
            self._tell_signups("feature.signups_reopened", "reopened", order)
        elif not let_in:
            self._tell_signups("feature.signups_suspended", "suspended", order)
        else:
            self._tell_signups(
                "feature.signups_widened",
                f"widened to {let_in}",
                order,
                cohorts=", ".join(after.cohorts),
                share=after.share,
            )
        return after

    @set_signups.validator
    def _may_set_signups(self, order: SignupsOrder) -> None:
        held = self.state.signups
        refusal = find_mistake(order) or find_conflict(self.state.name, held, order)
        if refusal is not None:
            raise refuse(refusal)
        if widens(held, after_order(held, order)):
            self._refuse_while_held()

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

    @note_kill.validator
    def _may_note_kill(self, note: KillNote) -> None:
        """Whoever signs for it may."""

    @workflow.query
    def current(self) -> FeatureState:
        """Return all that is known of the feature."""
        return self.state

    def _refuse_while_held(self) -> None:
        hold = self.state.hold
        if hold is not None:
            message = (
                f'feature "{self.state.name}": held by {hold.role} since {hold.since:%F %H:%M}: '
                f"{hold.reason}. {hold.role} must release it first."
            )
            raise refuse(message)

    def _tell_signups(
        self, event_type: str, done: str, order: SignupsOrder, **data: str | float
    ) -> None:
        self.remember(f"sign-ups {done} by {order.by}", order.reason)
        self.outbox.tell(
            event_type,
            subject=self.subject,
            feature=self.state.name,
            by=order.by,
            reason=order.reason,
            **data,
        )

    def remember(self, what: str, reason: str) -> None:
        """Add to the history and show it."""
        entry = Transition(at=workflow.now(), what=what, reason=reason)
        self.state.history = [*self.state.history, entry][-HISTORY_KEPT:]
        self.describe()

    def describe(self) -> None:
        """Tell the Temporal UI where the feature stands."""
        held, signups = self.state.hold, self.state.signups
        is_suspended = signups.state == "suspended"
        state, waiting_for = "live", "nothing"
        if held is not None:
            roles = dict.fromkeys(hold.role for hold in self.state.holds.values())
            state, waiting_for = "held", f"release by {', '.join(roles)}"
        elif is_suspended:
            state, waiting_for = "signups-suspended", "reopening of sign-ups"
        self.outbox.visible.show(
            kind="feature", state=state, feature=self.state.name, waiting_for=waiting_for
        )
        lines = [f"**{t}** {format_share(share)}" for t, share in self.state.exposure.items()]
        lines += [str(opening) for opening in self.state.openings]
        history = [f"- {h.at:%F %H:%M:%S} {h.what}: {h.reason}" for h in self.state.history[-10:]]
        exposed = ", ".join(lines) or "nobody"
        told = [f"Exposed to {exposed}", ""]
        for hold in self.state.holds.values():
            whom = "nobody" if hold.rolls_back else "nobody new"
            since = f"since {hold.since:%F %H:%M} {whom} is let in"
            told += [f"**Held** by {hold.role}, {since}: {hold.reason}", ""]
        if is_suspended:
            told += [f"Sign-ups are **{tell_signups(signups)}**: {signups.reason}", ""]
        workflow.set_current_details("\n".join([*told, *history]))
