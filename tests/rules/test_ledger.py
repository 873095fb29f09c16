"""The ledger of GPUs: what is granted, who holds what, and what each pool may book."""

import doctest
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.strategies import NOW, claim, ledgers, pools
from tidegate.rules.granting import settle
from tidegate.rules.ledger import (
    Claim,
    ClaimKind,
    ClaimState,
    Ledger,
    ceiling_gpus,
    entitlements,
    floor_gpus,
    granted_gpus,
    held_gpus,
    held_in_all,
    in_use_gpus,
    is_backed,
    lendable_gpus,
    unclaimed_gpus,
    usable_gpus,
    waiting,
)
from tidegate.rules.ledger import pools as pools_of

DOCS = Path(__file__).parents[2] / "docs"


def ledger_of(*claims: Claim, installed: int | None = 16, **ready: int) -> Ledger:
    return Ledger(installed=installed, claims={c.id: c for c in claims}, ready=ready)


def reservation(
    claim_id: str, gpus: int, state: ClaimState = ClaimState.WAITING, *, minute: int = 0
) -> Claim:
    made_at = NOW + timedelta(minutes=minute)
    return claim(claim_id, ClaimKind.RESERVED, gpus, state=state, made_at=made_at)


def in_use(gpus: int, pool: str = "image") -> Claim:
    return claim(f"use/{pool}", ClaimKind.IN_USE, gpus, pool=pool)


def test_the_examples_in_the_document_compute_what_it_says() -> None:
    outcome = doctest.testfile(str(DOCS / "ledger.md"), module_relative=False)
    assert outcome.failed == 0
    assert outcome.attempted > 0


@given(ledgers())
def test_settling_never_grants_more_than_can_serve(before: Ledger) -> None:
    after = settle(before, NOW)
    usable = usable_gpus(after)
    assert held_in_all(after) <= max(held_in_all(before), usable or 0)


@given(ledgers())
def test_settling_serves_the_line_in_its_order_and_skips_nobody(before: Ledger) -> None:
    after = settle(before, NOW)
    left = waiting(after)
    served = [c for c in waiting(before) if after.claims[c.id].state is ClaimState.GRANTED]
    assert served == list(waiting(before)[: len(served)])
    assert not left or usable_gpus(after) is None or left[0].gpus > unclaimed_gpus(after)


@given(ledgers())
def test_settling_changes_nothing_but_the_state_of_what_waited_or_gave_way(before: Ledger) -> None:
    after = settle(before, NOW)
    assert {c.id: c.model_copy(update={"state": None}) for c in after.claims.values()} == {
        c.id: c.model_copy(update={"state": None}) for c in before.claims.values()
    }
    assert (after.installed, after.ready) == (before.installed, before.ready)
    moved = [c for c in before.claims.values() if after.claims[c.id] != c]
    assert all(c.state in {ClaimState.WAITING, ClaimState.GRANTED} for c in moved)


@given(ledgers())
def test_settling_twice_grants_nothing_more(before: Ledger) -> None:
    assert settle(settle(before, NOW), NOW) == settle(before, NOW)


@given(ledgers())
def test_a_ledger_that_nobody_has_counted_grants_nothing(before: Ledger) -> None:
    uncounted = before.model_copy(update={"installed": None})
    assert settle(uncounted, NOW) == uncounted
    assert unclaimed_gpus(uncounted) == 0
    assert all(ceiling_gpus(uncounted, pool) is None for pool in pools_of(uncounted))


def test_not_even_a_claim_on_nothing_is_granted_where_nobody_has_counted() -> None:
    uncounted = ledger_of(reservation("a", 0), installed=None)
    assert settle(uncounted, NOW) == uncounted


def test_a_small_claim_does_not_overtake_a_large_one() -> None:
    large, small = reservation("large", 17, minute=0), reservation("small", 1, minute=1)
    assert settle(ledger_of(small, large), NOW) == ledger_of(small, large)


def test_claims_made_at_the_same_instant_are_granted_in_the_order_of_their_ids() -> None:
    settled = settle(ledger_of(reservation("b", 10), reservation("a", 10)), NOW)
    assert [c.id for c in waiting(settled)] == ["b"]


