"""Starting rollouts: where a code red is about one, it stands still from its first moment."""

from collections.abc import Iterable

from tidegate.edges.temporal.control_plane import ControlPlane
from tidegate.messages.code_red import CodeRedOrder
from tidegate.messages.rollout import RolloutOrder, RolloutState


async def standing_code_reds(plane: ControlPlane, holds: Iterable[str]) -> list[CodeRedOrder]:
    """Return the orders of those that stand, among the holds that the catalogue knows of."""
    ids = [each for each in holds if each.startswith(f"{CodeRedOrder.kind}/")]
    found = [await plane.plan(each, CodeRedOrder) for each in ids]
    return [red for red in found if red is not None and red.state.abort is None]


async def start_rollout(
    plane: ControlPlane, order: RolloutOrder, reds: Iterable[CodeRedOrder]
) -> str:
    """Start a rollout that is declared, frozen by those `reds` that are about it; returns a line.

    Raises Refused where another plan runs under its name.
    """
    about = [red for red in reds if red.spec.freezes(order.name, order.spec.feature)]
    frozen = RolloutState(freezes={red.plan_id: red.freeze for red in about})
    started = await plane.start_plan(
        order.model_copy(update={"state": frozen}), f"Rollout of {order.spec.feature}"
    )
    line = f"{order.plan_id} {'started' if started else 'is there already, unchanged'}"
    for red in about:
        await plane.look_again(red.plan_id)  # it thaws what it knows that it froze
        left = await plane.plan(red.plan_id, CodeRedOrder)
        if left is None or left.state.abort is not None:  # it was lifted meanwhile
            await plane.steer(order.plan_id, "thaw", red.freeze)
        else:
            line += f", and stands still: {red.spec.reason}"
    return line
