"""Find side projects, freeze them and thaw them: what a code red asks of plans."""

from collections.abc import Iterator

from temporalio import activity

from activities.refusing import refusals_are_final
from tidegate.edges.temporal import ControlPlane
from tidegate.manifests import Manifests
from tidegate.messages.budget import Loan
from tidegate.messages.code_red import FreezeAct, SideProjects, SideProjectsQuestion
from tidegate.messages.rollout import rollout_id


class Freeze:
    """Reads what runs, and has plans stand still or go on."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    @activity.defn(name="find_side_projects")
    async def find_side_projects(self, asked: SideProjectsQuestion) -> SideProjects:
        """Return the rollouts that run beside the core, and the pools that can lend to it."""
        catalogue = await self._plane.catalogue()
        declared = Manifests() if catalogue is None else catalogue.declared
        plans = [
            rollout_id(name)
            for name, rollout in declared.rollouts.items()
            if asked.spec.freezes(name, rollout.feature)
            and await self._plane.is_running(rollout_id(name))
        ]
        return SideProjects(plans=tuple(plans), loans=tuple(_loans(asked, declared)))

    @activity.defn(name="freeze")
    async def freeze(self, asked: FreezeAct) -> None:
        """Have one plan stand still, or go on; refused where it is over."""
        with refusals_are_final():
            verb = "thaw" if asked.lifts else "freeze"
            await self._plane.steer(asked.plan, verb, asked.freeze)


def _loans(asked: SideProjectsQuestion, declared: Manifests) -> Iterator[Loan]:
    """Yield a loan for each side pool, to the first core pool that runs on the same GPUs."""
    spec, pools = asked.spec, declared.pools
    core = [declared.features[name].pool for name in spec.core if name in declared.features]
    side = dict.fromkeys(feature.pool for feature in declared.features.values())
    for lender in side:
        if lender in core or lender not in pools:
            continue
        kin = (p for p in core if p in pools and pools[p].gpu_type == pools[lender].gpu_type)
        borrower = next(kin, None)
        if borrower is not None:
            yield Loan(
                loan_id=f"{asked.code_red}/{lender}",
                gpu_type=pools[lender].gpu_type,
                lender=lender,
                borrower=borrower,
                keep=spec.keep.get(lender, 0),
            )