@given(before=ledgers(), claim_id=st.text())
def test_releasing_an_unknown_claim_changes_nothing(before: Ledger, claim_id: str) -> None:
    if claim_id not in before.claims:
        assert before.drop([claim_id]) == before


@given(before=ledgers(), data=st.data())
def test_a_released_claim_gives_back_what_it_held_and_no_more(
    before: Ledger, data: st.DataObject
) -> None:
    if not before.claims:
        return
    gone = data.draw(st.sampled_from(sorted(before.claims)))
    after = before.drop([gone])
    given_back = held_in_all(before) - held_in_all(after)
    takes = before.claims[gone].kind not in {ClaimKind.ARRIVING, ClaimKind.SICK}
    assert 0 <= given_back <= (before.claims[gone].gpus if takes else 0)


@given(ledgers())
def test_every_usable_gpu_is_either_held_or_unclaimed(ledger: Ledger) -> None:
    usable = usable_gpus(ledger)
    if usable is not None and held_in_all(ledger) <= usable:
        assert held_in_all(ledger) + unclaimed_gpus(ledger) == usable
    else:
        assert unclaimed_gpus(ledger) == 0


@given(ledger=ledgers(), pool=pools)
def test_no_pool_may_book_what_another_is_entitled_to(ledger: Ledger, pool: str) -> None:
    usable, ceiling = usable_gpus(ledger), ceiling_gpus(ledger, pool)
    if usable is None or ceiling is None:
        assert usable is ceiling is None
        return
    others = sum(gpus for name, gpus in entitlements(ledger).items() if name != pool)
    assert ceiling + others == usable
    if held_in_all(ledger) <= usable:
        assert others == held_in_all(ledger) - held_gpus(ledger, pool)


@given(ledger=ledgers(), pool=pools)
def test_a_pool_may_book_its_floor_wherever_the_ledger_is_not_over_claimed(
    ledger: Ledger, pool: str
) -> None:
    usable, ceiling = usable_gpus(ledger), ceiling_gpus(ledger, pool)
    assert floor_gpus(ledger, pool) <= held_gpus(ledger, pool)
    if usable is not None and ceiling is not None and held_in_all(ledger) <= usable:
        assert floor_gpus(ledger, pool) <= ceiling


@given(ledger=ledgers(), pool=pools)
def test_a_pool_that_lent_nothing_and_is_kept_at_its_floor_backs_every_stage_granted_to_it(
    ledger: Ledger, pool: str
) -> None:
    lent = [c.id for c in ledger.of(ClaimKind.LENT) if c.lender == pool]
    kept = ledger.drop(lent).model_copy(
        update={"ready": {pool: floor_gpus(ledger.drop(lent), pool)}}
    )
    granted = [
        c for c in kept.of(ClaimKind.RESERVED) if c.pool == pool and c.state is ClaimState.GRANTED
    ]
    assert all(is_backed(kept, c) for c in granted)


@given(ledgers())
def test_a_claim_is_backed_only_if_ready_replicas_cover_it_beside_those_inside(
    ledger: Ledger,
) -> None:
    for reserved in ledger.claims.values():
        if is_backed(ledger, reserved) and reserved.pool is not None:
            assert reserved.state is ClaimState.GRANTED
            users = in_use_gpus(ledger, reserved.pool)
            assert ledger.ready.get(reserved.pool, 0) >= users + reserved.gpus


def test_backing_counts_the_reservations_granted_before_and_not_those_after() -> None:
    first = reservation("a", 4, ClaimState.GRANTED, minute=0)
    second = reservation("b", 4, ClaimState.GRANTED, minute=1)
    book = ledger_of(first, second, in_use(2), image=6)
    assert is_backed(book, first)
    assert not is_backed(book, second)
    assert is_backed(ledger_of(first, second, in_use(2), image=10), second)


@pytest.mark.parametrize("state", [ClaimState.WAITING, ClaimState.SPENT])
def test_only_a_granted_claim_is_backed(state: ClaimState) -> None:
    stage = reservation("a", 4, state)
    assert not is_backed(ledger_of(stage, image=16), stage)


def test_ready_replicas_of_another_pool_back_nothing() -> None:
    stage = reservation("a", 4, ClaimState.GRANTED)
    assert not is_backed(ledger_of(stage, chat=16), stage)


