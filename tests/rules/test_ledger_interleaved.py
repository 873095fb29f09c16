"""GPUs are conserved under any interleaving of what happens to a ledger, each of it twice."""

from datetime import datetime, timedelta
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from tests.strategies import NOW, POOLS, claim, gpus, pools, priorities
from tidegate.rules.granting import enter, overdue, preemptible, settle, spend
from tidegate.rules.ledger import (
    Claim,
    ClaimKind,
    ClaimState,
    Ledger,
    balance,
    ceiling_gpus,
    entitlements,
    floor_gpus,
    held_in_all,
    is_backed,
    lendable_gpus,
    standings,
    turn,
    unclaimed_gpus,
    usable_gpus,
    waiting,
)

lasting = st.none() | st.sampled_from([5, 60])
"""Minutes that a claim may stay granted."""
_MINUTE: Final = timedelta(minutes=1)


class LedgerUnderWay(RuleBasedStateMachine):
    """A budget's day, in any order; `reserved` is what its owners believe they asked for."""

    stages = Bundle("stages")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.now = NOW
        self.reserved: dict[str, int] = {}
        self.inside: set[str] = set()
        self.granted_at: dict[str, datetime] = {}
        self.loans: list[Claim] = []
        self.number = 0

    def change(self, book: Ledger) -> None:
        """Settle as the budget does, twice, and note who was granted when."""
        held = held_in_all(book)
        self.ledger = settle(book, self.now)
        assert settle(self.ledger, self.now) == self.ledger
        assert held_in_all(self.ledger) <= max(held, usable_gpus(self.ledger) or 0)
        of_stages = self.ledger.of(ClaimKind.RESERVED)
        granted = {c.id for c in of_stages if c.state is ClaimState.GRANTED}
        self.granted_at = {i: self.granted_at.get(i, self.now) for i in granted}

    @rule(target=stages, pool=pools, size=gpus, priority=priorities, lasts=lasting)
    def reserve(self, pool: str, size: int, priority: int, lasts: int | None) -> str:
        self.number += 1
        self.now += _MINUTE
        claim_id = f"stage-{self.number}"
        self.ask(claim_id, size, pool=pool, priority=priority, lasts_s=lasts and lasts * 60.0)
        self.reserved[claim_id] = size
        return claim_id

    @rule(stage=stages, size=gpus, priority=priorities)
    def reserve_again(self, stage: str, size: int, priority: int) -> None:
        before = self.ledger
        self.now += _MINUTE
        self.ask(stage, size, priority=priority)
        assert stage not in before.claims or self.ledger == before
        self.reserved.setdefault(stage, size)

    def ask(self, claim_id: str, size: int, **wanted: object) -> None:
        made = {"state": ClaimState.WAITING, "made_at": self.now, **wanted}
        self.change(enter(self.ledger, claim(claim_id, ClaimKind.RESERVED, size, **made)))

    @rule(stage=stages)
    def spend(self, stage: str) -> None:
        wanted = self.ledger.claims.get(stage)
        if wanted is not None and is_backed(self.ledger, wanted):
            held = held_in_all(self.ledger)
            book = self.ledger.put(spend(wanted))
            assert held_in_all(book) <= held
            self.inside.add(stage)
            self.change(book)
            assert spend(book.claims[stage]) == book.claims[stage]

    @rule(stage=stages)
    def release(self, stage: str) -> None:
        book = self.ledger.drop([stage])
        assert book.drop([stage]) == book
        self.reserved.pop(stage, None)
        self.inside.discard(stage)
        self.granted_at.pop(stage, None)
        self.change(book)

    @rule(minutes=st.sampled_from([1, 5, 90]))
    def time_passes_and_claims_expire(self, minutes: int) -> None:
        self.now += minutes * _MINUTE
        late = overdue(self.ledger, self.now)
        for each in late:
            lasted_s = (self.now - self.granted_at[each.id]).total_seconds()
            assert each.lasts_s is not None
            assert lasted_s >= each.lasts_s
        book = self.ledger.drop(c.id for c in late)
        assert overdue(book, self.now) == ()
        for each in late:
            del self.reserved[each.id], self.granted_at[each.id]
        self.change(book)
        kept = [c for c in self.ledger.claims.values() if c.id in self.granted_at and c.lasts_s]
        for each in kept:
            lasted_s = (self.now - self.granted_at[each.id]).total_seconds()
            assert lasted_s < (each.lasts_s or 0.0)

    @rule(lender=pools, borrower=pools, keep=gpus)
    def lend(self, lender: str, borrower: str, keep: int) -> None:
        size = lendable_gpus(self.ledger, lender, keep)
        if lender == borrower or size == 0:
            return
        held = held_in_all(self.ledger)
        self.number += 1
        loan = claim(f"loan-{self.number}", ClaimKind.LENT, size, pool=borrower, lender=lender)
        book = enter(self.ledger, loan)
        assert enter(book, loan) is book
        assert held_in_all(book) == held
        self.loans.append(loan)
        self.change(book)

    @precondition(lambda self: self.loans)
    @rule()
    def give_the_last_loan_back(self) -> None:
        loan = self.loans.pop()
        book = self.ledger.drop([loan.id])
        for pool in POOLS:
            lent = loan.gpus if pool == loan.lender else 0
            before = floor_gpus(self.ledger, pool)
            assert before <= floor_gpus(book, pool) <= before + lent
        self.change(book)

    @rule(pool=pools, size=gpus)
    def observe_use(self, pool: str, size: int) -> None:
        self.change(self.ledger.put(claim(f"use/{pool}", ClaimKind.IN_USE, size, pool=pool)))

    @rule(pool=pools, size=gpus)
    def observe_ready(self, pool: str, size: int) -> None:
        ready = {**self.ledger.ready, pool: size}
        self.change(self.ledger.model_copy(update={"ready": ready}))

    @rule(size=gpus)
    def fall_sick_or_be_mended(self, size: int) -> None:
        healthy = self.ledger.drop(["sick"])
        self.change(healthy.put(claim("sick", ClaimKind.SICK, size)) if size else healthy)

    @rule(installed=st.none() | st.integers(0, 96))
    def count(self, installed: int | None) -> None:
        self.change(self.ledger.model_copy(update={"installed": installed}))

    @rule(size=gpus)
    def expect(self, size: int) -> None:
        free = unclaimed_gpus(self.ledger)
        self.change(self.ledger.put(claim("arriving", ClaimKind.ARRIVING, size)))
        assert unclaimed_gpus(self.ledger) == free

    @precondition(lambda self: "arriving" in self.ledger.claims)
    @rule()
    def arrive(self) -> None:
        came = self.ledger.claims["arriving"].gpus
        installed = (self.ledger.installed or 0) + came
        book = self.ledger.drop(["arriving"])
        self.change(book.model_copy(update={"installed": installed}))

    @invariant()
    def each_reservation_stands_as_it_was_made(self) -> None:
        standing = {c.id: c.gpus for c in self.ledger.of(ClaimKind.RESERVED)}
        assert standing == self.reserved

    @invariant()
    def every_installed_gpu_is_in_one_place(self) -> None:
        found = balance(self.ledger)
        if found is None:
            assert self.ledger.installed is None
            return
        parts = (found.sick, found.in_use, found.reserved, found.lent, found.unclaimed)
        assert min(*parts, found.over_claimed) >= 0
        assert sum(parts) - found.over_claimed == self.ledger.installed
        assert found.unclaimed == unclaimed_gpus(self.ledger)

    @invariant()
    def no_gpu_is_promised_twice(self) -> None:
        entitled, usable = entitlements(self.ledger), usable_gpus(self.ledger)
        assert sum(entitled.values()) == min(usable or 0, held_in_all(self.ledger))
        for pool, stands in standings(self.ledger).items():
            ceiling = ceiling_gpus(self.ledger, pool)
            assert (ceiling is None) == (usable is None)
            assert 0 <= entitled[pool] <= stands.held
            if usable is not None and ceiling is not None:
                assert entitled[pool] <= ceiling <= usable
                assert held_in_all(self.ledger) > usable or stands.floor <= ceiling

    @invariant()
    def nobody_who_is_inside_was_put_out(self) -> None:
        of_stages = self.ledger.of(ClaimKind.RESERVED)
        assert {c.id for c in of_stages if c.state is ClaimState.SPENT} == self.inside

    @invariant()
    def nobody_in_the_line_was_overtaken(self) -> None:
        queue = waiting(self.ledger)
        assert list(queue) == sorted(queue, key=lambda c: (-c.priority, c.made_at))
        granted = [self.ledger.claims[i] for i in self.granted_at]
        for each in queue:
            assert [
                c.id for c in granted if c.priority == each.priority and turn(c) > turn(each)
            ] == []

    @invariant()
    def a_higher_priority_waits_only_where_all_that_could_give_way_would_not_do(self) -> None:
        for first in waiting(self.ledger)[:1]:
            lower = preemptible(self.ledger, first)
            assert [c.id for c in lower] == [
                c.id
                for c in sorted(self.ledger.of(ClaimKind.RESERVED), key=turn, reverse=True)
                if c.state is ClaimState.GRANTED and c.priority < first.priority
            ]
            room = self.ledger.drop(c.id for c in lower)
            assert usable_gpus(room) is None or first.gpus > unclaimed_gpus(room)


TestLedgerUnderWay = LedgerUnderWay.TestCase
TestLedgerUnderWay.settings = settings(max_examples=60, stateful_step_count=30)
