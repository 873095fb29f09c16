"""GPUs are conserved under any interleaving of what happens to a ledger."""

from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from tests.strategies import NOW, claim, gpus, pools
from tidegate.rules.granting import settle
from tidegate.rules.ledger import (
    Claim,
    ClaimKind,
    ClaimState,
    Ledger,
    ceiling_gpus,
    floor_gpus,
    held_gpus,
    is_backed,
    unclaimed_gpus,
    usable_gpus,
    waiting,
)
from tidegate.rules.ledger import pools as pools_of


class LedgerUnderWay(RuleBasedStateMachine):
    """A budget's day, in any order; `reserved` is what its owners believe they asked for."""

    stages = Bundle("stages")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.reserved: dict[str, int] = {}
        self.minute = 0

    @rule(target=stages, pool=pools, size=gpus)
    def reserve(self, pool: str, size: int) -> str:
        self.minute += 1
        claim_id = f"stage-{self.minute}"
        wanted = claim(
            claim_id,
            ClaimKind.RESERVED,
            size,
            pool=pool,
            state=ClaimState.WAITING,
            made_at=NOW + timedelta(minutes=self.minute),
        )
        self.ledger = self.ledger.put(wanted)
        self.reserved[claim_id] = size
        return claim_id

    @rule()
    def settle(self) -> None:
        held = self.held()
        self.ledger = settle(self.ledger, NOW)
        assert self.held() <= max(held, usable_gpus(self.ledger) or 0)

    @rule(stage=stages)
    def spend(self, stage: str) -> None:
        wanted = self.ledger.claims.get(stage)
        if wanted is not None and is_backed(self.ledger, wanted):
            held = self.held()
            self.ledger = self.ledger.put(wanted.model_copy(update={"state": ClaimState.SPENT}))
            assert self.held() <= held

    @rule(stage=stages)
    def release(self, stage: str) -> None:
        self.ledger = self.ledger.drop([stage])
        self.reserved.pop(stage, None)

    @rule()
    def release_what_nobody_made(self) -> None:
        before = self.ledger
        self.ledger = before.drop(["stage-0"])
        assert self.ledger == before

    @rule(pool=pools, size=gpus)
    def observe_use(self, pool: str, size: int) -> None:
        self.ledger = self.ledger.put(claim(f"use/{pool}", ClaimKind.IN_USE, size, pool=pool))

    @rule(pool=pools, size=gpus)
    def observe_ready(self, pool: str, size: int) -> None:
        ready = {**self.ledger.ready, pool: size}
        self.ledger = self.ledger.model_copy(update={"ready": ready})

    @rule(size=gpus)
    def fall_sick(self, size: int) -> None:
        self.ledger = self.ledger.put(claim("sick", ClaimKind.SICK, size))

    @rule(installed=st.none() | st.integers(0, 96))
    def count(self, installed: int | None) -> None:
        self.ledger = self.ledger.model_copy(update={"installed": installed})

    @invariant()
    def each_reservation_stands_as_it_was_made(self) -> None:
        standing = {c.id: c.gpus for c in self.ledger.of(ClaimKind.RESERVED)}
        assert standing == self.reserved

    @invariant()
    def gpus_are_held_or_unclaimed_and_never_both(self) -> None:
        usable = usable_gpus(self.ledger)
        free = unclaimed_gpus(self.ledger)
        assert free == (0 if usable is None else max(0, usable - self.held()))

    @invariant()
    def bounds_are_known_where_the_gpus_are_and_leave_room_for_the_floor(self) -> None:
        usable = usable_gpus(self.ledger)
        for pool in pools_of(self.ledger):
            ceiling = ceiling_gpus(self.ledger, pool)
            assert (ceiling is None) == (usable is None)
            if usable is not None and ceiling is not None and self.held() <= usable:
                assert floor_gpus(self.ledger, pool) <= ceiling <= usable

    @invariant()
    def nobody_in_the_queue_was_overtaken(self) -> None:
        queue = waiting(self.ledger)
        assert list(queue) == sorted(queue, key=lambda c: c.made_at)
        passed = [c for c in self.settled() if queue and c.made_at > queue[0].made_at]
        assert passed == []

    def settled(self) -> list[Claim]:
        of_stages = self.ledger.of(ClaimKind.RESERVED)
        return [c for c in of_stages if c.state is not ClaimState.WAITING]

    def held(self) -> int:
        return sum(held_gpus(self.ledger, pool) for pool in pools_of(self.ledger))


TestLedgerUnderWay = LedgerUnderWay.TestCase
TestLedgerUnderWay.settings = settings(max_examples=60, stateful_step_count=30)
