"""Reserve, spend, lend, release and expect: what a plan asks of a budget."""

from temporalio import activity

from activities.refusing import refusals_are_final
from tidegate.edges.temporal import ControlPlane
from tidegate.messages.budget import ClaimStatus, GiveBackOrder
from tidegate.messages.rollout import BudgetAct
from tidegate.messages.supply import ExpectedAct


class Reserve:
    """Acts on the budget of a GPU type; the budget does each only once."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    @activity.defn(name="reserve")
    async def reserve(self, asked: BudgetAct) -> ClaimStatus:
        """Claim GPUs; the answer may be that the claim waits."""
        with refusals_are_final():
            return await self._plane.ask_budget(
                asked.gpu_type, "reserve", asked.reservation, ClaimStatus
            )

    @activity.defn(name="spend")
    async def spend(self, asked: BudgetAct) -> ClaimStatus:
        """Turn a backed claim into use; refused where ready replicas do not cover it now."""
        with refusals_are_final():
            return await self._plane.ask_budget(
                asked.gpu_type, "spend", asked.claim_id, ClaimStatus
            )

    @activity.defn(name="lend")
    async def lend(self, asked: BudgetAct) -> int:
        """Have one pool do without GPUs that another gets; returns how many."""
        with refusals_are_final():
            return await self._plane.ask_budget(asked.gpu_type, "lend", asked.loan, int)

    @activity.defn(name="give_back")
    async def give_back(self, asked: BudgetAct) -> int:
        """Have a pool give up all that its open stages had reserved; returns how many GPUs."""
        order = GiveBackOrder(order_id=asked.claim_id, pool=asked.pool)
        with refusals_are_final():
            return await self._plane.ask_budget(asked.gpu_type, "give_back", order, int)

    @activity.defn(name="expect")
    async def expect(self, asked: ExpectedAct) -> None:
        """Have the budget count on GPUs that are on their way, or no more."""
        with refusals_are_final():
            if asked.expected is not None:
                await self._plane.expect(asked.gpu_type, asked.expected)
            else:
                await self._plane.ask_budget(asked.gpu_type, "expect_no_more", asked.name, None)

    @activity.defn(name="release")
    async def release(self, asked: BudgetAct) -> None:
        """Give a claim up."""
        with refusals_are_final():
            await self._plane.ask_budget(asked.gpu_type, "release", asked.claim_id, None)
