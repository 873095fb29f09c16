"""Durations, shares and instants, written as people write them."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from tidegate.quantities import (
    AS_WRITTEN,
    Duration,
    Instant,
    PositiveDuration,
    PositiveShare,
    Share,
    format_duration,
    format_share,
    parse_duration,
    parse_share,
)

MISREAD_DURATIONS = ["", " ", "s", "90", "-90s", "+1s", "1,5h", "1h2", "1 5s", "1e3s", "٣s", "1y"]
MISREAD_SHARES = ["", "%", "2.5", "-1%", "100.001%", "1e1%", "nan%", "٣%", "2,5%", "5%%"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90.0),
        ("36h", 129_600.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        (" 15 s ", 15.0),
        ("250ms", 0.25),
        ("1.5h", 5400.0),
        ("2w", 1_209_600.0),
        ("0s", 0.0),
    ],
)
def test_a_duration_is_read_as_people_write_it(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("wrong", [*MISREAD_DURATIONS, 36, 1.5, True, None, ["1h"]])
def test_what_is_no_duration_is_refused_with_an_example(wrong: object) -> None:
    with pytest.raises(ValueError, match=r'^expected a duration. Write .* such as "90s"'):
        parse_duration(wrong)


def test_a_duration_beyond_reason_is_refused_rather_than_overflowing() -> None:
    with pytest.raises(ValueError, match=r"^expected at most a hundred years"):
        parse_duration("9" * 400 + "w")


@given(st.integers(0, 10**12))
def test_a_duration_survives_being_written_and_read(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


@given(st.text())
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert parse_duration(text) >= timedelta()


@pytest.mark.parametrize(
    ("text", "share"),
    [("2.5%", 0.025), ("0%", 0.0), ("100%", 1.0), (" 12 % ", 0.12), ("0.001%", 0.00001)],
)
def test_a_share_is_read_as_people_write_it(text: str, share: float) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize("wrong", [*MISREAD_SHARES, "120%", 1, 2.5, -0.1, True, None, float("nan")])
def test_what_is_no_share_is_refused_with_an_example(wrong: object) -> None:
    with pytest.raises(ValueError, match=r'^expected 0% to 100%. Write .* such as "2.5%"$'):
        parse_share(wrong)


def test_a_share_too_small_to_hold_is_refused_rather_than_read_as_nobody() -> None:
    with pytest.raises(ValueError, match=r"^expected 0% or at least 0.001%"):
        parse_share("0.0001%")


@given(st.integers(0, 100_000))
def test_a_share_survives_being_written_and_read(thousandths: int) -> None:
    share = thousandths / 100_000
    assert parse_share(format_share(share)) == share


@given(st.text())
def test_any_text_is_a_share_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert 0.0 <= parse_share(text) <= 1.0


class Written(BaseModel):
    exposure: Share
    bake: Duration


class Divisors(BaseModel):
    lag: PositiveDuration
    full: PositiveShare


def test_a_bare_fraction_is_a_share_in_python_and_a_mistake_in_a_file() -> None:
    values = {"exposure": 0.5, "bake": timedelta(hours=1)}
    assert Written.model_validate(values).exposure == 0.5
    with pytest.raises(ValidationError, match="expected 0% to 100%"):
        Written.model_validate(values, context=AS_WRITTEN)


@given(
    st.builds(
        Written,
        exposure=st.integers(0, 100_000).map(lambda thousandths: thousandths / 100_000),
        bake=st.integers(0, 10**10).map(lambda ms: timedelta(milliseconds=ms)),
    )
)
def test_values_survive_the_way_through_json(written: Written) -> None:
    assert Written.model_validate_json(written.model_dump_json()) == written
    assert Written.model_validate(written.model_dump()) == written


def test_what_is_divided_by_is_more_than_zero() -> None:
    with pytest.raises(ValidationError, match="expected more than 0s"):
        Divisors.model_validate({"lag": "0s", "full": "1%"})
    with pytest.raises(ValidationError, match="expected more than 0%"):
        Divisors.model_validate({"lag": "1s", "full": "0%"})


INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)


@pytest.mark.parametrize(
    "text", ["2026-03-04T09:00:00Z", "2026-03-04T10:00:00+01:00", "2026-03-04 09:00:00Z"]
)
def test_an_instant_has_its_zone(text: str) -> None:
    assert INSTANT.validate_python(text) == datetime(2026, 3, 4, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "wrong",
    ["2026-03-04T09:00:00", "2026-03-04", "2026-13-45", "20260304", "soon", "", 20260304, 0, None],
)
def test_a_number_or_a_date_alone_is_no_instant(wrong: object) -> None:
    with pytest.raises(ValidationError):
        INSTANT.validate_python(wrong)
