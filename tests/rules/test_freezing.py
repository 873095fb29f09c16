"""The calendar of freezes: by the clock on the wall, over both changes of the hour."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tidegate.freezes import FreezeSpec, leaves_no_time
from tidegate.rules.freezing import frozen_until

BERLIN = ZoneInfo("Europe/Berlin")
FRIDAYS = FreezeSpec.model_validate(
    {"reason": "nobody is here", "days": ["fri"], "after": "15:00", "timeZone": "Europe/Berlin"}
)
WEEKENDS = FreezeSpec(reason="the weekend", days=("sat", "sun"), time_zone="Europe/Berlin")
HOLIDAYS = FreezeSpec(
    reason="the holidays",
    start=datetime(2026, 12, 20, tzinfo=UTC),
    end=datetime(2027, 1, 4, tzinfo=UTC),
)
ALL = (FRIDAYS, WEEKENDS, HOLIDAYS)


def berlin(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=BERLIN).astimezone(UTC)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("at", "until"),
    [
        (berlin(2026, 3, 6, 14, 59), None),
        (berlin(2026, 3, 6, 15), berlin(2026, 3, 9)),
        (berlin(2026, 3, 8, 23, 59), berlin(2026, 3, 9)),
        (berlin(2026, 3, 9), None),
        # The last Sunday of March has 23 hours, that of October 25.
        (berlin(2026, 3, 27, 15), berlin(2026, 3, 30)),
        (berlin(2026, 10, 23, 15), berlin(2026, 10, 26)),
        (datetime(2026, 12, 20, tzinfo=UTC), datetime(2027, 1, 4, tzinfo=UTC)),
        # Friday 18 December after 15:00, the weekend, and the holidays that begin in it.
        (berlin(2026, 12, 18, 15), datetime(2027, 1, 4, tzinfo=UTC)),
    ],
)
def test_a_freeze_lasts_until_the_wall_says_so(at: datetime, until: datetime | None) -> None:
    found = frozen_until(ALL, at)
    assert (found and found[0]) == until


def test_a_weekend_is_an_hour_shorter_in_march_and_longer_in_october() -> None:
    lengths = []
    for friday in (berlin(2026, 3, 20, 15), berlin(2026, 3, 27, 15), berlin(2026, 10, 23, 15)):
        found = frozen_until(ALL, friday)
        assert found is not None
        lengths.append((found[0] - friday) / timedelta(hours=1))
    assert lengths == [57.0, 56.0, 58.0]


def test_an_hour_that_a_night_has_twice_is_frozen_twice_and_one_that_is_skipped_never() -> None:
    nights = FreezeSpec(
        reason="backups", days=("sun",), after=time(2), before=time(3), time_zone="Europe/Berlin"
    )
    autumn = [datetime(2026, 10, 25, hour, 30, tzinfo=UTC) for hour in (0, 1, 2)]
    assert [frozen_until([nights], at) is not None for at in autumn] == [True, True, False]
    spring = [datetime(2026, 3, 29, 0, 59, tzinfo=UTC), datetime(2026, 3, 29, 1, 0, tzinfo=UTC)]
    assert [frozen_until([nights], at) is not None for at in spring] == [False, False]


def test_a_freeze_that_ends_in_the_hour_that_comes_twice_ends_in_the_second() -> None:
    nights = FreezeSpec(
        reason="backups",
        days=("sun",),
        after=time(1),
        before=time(2, 30),
        time_zone="Europe/Berlin",
    )
    found = frozen_until([nights], datetime(2026, 10, 25, 0, 15, tzinfo=UTC))
    assert found == (datetime(2026, 10, 25, 1, 30, tzinfo=UTC), "backups")


@given(st.integers(0, 2 * 365 * 24 * 60).map(lambda m: berlin(2026, 1, 1) + timedelta(minutes=m)))
def test_what_comes_after_a_freeze_is_free_and_nothing_before_it_is(at: datetime) -> None:
    found = frozen_until(ALL, at)
    if found is None:
        return
    until, reason = found
    assert until > at
    assert reason
    assert frozen_until(ALL, until) is None
    between = at + (until - at) / 2
    assert (frozen_until(ALL, between) or (None, ""))[0] == until


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({}, "expected days, or start and end"),
        ({"start": "2026-12-20T00:00:00Z"}, "expected days, or start and end"),
        ({"days": ["fri"], "start": "2026-12-20T00:00:00Z"}, "expected days, or start and end"),
        ({"days": ["fri"], "after": "15:00", "before": "14:00"}, "later than after"),
        ({"days": ["fri"], "after": "3pm"}, "expected a time of day"),
        ({"days": ["fri"], "timeZone": "Berlin"}, "expected a time zone"),
        (
            {"start": "2026-12-20T00:00:00Z", "end": "2026-12-20T00:00:00Z"},
            "expected an end after the start",
        ),
    ],
)
def test_a_freeze_that_makes_no_sense_is_refused(written: dict[str, object], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        FreezeSpec.model_validate({"reason": "because", **written})


def test_a_week_without_a_day_left_is_seen() -> None:
    week = FreezeSpec(reason="never", days=("mon", "tue", "wed", "thu", "fri"))
    assert leaves_no_time((week, WEEKENDS))
    assert not leaves_no_time((week, FRIDAYS))
