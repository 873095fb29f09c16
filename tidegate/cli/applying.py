"""Applying manifests: checked whole before anything is changed, then declared in order."""

from collections.abc import Iterator
from pathlib import Path

from tidegate.edges.files import load_manifests
from tidegate.edges.temporal import ControlPlane
from tidegate.errors import Refused
from tidegate.manifests import Manifests
from tidegate.messages.catalogue import Declaration
from tidegate.messages.rollout import RolloutOrder
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
    orders = [order_for(name, spec, whole) for name, spec in declared.rollouts.items()]
    supplies = [SupplyOrder(name=name, spec=spec) for name, spec in declared.supplies.items()]
    for order in orders:
        await plane.is_to_start(order)  # refused before anything is declared
    for supply in supplies:
        await _on_its_way(plane, supply)
    fields = {name: getattr(declared, name) for name in Manifests.model_fields}
    version = await plane.declare(Declaration(by=by, **fields))
    for name, budget in declared.budgets.items():
        await plane.declare_budget(name, budget)
    for name, feature in declared.features.items():
        await plane.declare_feature(name, feature)
    for hold in catalogue.holds if catalogue is not None else ():
        await plane.look_again(hold)  # before a rollout may expose what it is about
    lines = list(_applied(declared, version))
    lines += [await apply_supply(plane, supply) for supply in supplies]
    for order in orders:
        started = await plane.start_plan(order, f"Rollout of {order.spec.feature}")
        done = "started" if started else "is there already, unchanged"
        lines.append(f"rollout/{order.name} {done}")
    return lines


async def apply_supply(plane: ControlPlane, order: SupplyOrder) -> str:
    """Start a supply, or move the dates of one that is on its way; raises Refused."""
    known = await _on_its_way(plane, order)
    if known is None:
        spec = order.spec
        started = await plane.start_plan(order, f"{spec.gpus} GPUs of type {spec.gpu_type}")
        return f"{order.plan_id} {'started' if started else 'is there already, unchanged'}"
    if known.spec == order.spec:
        return f"{order.plan_id} is there already, unchanged"
    await plane.steer(order.plan_id, "move", order.spec)
    return f"{order.plan_id} moved"


async def _on_its_way(plane: ControlPlane, order: SupplyOrder) -> SupplyOrder | None:
    """Return the supply that runs under this name; raises Refused where it is another's."""
    if order.plan_id not in await plane.running_plans(order.name):
        return None
    known = await plane.plan(order.plan_id, SupplyOrder)
    conflict = None if known is None else known.conflict_with(order.spec)
    if conflict is not None:
        raise Refused(conflict, code="plan-running")
    return known


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
