"""Keys, promotion and forgetting: what a preview asks for."""

from temporalio import activity

from activities.refusing import refusals_are_final
from tidegate.edges.preview_keys import PreviewKeys
from tidegate.edges.temporal import ControlPlane
from tidegate.edges.temporal.starting import standing_code_reds, start_rollout
from tidegate.messages.catalogue import Declaration
from tidegate.messages.preview import ForgetNote, PreviewAct


class Previewing:
    """Keeps keys where they can be destroyed, and has the catalogue know and forget."""

    def __init__(self, plane: ControlPlane, keys: PreviewKeys) -> None:
        self._plane = plane
        self._keys = keys

    @activity.defn(name="make_preview_key")
    async def make_preview_key(self, asked: PreviewAct) -> None:
        """Make the key that all that is personal is sealed under."""
        self._keys.make(asked.preview)

    @activity.defn(name="become_a_rollout")
    async def become_a_rollout(self, asked: PreviewAct) -> None:
        """Declare the rollout that a preview becomes, and start it; holds hear of it."""
        order = asked.rollout
        if order is None:
            return
        plane = self._plane
        with refusals_are_final():
            await plane.is_to_start(order)  # refused before it is declared
            await plane.declare(Declaration(by=asked.by, rollouts={order.name: order.spec}))
            catalogue = await plane.catalogue()
            holds = [] if catalogue is None else catalogue.holds
            await start_rollout(plane, order, await standing_code_reds(plane, holds))
            for hold in holds:
                await plane.look_again(hold)

    @activity.defn(name="is_over")
    async def is_over(self, asked: PreviewAct) -> bool:
        """Say whether the rollout that a preview became has ended."""
        order = asked.rollout
        return order is None or not await self._plane.is_running(order.plan_id)

    @activity.defn(name="forget_preview")
    async def forget_preview(self, asked: PreviewAct) -> None:
        """Destroy the key, and have the catalogue know nothing of the preview."""
        self._keys.destroy(asked.preview)
        features = (asked.feature,) if asked.feature else ()
        with refusals_are_final():
            await self._plane.forget(ForgetNote(previews=(asked.preview,), features=features))
