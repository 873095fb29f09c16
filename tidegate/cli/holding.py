"""`tidegate hold` and `tidegate release`: of a plan, a feature, a model, or everything."""

from tidegate.cli.steering import steer_plan
from tidegate.edges.temporal import ControlPlane
from tidegate.errors import Refused
from tidegate.manifests import Manifests
from tidegate.messages.feature import HoldOrder
from tidegate.messages.hold import EVERYTHING
from tidegate.messages.rollout import RolloutOrder, rollout_id
from tidegate.mistakes import nearest
from tidegate.quantities import counted


def is_scope(name: str) -> bool:
    """Say whether a hold of this name is on features, and not on a plan."""
    return name == EVERYTHING or name.startswith(("feature/", "model/"))


async def place_hold(plane: ControlPlane, name: str, order: HoldOrder) -> list[str]:
    """Hold a scope or a plan; raises Refused where nothing of that name is there to hold."""
    if not is_scope(name):
        await steer_plan(plane, name, "hold", order)
        return [f"{name} is held by {order.role}"]
    await _require_known(plane, name)
    features = await plane.place_hold(name, order)
    return [f"{name} is held by {order.role}: {counted(features, 'feature')}"]


async def release_hold(plane: ControlPlane, name: str, order: HoldOrder) -> None:
    """Lift a hold from a scope or a plan, or from the feature of a rollout that is not held itself.

    A hold stays on the feature when its rollout is aborted, and then stops the next one too; one
    that a person placed on the feature stops every rollout of it.
    Raises Refused where there is none, or where another role placed it.
    """
    if is_scope(name):
        await plane.release_hold(name, order)
        return
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


async def _require_known(plane: ControlPlane, scope: str) -> None:
    catalogue = await plane.catalogue()
    declared = Manifests() if catalogue is None else catalogue.declared
    kind, _, name = scope.partition("/")
    known = {"feature": declared.features, "model": declared.models}.get(kind)
    if known is not None and name not in known:
        near = nearest(name, known)
        hint = f'Did you mean "{near}"?' if near else "Correct the name."
        raise Refused(f'{kind} "{name}": nobody declared it. {hint}', code="not-found")
