"""The budget entity: the only holder of claims on the GPUs of one type."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from tidegate.catalogue import BudgetSpec
    from tidegate.messages.budget import (
        BudgetState,
        ClaimStatus,
        GiveBackOrder,
        Loan,
        Observation,
        Reservation,
    )
    from tidegate.messages.supply import Expected
    from tidegate.quantities import counted
    from tidegate.rules import ledger as rules
    from tidegate.rules.forecast import forecast_backing
    from tidegate.rules.granting import enter, next_expiry, overdue, settle, spend
    from tidegate.rules.ledger import Claim, ClaimKind, ClaimState, Ledger
    from workflows.budget_view import differs, show_budget
    from workflows.entity import live
    from workflows.outbox import Outbox
    from workflows.refusal import refuse


@workflow.defn(name="Budget")
class Budget:
    """Grants GPUs to stages, and tells the owner of each claim how it stands."""

    @workflow.init
    def __init__(self, state: BudgetState) -> None:
        self.state = state
        self.outbox = Outbox(state.outbox)
        self.subject = f"budget/{state.gpu_type}"
        self.told: dict[str, ClaimStatus] = {}
        self.came: dict[str, int] = {}

    @workflow.run
    async def run(self, _: BudgetState) -> None:
        """Live for ever."""
        self.replan_arrivals()
        self.expiring = asyncio.create_task(self.let_claims_expire())
        await live(self.outbox, work=self.keep_owners_informed)
        workflow.continue_as_new(self.state)

    @workflow.update
    def declare(self, spec: BudgetSpec) -> None:
        """Take the budget's settings."""
        self.state.spec = spec
        self.describe()

    @declare.validator
    def _may_declare(self, spec: BudgetSpec) -> None:
        """Whoever signs for it may."""

    @workflow.update
    def expect(self, expected: Expected) -> None:
        """Count on GPUs that are on their way; told again, their dates or number have moved."""
        self.state.expected[expected.name] = expected
        self.replan_arrivals()

    @expect.validator
    def _may_expect(self, expected: Expected) -> None:
        """Whoever signs for it may."""

    @workflow.update
    def expect_no_more(self, name: str) -> None:
        """Count on them no more: they have all come, or will not."""
        gone = self.state.expected.pop(name, None)
        come = self.state.come.pop(name, 0)
        if gone is not None:
            self.state.arrived_gpus -= come
            self.replan_arrivals()

    @expect_no_more.validator
    def _may_expect_no_more(self, name: str) -> None:
        """Whoever signs for it may."""

    @workflow.update
    def reserve(self, wanted: Reservation) -> ClaimStatus:
        """Ask for GPUs, once for each claim id; the answer may be that the claim waits."""
        claim = Claim(
            id=wanted.claim_id,
            kind=ClaimKind.RESERVED,
            gpus=wanted.gpus,
            pool=wanted.pool,
            state=ClaimState.WAITING,
            made_at=workflow.now(),
            lead_p50_s=wanted.lead_p50_s,
            lead_p90_s=wanted.lead_p90_s,
            priority=wanted.priority,
            lasts_s=wanted.lasts_s,
        )
        book = enter(self.state.ledger, claim)
        if book is not self.state.ledger:
            self.state.owners[wanted.claim_id] = wanted.owner
            self.state.ledger = book
            self.tell_claim("claim.made", wanted.claim_id, "a stage reserves them")
            self.change(self.state.ledger)
        return self.status(wanted.claim_id)

    @reserve.validator
    def _may_reserve(self, wanted: Reservation) -> None:
        """Whoever signs for it may."""

    @workflow.update
    def spend(self, claim_id: str) -> ClaimStatus:
        """Turn a backed reservation into use, at the instant its stage opens; only once."""
        claim = self.state.ledger.claims[claim_id]
        if claim.state is not ClaimState.SPENT:
            self.tell_claim("claim.spent", claim_id, "ready replicas cover it")
            self.change(self.state.ledger.put(spend(claim)))
        return self.status(claim_id)

    @spend.validator
    def _may_spend(self, claim_id: str) -> None:
        claim = self.state.ledger.claims.get(claim_id)
        if claim is None:
            raise refuse(f'claim "{claim_id}": nobody made it. Reserve the GPUs first.')
        if claim.state is not ClaimState.SPENT and not rules.is_backed(self.state.ledger, claim):
            ready = self.state.ledger.ready.get(claim.pool or "", 0)
            message = (
                f'claim "{claim_id}": needs {counted(claim.gpus, "GPU")}, {ready} are ready in all.'
            )
            raise refuse(message)

    @workflow.update
    def lend(self, loan: Loan) -> int:
        """Have one pool do without GPUs that another gets, once; returns how many."""
        known = self.state.ledger.claims.get(loan.loan_id)
        if known is not None:
            return known.gpus
        gpus = rules.lendable_gpus(self.state.ledger, loan.lender, loan.keep)
        if gpus:
            claim = Claim(
                id=loan.loan_id,
                kind=ClaimKind.LENT,
                gpus=gpus,
                pool=loan.borrower,
                lender=loan.lender,
                made_at=workflow.now(),
                expires_at=loan.until,
            )
            self.change(self.state.ledger.put(claim))
            self.tell_claim("claim.lent", loan.loan_id, f"{loan.lender} does without them")
        return gpus

    @lend.validator
    def _may_lend(self, loan: Loan) -> None:
        """Whoever signs for it may."""

    @workflow.update
    def give_back(self, order: GiveBackOrder) -> int:
        """Take all that a pool's open stages had reserved, once; returns how many GPUs."""
        if order.order_id not in self.state.given_back:
            spent = [
                claim
                for claim in self.state.ledger.of(ClaimKind.RESERVED)
                if claim.pool == order.pool and claim.state is ClaimState.SPENT
            ]
            for claim in spent:
                self.tell_claim("claim.released", claim.id, f"{order.pool} serves nobody any more")
                self.state.owners.pop(claim.id, None)
            self.state.given_back[order.order_id] = sum(claim.gpus for claim in spent)
            self.change(self.state.ledger.drop(claim.id for claim in spent))
        return self.state.given_back[order.order_id]

    @give_back.validator
    def _may_give_back(self, order: GiveBackOrder) -> None:
        """Whoever signs for it may."""

    @workflow.update
    def release(self, claim_id: str) -> None:
        """Give a claim up; giving up one that is gone changes nothing."""
        if claim_id in self.state.ledger.claims:
            self.tell_claim("claim.released", claim_id, "its owner gave it up")
            self.change(self.state.ledger.drop([claim_id]))
            self.state.owners.pop(claim_id, None)

    @release.validator
    def _may_release(self, claim_id: str) -> None:
        """Whoever signs for it may."""

    @workflow.signal
    def observe(self, seen: Observation) -> None:
        """Take what the capacity controller saw: GPUs installed, sick, ready and needed."""
        before = self.state.ledger.installed
        if before is not None and seen.installed_gpus != before:
            self.count_arrivals(seen.installed_gpus - before)
        now, book = workflow.now(), self.state.ledger
        measured = [
            Claim(id=f"use/{pool}", kind=ClaimKind.IN_USE, gpus=gpus, pool=pool, made_at=now)
            for pool, gpus in sorted(seen.needed_gpus.items())
        ]
        if seen.sick_gpus:
            measured.append(Claim(id="sick", kind=ClaimKind.SICK, gpus=seen.sick_gpus, made_at=now))
        book = book.drop(["sick"]).put(*measured)
        self.change(
            book.model_copy(
                update={
                    "installed": seen.installed_gpus,
                    "ready": {**book.ready, **seen.ready_gpus},
                }
            )
        )

    @workflow.query
    def current(self) -> BudgetState:
        """Return the whole ledger."""
        return self.state

    async def keep_owners_informed(self) -> None:
        """Signal each owner whose claim stands otherwise than it was last told."""
        while True:
            await workflow.wait_condition(
                lambda: bool(self.state.expired or self.untold() or self.untold_supply())
            )
            if self.state.expired:
                await self.tell_expired(next(iter(self.state.expired)))
                continue
            if name := self.untold_supply():
                await self.tell_supply(name)
                continue
            # One at a time: while it is told, others may change, or be released.
            claim_id, status = next(iter(self.untold().items()))
            self.told[claim_id] = status
            owner = workflow.get_external_workflow_handle(self.state.owners[claim_id])
            try:
                await owner.signal("claim_changed", status)
            except ApplicationError:
                self.state.owners.pop(claim_id, None)  # the owner is gone, its claim stays

    async def let_claims_expire(self) -> None:
        """Drop each claim when its time is up."""
        while True:
            await workflow.wait_condition(lambda: next_expiry(self.state.ledger) is not None)
            at = next_expiry(self.state.ledger) or workflow.now()
            if at > workflow.now():
                with suppress(TimeoutError):
                    await workflow.wait_condition(
                        partial(self.expires_otherwise, at),
                        timeout=at - workflow.now(),
                        timeout_summary="a claim expires",
                    )
            self.expire(overdue(self.state.ledger, workflow.now()))

    def expires_otherwise(self, at: datetime) -> bool:
        """Say whether the next claim to expire does so at another instant."""
        return next_expiry(self.state.ledger) != at

    def expire(self, late: Sequence[Claim]) -> None:
        """Take claims that had their time; whoever still wants one asks for it anew."""
        for claim in late:
            reason = "no stage opened on it in time"
            if claim.kind is ClaimKind.LENT:
                reason = f"nobody gave it back to {claim.lender} in time"
            self.tell_claim("claim.expired", claim.id, reason)
            status = {"state": ClaimState.EXPIRED, "backed": False, "forecast": None}
            if claim.id in self.state.owners:
                self.state.expired[claim.id] = self.status(claim.id).model_copy(update=status)
        if late:
            self.change(self.state.ledger.drop(claim.id for claim in late))

    async def tell_expired(self, claim_id: str) -> None:
        """Signal an owner that its claim is gone."""
        status = self.state.expired.pop(claim_id)
        self.told.pop(claim_id, None)
        owner = self.state.owners.get(claim_id)
        if claim_id not in self.state.ledger.claims:  # or it was asked for anew
            self.state.owners.pop(claim_id, None)
        if owner is not None:
            with suppress(ApplicationError):  # the owner is gone as well
                await workflow.get_external_workflow_handle(owner).signal("claim_changed", status)

    def untold_supply(self) -> str:
        """Return a supply whose owner has not heard how many came; empty where all have."""
        expected = self.state.expected
        behind = (n for n in expected if self.came.get(n, 0) != self.state.come.get(n, 0))
        return next(behind, "")

    async def tell_supply(self, name: str) -> None:
        """Signal the owner of a supply how many GPUs came for it."""
        come = self.state.come[name] = self.came[name]
        owner = workflow.get_external_workflow_handle(self.state.expected[name].owner)
        with suppress(ApplicationError):  # the owner is gone, its GPUs are here
            await owner.signal("came", come)

    def untold(self) -> Mapping[str, ClaimStatus]:
        """Return the claims whose owner has not heard how they stand now."""
        return {
            claim_id: status
            for claim_id in self.state.owners
            if claim_id in self.state.ledger.claims
            and differs(status := self.status(claim_id), self.told.get(claim_id), workflow.now())
        }

    def change(self, book: Ledger) -> None:
        """Settle the ledger, and tell what was granted."""
        before = {c.id for c in rules.waiting(self.state.ledger)} | {
            c.id for c in rules.waiting(book)
        }
        self.state.ledger = settle(book, workflow.now())
        still = {c.id for c in rules.waiting(self.state.ledger)}
        for claim_id in sorted(still - before):
            self.tell_claim("claim.preempted", claim_id, "a claim of higher priority has them")
        for claim_id in sorted(before - still):
            if claim_id in self.state.ledger.claims:
                self.tell_claim("claim.granted", claim_id, "that many GPUs are unclaimed")
        self.describe()

    def count_arrivals(self, gpus: int) -> None:
        """Take GPUs that came, or went, off the plan of arrivals."""
        self.outbox.tell(
            "supply.arrived" if gpus > 0 else "supply.lost",
            subject=self.subject,
            gpus=abs(gpus),
            reason=f"{counted(abs(gpus), 'GPU')} {'came to' if gpus > 0 else 'left'} the cluster",
        )
        # Below 0 while GPUs are away: a node that reboots is no arrival when it is back.
        self.state.arrived_gpus += gpus
        self.replan_arrivals()

    def replan_arrivals(self) -> None:
        """Rebuild the arriving claims from the plan, less what has come."""
        come = max(0, self.state.arrived_gpus)
        expected: list[Claim] = []
        for name, arrival in sorted(self.state.expected.items(), key=lambda a: a[1].spec.at):
            taken = min(come, arrival.spec.gpus)
            come -= taken
            self.came[name] = taken
            if taken < arrival.spec.gpus:
                expected.append(
                    Claim(
                        id=f"arriving/{name}",
                        kind=ClaimKind.ARRIVING,
                        gpus=arrival.spec.gpus - taken,
                        made_at=workflow.now(),
                        expected_at=arrival.spec.at,
                        expected_by=arrival.spec.latest,
                    )
                )
        old = [claim.id for claim in self.state.ledger.of(ClaimKind.ARRIVING)]
        self.change(self.state.ledger.drop(old).put(*expected))

    def status(self, claim_id: str) -> ClaimStatus:
        """Say how a claim stands."""
        book = self.state.ledger
        claim = book.claims[claim_id]
        pool = claim.pool or ""
        return ClaimStatus(
            claim_id=claim_id,
            state=claim.state,
            backed=rules.is_backed(book, claim),
            gpus=claim.gpus,
            installed_gpus=book.installed,
            unclaimed_gpus=rules.unclaimed_gpus(book),
            in_use_gpus=rules.in_use_gpus(book, pool),
            ready_gpus=book.ready.get(pool, 0),
            forecast=forecast_backing(book, claim, workflow.now()),
        )

    def tell_claim(self, event_type: str, claim_id: str, reason: str) -> None:
        """Tell what became of a claim."""
        status = self.status(claim_id)
        self.outbox.tell(
            event_type,
            subject=self.subject,
            claim=claim_id,
            gpus=status.gpus,
            pool=self.state.ledger.claims[claim_id].pool,
            ready_gpus=status.ready_gpus,
            in_use_gpus=status.in_use_gpus,
            unclaimed_gpus=status.unclaimed_gpus,
            installed_gpus=status.installed_gpus,
            reason=reason,
        )

    def describe(self) -> None:
        """Show the ledger in the Temporal UI."""
        show_budget(self.outbox.visible, self.state.ledger)
