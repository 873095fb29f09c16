"""Who is granted GPUs, who gives way, who has them where there are too few, and for how long."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import NOW, claim, gpus, ledgers, priorities
from tidegate.rules.forecast import forecast_backing
from tidegate.rules.granting import enter, next_expiry, overdue, preemptible, settle, spend
from tidegate.rules.ledger import (
    Claim,
    ClaimKind,
    ClaimState,
    Ledger,
    balance,
    ceiling_gpus,
    entitlements,
    held_in_all,
    standings,
    turn,
    unclaimed_gpus,
    usable_gpus,
    waiting,
)

HOUR_S = 3600.0


def stage(claim_id: str, size: int, priority: int = 0, **changes: object) -> Claim:
    made: dict[str, object] = {"state": ClaimState.WAITING, "priority": priority, **changes}
    return claim(claim_id, ClaimKind.RESERVED, size, **made)


def book_of(*claims: Claim, installed: int | None = 16) -> Ledger:
    """Make a settled ledger, each claim entered after the one before was settled."""
    book = Ledger(installed=installed)
    for minute, each in enumerate(claims):
        made_at = NOW + timedelta(minutes=minute)
        book = settle(enter(book, each.model_copy(update={"made_at": made_at})), NOW)
    return book


def states(book: Ledger) -> dict[str, str]:
    return {c.id: str(c.state) for c in book.of(ClaimKind.RESERVED)}


def test_a_higher_priority_is_granted_before_one_that_came_first() -> None:
    book = book_of(stage("low", 10), stage("high", 10, 1), installed=None)
    settled = settle(book.model_copy(update={"installed": 16}), NOW)
    assert states(settled) == {"low": "waiting", "high": "granted"}


def test_a_higher_priority_takes_what_is_granted_and_not_spent_the_last_of_the_line_first() -> None:
    book = book_of(stage("a", 6), stage("b", 6), stage("high", 8, 1))
    assert states(book) == {"a": "granted", "b": "waiting", "high": "granted"}
    assert unclaimed_gpus(book) == 2


def test_nobody_gives_way_to_a_claim_of_the_same_priority() -> None:
    book = book_of(stage("a", 10, 1), stage("b", 10, 1))
    assert states(book) == {"a": "granted", "b": "waiting"}


def test_nobody_gives_way_where_that_is_not_enough() -> None:
    book = book_of(stage("low", 10), stage("huge", 17, 1))
    assert states(book) == {"low": "granted", "huge": "waiting"}


def test_users_who_are_inside_give_way_to_nobody() -> None:
    inside = book_of(stage("low", 10))
    inside = inside.put(spend(inside.claims["low"]))
    book = settle(enter(inside, stage("high", 10, 2)), NOW)
    assert states(book) == {"low": "spent", "high": "waiting"}


def test_one_who_gave_way_is_not_overtaken_by_those_behind_it() -> None:
    book = book_of(stage("low", 12), stage("high", 8, 1), stage("small", 1))
    assert states(book) == {"low": "waiting", "high": "granted", "small": "waiting"}


def test_what_was_taken_is_given_back_in_the_reverse_order() -> None:
    taken = book_of(*(stage(name, 4) for name in "abcd"), stage("high", 16, 1))
    assert [c.id for c in waiting(taken)] == ["a", "b", "c", "d"]
    order: list[str] = []
    for left in (12, 8, 4, 1):
        smaller = taken.claims["high"].model_copy(update={"gpus": left})
        taken = settle(taken.put(smaller), NOW)
        order += [n for n, s in states(taken).items() if s == "granted" and n not in order]
    assert [name for name in order if name != "high"] == ["a", "b", "c"]
    assert states(settle(taken.drop(["high"]), NOW)) == dict.fromkeys("abcd", "granted")


@given(before=ledgers(), size=st.integers(1, 32), priority=priorities)
def test_giving_up_a_claim_at_once_leaves_whoever_gave_way_where_it_was(
    before: Ledger, size: int, priority: int
) -> None:
    settled = settle(before, NOW)
    came = settle(enter(settled, stage("newcomer", size, priority)), NOW)
    after = settle(came.drop(["newcomer"]), NOW)
    assert states(after) == states(settled)


def test_a_claim_that_is_made_twice_is_made_once() -> None:
    book = book_of(stage("a", 6))
    assert enter(book, stage("a", 12)) is book


def test_a_granted_claim_expires_so_long_after_it_was_granted_and_not_while_it_waits() -> None:
    book = book_of(stage("first", 16), stage("a", 6, lasts_s=HOUR_S))
    assert next_expiry(book) is None
    later = NOW + timedelta(days=3)
    book = settle(book.drop(["first"]), later)
    assert next_expiry(book) == later + timedelta(hours=1)
    assert overdue(book, later + timedelta(minutes=59)) == ()
    assert [c.id for c in overdue(book, later + timedelta(hours=1))] == ["a"]


def test_a_claim_that_is_spent_never_expires() -> None:
    book = book_of(stage("a", 6, lasts_s=HOUR_S))
    spent = book.put(spend(book.claims["a"]))
    assert next_expiry(spent) is None
    assert overdue(spent, NOW + timedelta(days=3)) == ()


def test_a_claim_that_gave_way_begins_its_time_anew_when_it_is_granted_again() -> None:
    book = book_of(stage("a", 10, lasts_s=HOUR_S), stage("high", 10, 1))
    assert (states(book)["a"], next_expiry(book)) == ("waiting", None)
    later = NOW + timedelta(hours=2)
    assert next_expiry(settle(book.drop(["high"]), later)) == later + timedelta(hours=1)


def test_a_loan_that_nobody_gives_back_expires() -> None:
    until = NOW + timedelta(hours=1)
    lent = claim("loan", ClaimKind.LENT, 4, pool="chat", lender="image", expires_at=until)
    inside = claim("use/image", ClaimKind.IN_USE, 8)
    book = Ledger(installed=16).put(inside, lent)
    assert overdue(book, until) == (lent,)


@given(ledgers())
def test_every_installed_gpu_is_in_one_place(ledger: Ledger) -> None:
    found = balance(ledger)
    if ledger.installed is None or found is None:
        assert found is None
        assert ledger.installed is None
        return
    parts = (found.sick, found.in_use, found.reserved, found.lent, found.unclaimed)
    assert min(*parts, found.over_claimed) >= 0
    assert sum(parts) - found.over_claimed == found.installed
    assert 0 in {found.unclaimed, found.over_claimed}


@given(ledgers())
def test_pools_are_entitled_to_what_they_hold_and_together_to_no_more_than_there_is(
    ledger: Ledger,
) -> None:
    entitled, pools = entitlements(ledger), standings(ledger)
    usable = usable_gpus(ledger) or 0
    assert sum(entitled.values()) == min(usable, held_in_all(ledger))
    assert all(0 <= entitled[name] <= pools[name].held for name in pools)


@given(ledgers())
def test_no_pool_is_short_while_one_of_lower_priority_has_more_than_was_lent_to_it(
    ledger: Ledger,
) -> None:
    entitled, pools = entitlements(ledger), standings(ledger)
    for name, pool in pools.items():
        if entitled[name] < pool.held:
            lower = [n for n, other in pools.items() if other.priority < pool.priority]
            assert all(entitled[n] <= pools[n].borrowed for n in lower)


def test_one_pool_that_needs_all_there_is_does_not_starve_another() -> None:
    hungry = claim("use/image", ClaimKind.IN_USE, 40)
    modest = claim("use/chat", ClaimKind.IN_USE, 4, pool="chat")
    book = Ledger(installed=16).put(hungry, modest)
    assert entitlements(book) == {"chat": 4, "image": 12}
    assert (ceiling_gpus(book, "chat"), ceiling_gpus(book, "image")) == (4, 12)


def test_pools_of_the_same_priority_share_alike_what_is_too_little_for_both() -> None:
    one = claim("use/image", ClaimKind.IN_USE, 12)
    other = claim("use/chat", ClaimKind.IN_USE, 13, pool="chat")
    assert entitlements(Ledger(installed=16).put(one, other)) == {"image": 8, "chat": 8}


def test_the_first_gpus_that_come_make_up_for_those_that_are_sick() -> None:
    sick = claim("sick", ClaimKind.SICK, 6)
    hour = NOW + timedelta(hours=1)
    coming = claim("c", ClaimKind.ARRIVING, 8, expected_at=hour, expected_by=hour)
    for size, is_expected in ((6, True), (7, False)):
        book = settle(Ledger(installed=4).put(sick, coming, stage("a", size)), NOW)
        expected = forecast_backing(book, book.claims["a"], NOW)
        assert (expected is not None) is is_expected


def test_where_there_are_too_few_a_pool_of_higher_priority_has_what_it_holds_first() -> None:
    paying = stage("paying", 10, 1, pool="pro", state=ClaimState.SPENT)
    others = stage("free", 10, 0, pool="free", state=ClaimState.SPENT)
    book = Ledger(installed=16).put(paying, others)
    assert entitlements(book) == {"pro": 10, "free": 6}


def test_what_is_lent_comes_before_every_priority() -> None:
    lender = stage("a", 10, 2, pool="side", state=ClaimState.SPENT)
    lent = claim("loan", ClaimKind.LENT, 6, pool="core", lender="side")
    book = Ledger(installed=8).put(lender, lent)
    assert entitlements(book) == {"core": 6, "side": 2}


@pytest.mark.parametrize(("priority", "is_expected"), [(0, False), (1, False), (2, True)])
def test_a_forecast_knows_who_will_give_way(priority: int, is_expected: bool) -> None:
    """Sixteen GPUs, ten granted at priority 1; eleven more come, but for whom?"""
    book = book_of(stage("granted", 10, 1))
    huge = stage("huge", 27, priority, made_at=NOW + timedelta(hours=1))
    hour = NOW + timedelta(hours=1)
    coming = claim("c", ClaimKind.ARRIVING, 11, expected_at=hour, expected_by=hour)
    book = settle(book.put(huge, coming), NOW)
    assert (forecast_backing(book, huge, NOW) is not None) is is_expected


@given(before=ledgers(), came=gpus)
def test_whoever_is_forecast_is_granted_when_so_many_have_come(before: Ledger, came: int) -> None:
    hour = NOW + timedelta(hours=1)
    others = before.drop([c.id for c in before.of(ClaimKind.ARRIVING)])
    coming = claim("c", ClaimKind.ARRIVING, came, expected_at=hour, expected_by=hour)
    book = settle(others.put(coming), NOW)
    expected = [c for c in waiting(book) if forecast_backing(book, c, NOW) is not None]
    if book.installed is None:
        assert expected == []
        return
    there = book.drop(["c"]).model_copy(update={"installed": book.installed + came})
    granted = {c.id for c in waiting(book)} - {c.id for c in waiting(settle(there, hour))}
    assert {c.id for c in expected} == granted


@given(ledgers())
def test_only_what_is_lower_and_not_spent_can_be_taken_and_the_last_in_line_first(
    ledger: Ledger,
) -> None:
    for each in waiting(ledger):
        lower = preemptible(ledger, each)
        assert all(c.priority < each.priority for c in lower)
        assert all(c.state is ClaimState.GRANTED for c in lower)
        assert list(lower) == sorted(lower, key=turn, reverse=True)
