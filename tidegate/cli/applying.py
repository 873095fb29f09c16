"""Applying manifests: checked whole before anything is changed, then declared in order."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from tidegate.edges.files import load_manifests
from tidegate.edges.temporal import ControlPlane
from tidegate.errors import Refused
from tidegate.manifests import Manifests
from tidegate.messages.catalogue import Declaration
from tidegate.messages.code_red import CodeRedOrder
from tidegate.messages.rollout import RolloutOrder, RolloutState
from tidegate.messages.steered import PlanOrder
from tidegate.messages.supply import SupplyOrder
from tidegate.plans import RolloutSpec


async def apply_file(plane: ControlPlane, path: Path, by: str) -> list[str]:
    """Apply a file; returns a line for each thing declared.

    Raises PlanError with every mistake, and Refused where a running plan stands against it; then
    nothing has changed.
    """
    catalogue = await plane.catalogue()
    known = catalogue.declared if catalogue is not None else Manifests()
    declared = load_manifests(path, before=known)
    whole = declared.over(known)
    reds = [CodeRedOrder(name=name, spec=spec) for name, spec in declared.code_reds.items()]
    rollouts = [order_for(name, spec, whole) for name, spec in declared.rollouts.items()]
    supplies = [SupplyOrder(name=name, spec=spec) for name, spec in declared.supplies.items()]
    for order in (*reds, *rollouts):
        await plane.is_to_start(order)  # refused before anything is declared
    for supply in supplies:
        await _on_its_way(plane, supply)
    fields = {name: getattr(declared, name) for name in Manifests.model_fields}
    version = await plane.declare(Declaration(by=by, **fields))
    for name, budget in declared.budgets.items():
        await plane.declare_budget(name, budget)
    for name, feature in declared.features.items():
        await plane.declare_feature(name, feature)
    standing = catalogue.holds if catalogue is not None else []
    for hold in standing:
        await plane.look_again(hold)  # before a rollout may expose what it is about
    lines = list(_applied(declared, version))
    lines += [await apply_supply(plane, supply) for supply in supplies]
    lines += [await _start(plane, red, f"Code red: {red.spec.reason}") for red in reds]
    reds += await _code_reds(plane, standing)
    for rollout in rollouts:
        frozen = [red for red in reds if red.spec.freezes(rollout.name, rollout.spec.feature)]
        lines.append(await start_rollout(plane, rollout, frozen))
    return lines


async def apply_supply(plane: ControlPlane, order: SupplyOrder) -> str:
    """Start a supply, or move the dates of one that is on its way; raises Refused."""
    known = await _on_its_way(plane, order)
    if known is None:
        spec = order.spec
        return await _start(plane, order, f"{spec.gpus} GPUs of type {spec.gpu_type}")
    if known.spec == order.spec:
        return f"{order.plan_id} is there already, unchanged"
    await plane.steer(order.plan_id, "move", order.spec)
    return f"{order.plan_id} moved"


async def _on_its_way(plane: ControlPlane, order: SupplyOrder) -> SupplyOrder | None:
    """Return the supply that runs under this name; raises Refused where it is another's."""
    if not await plane.is_running(order.plan_id):
        return None
    known = await plane.plan(order.plan_id, SupplyOrder)
    conflict = None if known is None else known.conflict_with(order.spec)
    if conflict is not None:
        raise Refused(conflict, code="plan-running")
    return known


async def _start(plane: ControlPlane, order: PlanOrder, summary: str) -> str:
    started = await plane.start_plan(order, summary)
    return f"{order.plan_id} {'started' if started else 'is there already, unchanged'}"


async def _code_reds(plane: ControlPlane, standing: Iterable[str]) -> list[CodeRedOrder]:
    """Return the orders of those that stand, among other holds."""
    ids = [each for each in standing if each.startswith(f"{CodeRedOrder.kind}/")]
    found = [await plane.plan(each, CodeRedOrder) for each in ids]
    return [red for red in found if red is not None and red.state.abort is None]


async def start_rollout(
    plane: ControlPlane, order: RolloutOrder, reds: Iterable[CodeRedOrder]
) -> str:
    """Start a rollout, which stands still from its first moment where a code red is about it."""
    frozen = RolloutState(freezes={red.plan_id: red.freeze for red in reds})
    line = await _start(
        plane, order.model_copy(update={"state": frozen}), f"Rollout of {order.spec.feature}"
    )
    for red in reds:
        await plane.look_again(red.plan_id)  # it thaws what it knows that it froze
        left = await plane.plan(red.plan_id, CodeRedOrder)
        if left is None or left.state.abort is not None:  # it was lifted meanwhile
            await plane.steer(order.plan_id, "thaw", red.freeze)
        else:
            line += f", and stands still: {red.spec.reason}"
    return line


def order_for(name: str, rollout: RolloutSpec, declared: Manifests) -> RolloutOrder:
    """Write what a rollout is started with, from its plan and its feature's pool."""
    pool_name = declared.features[rollout.feature].pool
    pool = declared.pools[pool_name]
    return RolloutOrder(
        name=name,
        spec=rollout,
        pool=pool_name,
        gpu_type=pool.gpu_type,
        lead_p50_s=pool.cold_start.p50.total_seconds(),
        lead_p90_s=pool.cold_start.p90.total_seconds(),
        reading_limit_s=pool.reading_limit.total_seconds(),
    )


def _applied(declared: Manifests, version: int) -> Iterator[str]:
    for field in ("tiers", "models", "budgets", "pools", "features"):
        for name in getattr(declared, field):
            yield f"{field.removesuffix('s')}/{name} applied"
    yield f"catalogue is at version {version}"
