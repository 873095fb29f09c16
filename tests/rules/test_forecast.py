"""When a waiting reservation is expected to be backed: a range of dates, or unknown."""

from datetime import timedelta

from hypothesis import assume, given
from hypothesis import strategies as st

from tests.strategies import NOW, arrivals, claim, gpus, ledgers
from tidegate.rules.forecast import Outlook, forecast_backing
from tidegate.rules.granting import settle
from tidegate.rules.ledger import Claim, ClaimKind, ClaimState, Ledger, waiting
from tidegate.snapshot import DateRange

HOUR = timedelta(hours=1)
COLD_START = {"lead_p50_s": 60.0, "lead_p90_s": 120.0}


def stage(size: int, state: ClaimState = ClaimState.WAITING, *, minute: int = 0) -> Claim:
    made_at = NOW + timedelta(minutes=minute)
    return claim(
        f"stage-{minute}", ClaimKind.RESERVED, size, state=state, made_at=made_at, **COLD_START
    )


def coming(name: str, size: int, at: timedelta, by: timedelta) -> Claim:
    return claim(
        f"arriving/{name}",
        ClaimKind.ARRIVING,
        size,
        expected_at=NOW + at,
        expected_by=NOW + by,
    )


def forecast(*claims: Claim, installed: int | None = 8) -> DateRange | None:
    """Forecast the first claim, with the others beside it."""
    ledger = Ledger(installed=installed, claims={c.id: c for c in claims})
    return forecast_backing(ledger, claims[0], NOW)


def is_no_earlier(later: DateRange | None, before: DateRange | None) -> bool:
    """Say whether both ends are the same or later; unknown is later than any date."""
    if later is None or before is None:
        return later is None
    return later.p50 >= before.p50 and later.p90 >= before.p90


def test_a_granted_claim_waits_for_its_cold_start_alone() -> None:
    late = coming("late", 8, HOUR, 2 * HOUR)
    surge = claim("use/image", ClaimKind.IN_USE, 9)
    expected = DateRange(p50=NOW + timedelta(seconds=60), p90=NOW + timedelta(seconds=120))
    assert forecast(stage(8, ClaimState.GRANTED), late, surge) == expected


def test_a_waiting_claim_waits_for_the_arrivals_that_cover_it_and_then_its_cold_start() -> None:
    coming_gpus = [coming("a", 4, HOUR, 3 * HOUR), coming("b", 4, 2 * HOUR, 4 * HOUR)]
    assert forecast(stage(16), *coming_gpus) == DateRange(
        p50=NOW + 2 * HOUR + timedelta(seconds=60), p90=NOW + 4 * HOUR + timedelta(seconds=120)
    )


def test_the_slow_end_follows_the_arrivals_that_are_surest_to_have_come() -> None:
    vague, sure = coming("vague", 8, HOUR, 30 * HOUR), coming("sure", 8, 2 * HOUR, 3 * HOUR)
    expected = forecast(stage(16), vague, sure)
    assert expected is not None
    assert expected.p50 == NOW + HOUR + timedelta(seconds=60)
    assert expected.p90 == NOW + 3 * HOUR + timedelta(seconds=120)


def test_arrivals_that_do_not_cover_it_leave_the_date_unknown() -> None:
    assert forecast(stage(16)) is None
    assert forecast(stage(16), coming("few", 7, HOUR, HOUR)) is None


def test_an_arrival_past_its_latest_date_tells_nothing() -> None:
    overdue = coming("overdue", 8, -2 * HOUR, -HOUR)
    assert forecast(stage(16), overdue) is None
    due = forecast(stage(16), coming("late", 8, -2 * HOUR, timedelta()))
    assert due is not None
    assert due.p50 == NOW + timedelta(seconds=60)


def test_nothing_is_forecast_where_nobody_has_counted_the_gpus() -> None:
    assert forecast(stage(1), coming("many", 64, HOUR, HOUR), installed=None) is None


def test_those_who_wait_in_front_are_served_first() -> None:
    behind, ahead = stage(8, minute=1), stage(8, minute=0)
    first, second = coming("a", 8, HOUR, HOUR), coming("b", 8, 2 * HOUR, 2 * HOUR)
    expected = forecast(behind, ahead, first, second, installed=0)
    assert expected is not None
    assert expected.p50 == NOW + 2 * HOUR + timedelta(seconds=60)


@given(ledgers())
def test_the_median_is_never_after_the_slow_end_and_neither_is_past(ledger: Ledger) -> None:
    for c in ledger.of(ClaimKind.RESERVED):
        expected = forecast_backing(ledger, c, NOW)
        assert expected is None or NOW <= expected.p50 <= expected.p90


@given(ledger=ledgers(), arrival=arrivals(), at_h=st.floats(0, 99), by_h=st.floats(0, 99))
def test_an_arrival_that_comes_later_never_makes_a_forecast_earlier(
    ledger: Ledger, arrival: Claim, at_h: float, by_h: float
) -> None:
    assert arrival.expected_at is not None
    assert arrival.expected_by is not None
    assume(arrival.expected_by >= NOW)
    at = arrival.expected_at + at_h * HOUR
    by = max(at, arrival.expected_by + by_h * HOUR)
    delayed = arrival.model_copy(update={"expected_at": at, "expected_by": by})
    for c in waiting(ledger):
        before = forecast_backing(ledger.put(arrival), c, NOW)
        assert is_no_earlier(forecast_backing(ledger.put(delayed), c, NOW), before)


@given(ledger=ledgers(), arrival=arrivals(99))
def test_one_arrival_more_never_makes_a_forecast_later(ledger: Ledger, arrival: Claim) -> None:
    for c in waiting(ledger):
        without = forecast_backing(ledger, c, NOW)
        assert is_no_earlier(without, forecast_backing(ledger.put(arrival), c, NOW))


@given(ledger=ledgers(), more=gpus)
def test_one_who_comes_to_wait_behind_changes_no_forecast_in_front(
    ledger: Ledger, more: int
) -> None:
    behind = stage(more, minute=5000)
    for c in waiting(ledger):
        before = forecast_backing(ledger, c, NOW)
        assert forecast_backing(ledger.put(behind), c, NOW) == before


@given(
    ledger=ledgers(),
    sizes=st.lists(st.tuples(gpus, st.integers(0, 3), st.integers(0, 90)), max_size=3),
)
def test_one_look_at_a_ledger_tells_of_many_claims_what_it_tells_with_each_of_them_put_in(
    ledger: Ledger, sizes: list[tuple[int, int, int]]
) -> None:
    outlook = Outlook(ledger, NOW)
    for size, priority, minute in sizes:
        more = stage(size, minute=minute).model_copy(update={"id": "more", "priority": priority})
        assert outlook.backing(more) == forecast_backing(ledger.put(more), more, NOW)


@given(ledger=ledgers(), installed=st.integers(0, 128))
def test_whoever_still_waits_in_a_settled_ledger_waits_for_an_arrival(
    ledger: Ledger, installed: int
) -> None:
    bare = ledger.drop([c.id for c in ledger.of(ClaimKind.ARRIVING)])
    settled = settle(bare.model_copy(update={"installed": installed}), NOW)
    assert all(forecast_backing(settled, c, NOW) is None for c in waiting(settled))
