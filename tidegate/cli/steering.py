"""Steering plans: found by name, whatever their kind."""

from tidegate.edges.temporal import ControlPlane
from tidegate.errors import Refused
from tidegate.messages.common import Act
from tidegate.messages.rollout import RolloutOrder
from tidegate.messages.steered import AbortOrder, WayBack


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


async def abort_plan(plane: ControlPlane, name: str, order: Act, back: str | None) -> None:
    """End a plan, a rollout with a way `back`, if one is given; raises Refused."""
    plan = await find_plan(plane, name)
    if back is None:
        await plane.steer(plan, "abort", order)
        return
    if not plan.startswith(f"{RolloutOrder.kind}/"):
        message = f'back: got "{back}", expected none: {plan} is no rollout, and has one way back.'
        raise Refused(message, code="not-a-rollout")
    chosen = AbortOrder(by=order.by, reason=order.reason, back=WayBack(back))
    await plane.steer(plan, "abort", chosen)
