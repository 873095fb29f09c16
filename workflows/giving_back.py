"""What a retirement does with GPUs: waits for the last users, gives back, gets them again."""

from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Final

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from tidegate.messages.budget import ClaimStatus, Reservation
    from tidegate.messages.retirement import (
        PoolRef,
        PoolsQuestion,
        PoolsSeen,
        RetirementOrder,
        RetirementPhase,
        RetirementState,
    )
    from tidegate.messages.rollout import BudgetAct
    from tidegate.messages.steered import Waits
    from tidegate.quantities import counted
    from workflows.acts import act
    from workflows.steered import Steered

_DRAINS_WITHIN: Final = timedelta(hours=1)
"""Whoever is inside when the model goes is served to the end, and this is long enough for it."""


class GivesGpusBack(Steered):
    """The part of a retirement that deals with pools and budgets."""

    order: RetirementOrder
    state: RetirementState
    claims: dict[str, ClaimStatus]
    """As the budgets signalled last."""

    async def until_drained(self) -> None:
        """Wait until whoever is inside has been served, but not for ever."""
        if self.state.phase is not RetirementPhase.SUNSET:
            return
        looks, by = 0, workflow.now() + _DRAINS_WITHIN
        while self.is_for_all and workflow.now() < by:
            seen = await self.look_at(self.order.pools)
            if seen.needed_gpus == 0:
                break
            looks += 1
            await self.look_again(looks, Waits.DRAINING, or_when=lambda: not self.is_for_all)
        if self.is_for_all:
            self.state.phase = RetirementPhase.DRAINED
            self.tell("retirement.drained", "nobody is inside any more")

    async def give_the_gpus_back(self) -> None:
        """Let the budgets have what the model's pools held; they scale to nothing."""
        if self.state.phase not in {RetirementPhase.SUNSET, RetirementPhase.DRAINED}:
            return
        await self.until(lambda: True, Waits.NOTHING)
        for ref in self.order.pools if self.is_for_all else ():
            back = BudgetAct(gpu_type=ref.gpu_type, claim_id=self.claim_id(ref), pool=ref.pool)
            gpus = await act("give_back", back, summary=f"give the GPUs of {ref.pool} back")
            self.state.given_back[ref.pool] = gpus
        self.state.phase = RetirementPhase.RETIRED
        gpus = sum(self.state.given_back.values())
        self.tell("retirement.retired", f"{counted(gpus, 'GPU')} given back", gpus=gpus)

    async def get_gpus_again(self, ref: PoolRef) -> None:
        """Wait until a pool has as many ready GPUs as it gave back."""
        gpus, claim_id = self.state.given_back.get(ref.pool, 0), self.claim_again(ref)
        reservation = Reservation(
            claim_id=claim_id,
            owner=self.order.plan_id,
            pool=ref.pool,
            gpus=max(gpus, 1),
            lead_p50_s=ref.lead_p50_s,
            lead_p90_s=ref.lead_p90_s,
        )
        asked = BudgetAct(gpu_type=ref.gpu_type, claim_id=claim_id, reservation=reservation)
        while gpus:
            self.claims.pop(claim_id, None)
            summary = f"{counted(gpus, 'GPU')} for {ref.pool} again"
            status = ClaimStatus.model_validate(await act("reserve", asked, summary=summary))
            status = self.claims.setdefault(claim_id, status)  # what was signalled since is newer
            if status.backed:
                with suppress(ActivityError):  # somebody inside needs them now
                    await act("spend", asked, summary=f"{ref.pool} serves again")
                    return
            await self.until(partial(self.is_news, status), Waits.GPUS)

    def is_news(self, told: ClaimStatus) -> bool:
        """Say whether the budget has said something else of a claim."""
        return self.claims.get(told.claim_id) != told

    @property
    def is_for_all(self) -> bool:
        """Whether no tier keeps the model."""
        return not self.state.spared

    async def look_at(self, pools: tuple[PoolRef, ...]) -> PoolsSeen:
        """Ask how pools stand."""
        names = ", ".join(ref.pool for ref in pools) or "no pool"
        found = await act("look_at_pools", PoolsQuestion(pools=pools), summary=f"look at {names}")
        return PoolsSeen.model_validate(found)

    def claim_id(self, ref: PoolRef) -> str:
        """Name what a pool gives back: the same for every run of one retirement."""
        return f"{self.subject}/{workflow.info().first_execution_run_id[:8]}/{ref.pool}"

    def claim_again(self, ref: PoolRef) -> str:
        """Name the claim on what a pool gave back and is to have again."""
        return f"{self.claim_id(ref)}/again"

    def tell(self, event_type: str, reason: str, **data: str | float | bool | None) -> None:
        """Tell what became of the model."""
        spec = self.order.spec
        self.outbox.tell(
            event_type,
            subject=self.subject,
            model=spec.model,
            successor=spec.successor,
            reason=reason,
            **data,
        )
        self.describe()

    @workflow.signal
    def claim_changed(self, status: ClaimStatus) -> None:
        """Hear from the budget how GPUs stand that are to be had again."""
        self.claims[status.claim_id] = status
