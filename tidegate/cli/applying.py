"""Applying manifests: checked whole before anything is changed, then declared in order."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tidegate.cli.orders import order_for, preview_for, retirement_for
from tidegate.edges.files import load_manifests
from tidegate.edges.temporal import ControlPlane
from tidegate.edges.temporal.starting import standing_code_reds, start_rollout
from tidegate.errors import Refused
from tidegate.manifests import Manifests
from tidegate.messages.catalogue import Declaration
from tidegate.messages.code_red import CodeRedOrder
from tidegate.messages.common import Act
from tidegate.messages.retirement import MoveOrder, RetirementOrder
from tidegate.messages.rollout import ChangeOrder, RolloutOrder, RolloutPhase
from tidegate.messages.steered import PlanOrder
from tidegate.messages.supply import SupplyOrder
from tidegate.rules.replanning import tell_changes
from tidegate.spec import Spec


@dataclass(frozen=True, slots=True)
class Applicant:
    """Who applies a file, and in the name of which role dates may move to earlier ones."""

    by: str
    role: str = ""
    reason: str = ""

    def move(self, order: RetirementOrder) -> MoveOrder:
        """Write how a retirement is to become what this order says."""
        return MoveOrder(by=self.by, reason=self.reason, role=self.role, spec=order.spec)


async def apply_file(plane: ControlPlane, path: Path, by: Applicant) -> list[str]:
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
    retirements = [retirement_for(name, s, whole) for name, s in declared.retirements.items()]
    previews = [preview_for(name, spec, whole) for name, spec in declared.previews.items()]
    for order in (*reds, *previews):
        await plane.is_to_start(order)  # refused before anything is declared
    for rollout in rollouts:
        await _rollout_under_way(plane, rollout)
    for supply in supplies:
        await _supply_on_its_way(plane, supply)
    for retirement in retirements:
        await _refuse_two_of_one_model(plane, retirement, whole)
        await _retirement_under_way(plane, retirement, by)
    version = await _declare(plane, declared, by.by)
    standing = catalogue.holds if catalogue is not None else []
    for hold in standing:
        await plane.look_again(hold)  # before a rollout may expose what it is about
    lines = list(_applied(declared, version))
    lines += [await apply_supply(plane, supply) for supply in supplies]
    lines += [await apply_retirement(plane, retirement, by) for retirement in retirements]
    lines += [await _start(plane, red, f"Code red: {red.spec.reason}") for red in reds]
    lines += [await _start(plane, each, f"Preview of {each.spec.feature}") for each in previews]
    reds += await standing_code_reds(plane, standing)
    for rollout in rollouts:
        lines += await apply_rollout(plane, rollout, reds, by)
    return lines


async def _declare(plane: ControlPlane, declared: Manifests, by: str) -> int:
    fields = {name: getattr(declared, name) for name in Manifests.model_fields}
    version = await plane.declare(Declaration(by=by, **fields))
    for name, model in declared.models.items():
        await plane.declare_model(name, model)
    for name, budget in declared.budgets.items():
        await plane.declare_budget(name, budget)
    for name, feature in declared.features.items():
        await plane.declare_feature(name, feature)
    return version


async def apply_supply(plane: ControlPlane, order: SupplyOrder) -> str:
    """Start a supply, or move the dates of one that is on its way; raises Refused."""
    known = await _supply_on_its_way(plane, order)
    if known is None:
        spec = order.spec
        return await _start(plane, order, f"{spec.gpus} GPUs of type {spec.gpu_type}")
    return await _move(plane, known, order.spec, order.spec)


async def apply_retirement(plane: ControlPlane, order: RetirementOrder, by: Applicant) -> str:
    """Start a retirement, or move the dates of one that is under way; raises Refused."""
    known = await _retirement_under_way(plane, order, by)
    if known is None:
        return await _start(plane, order, f"Retirement of {order.spec.model}")
    return await _move(plane, known, order.spec, by.move(order))


async def _move(plane: ControlPlane, known: PlanOrder, spec: Spec, move: Act | Spec) -> str:
    if known.spec == spec:
        return f"{known.plan_id} is there already, unchanged"
    await plane.steer(known.plan_id, "move", move)
    return f"{known.plan_id} moved"


async def apply_rollout(
    plane: ControlPlane, order: RolloutOrder, reds: Iterable[CodeRedOrder], by: Applicant
) -> list[str]:
    """Start a rollout, or change one that runs and tell how, as a diff does; raises Refused."""
    known = await _rollout_under_way(plane, order)
    if known is None:
        return [await start_rollout(plane, order, reds)]
    before = known.state.change or known.spec
    if before == order.spec:
        return [f"{order.plan_id} is there already, unchanged"]
    change = ChangeOrder(by=by.by, reason=by.reason, spec=order.spec)
    await plane.steer(order.plan_id, "change", change)
    changes = tell_changes(before, order.spec)
    return [f"{order.plan_id} changed", *(f"  {line}" for line in changes)]


async def _rollout_under_way(plane: ControlPlane, order: RolloutOrder) -> RolloutOrder | None:
    """Return the rollout that runs under this name; raises Refused where it cannot change so."""
    if not await plane.is_running(order.plan_id):
        return None
    known = await plane.plan(order.plan_id, RolloutOrder)
    if known is not None and known.state.phase is RolloutPhase.RUNNING:
        _refuse_conflict(known.conflict_with(order.spec))
        return known
    return None


async def _supply_on_its_way(plane: ControlPlane, order: SupplyOrder) -> SupplyOrder | None:
    """Return the supply that runs under this name; raises Refused where it is another's."""
    if not await plane.is_running(order.plan_id):
        return None
    known = await plane.plan(order.plan_id, SupplyOrder)
    _refuse_conflict(None if known is None else known.conflict_with(order.spec))
    return known


async def _retirement_under_way(
    plane: ControlPlane, order: RetirementOrder, by: Applicant
) -> RetirementOrder | None:
    """Return the retirement that runs under this name; raises Refused where it may not move so."""
    if not await plane.is_running(order.plan_id):
        return None
    known = await plane.plan(order.plan_id, RetirementOrder)
    if known is not None and known.spec != order.spec:
        _refuse_conflict(known.conflict_with(by.move(order)))
    return known


async def _refuse_two_of_one_model(
    plane: ControlPlane, order: RetirementOrder, declared: Manifests
) -> None:
    for name, other in declared.retirements.items():
        if name != order.name and other.model == order.spec.model:
            running = f"{order.kind}/{name}"
            found = await plane.plan(running, RetirementOrder)
            # One that is over stays open until its last event is recorded.
            if found is not None and not found.state.is_over and await plane.is_running(running):
                _refuse_conflict(
                    f"{order.plan_id}: {running} is about {other.model} already, and runs. "
                    "Apply that one with other dates, or abort it."
                )


def _refuse_conflict(conflict: str | None) -> None:
    if conflict is not None:
        raise Refused(conflict, code="plan-running")


async def _start(plane: ControlPlane, order: PlanOrder, summary: str) -> str:
    started = await plane.start_plan(order, summary)
    return f"{order.plan_id} {'started' if started else 'is there already, unchanged'}"


def _applied(declared: Manifests, version: int) -> Iterator[str]:
    for field in ("tiers", "models", "budgets", "pools", "features"):
        for name in getattr(declared, field):
            yield f"{field.removesuffix('s')}/{name} applied"
    yield f"catalogue is at version {version}"
