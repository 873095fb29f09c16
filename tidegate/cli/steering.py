"""Steering plans: found by name, whatever their kind."""

from tidegate.edges.temporal import ControlPlane
from tidegate.errors import Refused
from tidegate.messages.common import Act
from tidegate.messages.feature import HoldOrder
from tidegate.messages.rollout import RolloutOrder, rollout_id


async def find_plan(plane: ControlPlane, name: str) -> str:
    """Return the workflow id of the plan that runs under a name, which may be led by its kind.

    Raises Refused where none does, or several do.
    """
    if "/" in name:
        return name
    running = await plane.running_plans(name)
    if not running:
        message = f'plan "{name}": none of this name is running. Apply its manifest first.'
        raise Refused(message, code="not-found")
    if len(running) > 1:
        message = f'plan "{name}": {" and ".join(running)} are running. Write which.'
        raise Refused(message, code="ambiguous")
    return running[0]


async def steer_plan(plane: ControlPlane, name: str, verb: str, order: Act) -> None:
    """Have a plan do what a person tells it; raises Refused where it says no."""
    await plane.steer(await find_plan(plane, name), verb, order)


async def release_hold(plane: ControlPlane, name: str, order: HoldOrder) -> None:
    """Lift a hold from a plan, or from the feature of a rollout that is not held itself.

    A hold stays on the feature when its rollout is aborted, and then stops the next one too; one
    that a person placed on the feature stops every rollout of it.
    Raises Refused where there is none, or where another role placed it.
    """
    placed = order.model_copy(update={"placed_by": rollout_id(name)})
    known = await plane.plan(rollout_id(name), RolloutOrder)
    feature = None if known is None else await plane.feature(known.spec.feature)
    running = await plane.running_plans(name)
    holds_itself = known is not None and rollout_id(name) in running and known.state.hold
    if feature is not None and not holds_itself:
        for each in (placed, order):
            if each.hold_id in feature.holds:
                await plane.ask_feature(feature.name, "release", each)
                return
    await steer_plan(plane, name, "release", order)
