"""The model entity: its settings, how it goes, and whom it keeps."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from tidegate.catalogue import ModelSpec
    from tidegate.messages.feature import HISTORY_KEPT, Transition
    from tidegate.messages.model import CarryOrder, GoingOrder, ModelState
    from tidegate.quantities import counted
    from workflows.entity import live
    from workflows.outbox import Outbox


@workflow.defn(name="Model")
class Model:
    """Knows how far a model is gone, and says so to those who publish it."""

    @workflow.init
    def __init__(self, state: ModelState) -> None:
        self.state = state
        self.outbox = Outbox(state.outbox)
        self.subject = f"model/{state.name}"

    @workflow.run
    async def run(self, _: ModelState) -> None:
        """Live for ever."""
        self.describe()
        await live(self.outbox)
        workflow.continue_as_new(self.state)

    @workflow.update
    def declare(self, spec: ModelSpec) -> None:
        """Take the model's settings."""
        if spec != self.state.spec or not self.state.history:
            self.state.spec = spec
            self.remember("declared", "its settings were applied")
            self.outbox.tell("model.declared", subject=self.subject, model=self.state.name)

    @declare.validator
    def _may_declare(self, spec: ModelSpec) -> None:
        """Whoever signs for it may."""

    @workflow.update
    def go(self, order: GoingOrder) -> None:
        """Go as its retirement says, or stay after all."""
        if order.going == self.state.going:
            return
        self.state.going = order.going
        stays = order.going is None
        self.remember("stays" if stays else "goes otherwise than before", order.reason)
        self.outbox.tell(
            "model.stays" if stays else "model.goes",
            subject=self.subject,
            model=self.state.name,
            gone=", ".join(order.going.gone) if order.going else "",
            spared=", ".join(order.going.spared) if order.going else "",
            by=order.by,
            reason=order.reason,
        )

    @go.validator
    def _may_go(self, order: GoingOrder) -> None:
        """Whoever signs for it may."""

    @workflow.update
    def carry(self, order: CarryOrder) -> None:
        """Take over those who were pinned to a model that is gone, once."""
        if self.state.carried.get(order.model) == order.pinned:
            return
        self.state.carried[order.model] = order.pinned
        users = len(order.pinned)
        self.remember(f"took over {counted(users, 'user')} of {order.model}", order.reason)
        self.outbox.tell(
            "model.carried",
            subject=self.subject,
            model=self.state.name,
            before=order.model,
            users=users,
            by=order.by,
            reason=order.reason,
        )

    @carry.validator
    def _may_carry(self, order: CarryOrder) -> None:
        """Whoever signs for it may."""

    @workflow.query
    def current(self) -> ModelState:
        """Return all that is known of the model."""
        return self.state

    def remember(self, what: str, reason: str) -> None:
        """Add to the history and show it."""
        entry = Transition(at=workflow.now(), what=what, reason=reason)
        self.state.history = [*self.state.history, entry][-HISTORY_KEPT:]
        self.describe()

    def describe(self) -> None:
        """Tell the Temporal UI where the model stands."""
        going = self.state.going
        state = "current"
        if going is not None:
            state = "deprecated" if going.retired_at is None else "retired"
        self.outbox.visible.show(kind="model", state=state)
        told = ["It stays."]
        if going is not None:
            sunset = f"{going.sunset_at:%F %H:%M}" if going.sunset_at else "unknown"
            gone = ", ".join(going.gone) or "nobody yet"
            told = [
                f"It goes, sunset **{sunset}**; use **{going.successor}** instead.",
                "",
                f"Gone for {gone}. Kept by {', '.join(going.spared) or 'nobody'}.",
            ]
        history = [f"- {h.at:%F %H:%M:%S} {h.what}: {h.reason}" for h in self.state.history[-10:]]
        workflow.set_current_details("\n".join([*told, "", *history]))
