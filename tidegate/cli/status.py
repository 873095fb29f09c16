"""`tidegate status`: asked of the workflows themselves."""

from tidegate.cli.showing import show_feature, show_rollout
from tidegate.edges.temporal import ControlPlane
from tidegate.errors import Refused
from tidegate.messages.rollout import RolloutOrder, rollout_id


async def tell_status(plane: ControlPlane, name: str) -> list[str]:
    """Return the lines for one rollout, or for everything; raises Refused where it is unknown."""
    catalogue = await plane.catalogue()
    if catalogue is None:
        return ["nothing is declared yet. Apply a file: tidegate apply -f FILE"]
    declared = catalogue.declared
    if name and name not in declared.rollouts:
        known = ", ".join(declared.rollouts) or "none"
        message = f'rollout "{name}": nobody declared it. There is {known}.'
        raise Refused(message, code="not-found")
    lines: list[str] = []
    for rollout in [name] if name else declared.rollouts:
        order = await plane.plan(rollout_id(rollout), RolloutOrder)
        if order is not None:
            lines.extend(show_rollout(order))
    for feature in declared.features:
        state = await plane.feature(feature)
        if state is not None:
            lines.extend(show_feature(state))
    return lines
