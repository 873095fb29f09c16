"""Steering plans: found by name, whatever their kind."""

from tidegate.edges.temporal import ControlPlane
from tidegate.errors import Refused
from tidegate.messages.common import Act


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