def test_users_inside_count_by_measured_demand_or_by_their_reservation_whichever_is_more() -> None:
    spent = reservation("a", 6, ClaimState.SPENT)
    assert in_use_gpus(ledger_of(spent, in_use(4)), "image") == 6
    assert in_use_gpus(ledger_of(spent, in_use(9)), "image") == 9


def test_a_stage_granted_beside_users_who_need_more_than_they_reserved_is_not_stuck() -> None:
    spent = reservation("paying", 6, ClaimState.SPENT)
    free = reservation("free", 4, ClaimState.GRANTED, minute=1)
    book = ledger_of(spent, free, in_use(10))
    assert floor_gpus(book, "image") == 14
    assert is_backed(ledger_of(spent, free, in_use(10), image=14), free)


def test_sick_gpus_serve_nobody_and_never_count_below_none() -> None:
    assert usable_gpus(ledger_of(claim("sick", ClaimKind.SICK, 3))) == 13
    assert usable_gpus(ledger_of(claim("sick", ClaimKind.SICK, 30))) == 0


def test_what_is_only_expected_cannot_be_granted() -> None:
    coming = claim("coming", ClaimKind.ARRIVING, 32)
    book = ledger_of(reservation("a", 17), coming)
    assert settle(book, NOW) == book


def test_lent_gpus_are_held_by_the_pool_that_borrows() -> None:
    lent = claim("lent", ClaimKind.LENT, 5, pool="chat", lender="image")
    book = ledger_of(lent, in_use(7, "image"), in_use(4, "chat"))
    assert (held_gpus(book, "chat"), held_gpus(book, "image")) == (9, 2)
    assert (floor_gpus(book, "chat"), floor_gpus(book, "image")) == (4, 2)
    assert (ceiling_gpus(book, "chat"), ceiling_gpus(book, "image")) == (14, 7)
    assert unclaimed_gpus(book) == 5


@given(ledgers(), st.integers(0, 20))
def test_what_is_lent_adds_no_gpus_and_takes_none_that_nobody_holds(
    before: Ledger, keep: int
) -> None:
    for lender in pools_of(before):
        gpus = lendable_gpus(before, lender, keep)
        assert 0 <= gpus <= held_gpus(before, lender)
        loan = claim("a loan", ClaimKind.LENT, gpus, pool="borrower", lender=lender)
        after = before.put(loan)
        assert held_in_all(after) == held_in_all(before)
        assert unclaimed_gpus(after) == unclaimed_gpus(before)
        assert floor_gpus(after, lender) >= min(keep, floor_gpus(before, lender))
        assert after.drop(["a loan"]) == before


def test_nothing_is_lent_that_nobody_has_counted() -> None:
    assert lendable_gpus(ledger_of(in_use(7), installed=None), "image", 0) == 0


@pytest.mark.parametrize(
    ("kind", "lender"), [(ClaimKind.LENT, None), (ClaimKind.RESERVED, "image")]
)
def test_gpus_that_are_lent_say_who_does_without_and_others_do_not(
    kind: ClaimKind, lender: str | None
) -> None:
    with pytest.raises(ValidationError, match="expected one where GPUs are lent, and else none"):
        claim("a", kind, 4, pool="chat", lender=lender)


def test_the_order_of_claims_in_the_ledger_does_not_change_what_is_granted() -> None:
    queue = [reservation(f"stage-{i}", 5, minute=i) for i in range(5)]
    forward, backward = settle(ledger_of(*queue), NOW), settle(ledger_of(*reversed(queue)), NOW)
    assert forward.claims == backward.claims
    assert granted_gpus(forward, "image") == 15


@pytest.mark.parametrize("kind", [ClaimKind.IN_USE, ClaimKind.RESERVED, ClaimKind.LENT])
def test_a_claim_that_takes_gpus_names_the_pool_that_holds_them(kind: ClaimKind) -> None:
    with pytest.raises(ValidationError, match="got no pool, expected one"):
        claim("nobody's", kind, 4, pool=None)


def test_gpus_that_are_expected_say_when() -> None:
    with pytest.raises(ValidationError, match="got no dates, expected both"):
        claim("some-day", ClaimKind.ARRIVING, 4, expected_by=None)
