"""A retirement's steps come in order, and what has happened or was promised is not rewritten."""

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tidegate.retiring import RetirementSpec
from tidegate.rules.retiring import StepKind, find_conflict, find_earlier, steps_of

BEGIN: Final = datetime(2026, 3, 1, tzinfo=UTC)
TIERS: Final = ("pro", "free")


def day(number: float) -> datetime:
    return BEGIN + timedelta(days=number)


def spec(**changes: object) -> RetirementSpec:
    written = {
        "model": "old",
        "owner": "mara",
        "successor": "new",
        "announced_at": day(0),
        "sunset_at": day(90),
    }
    return RetirementSpec.model_validate({**written, **changes})


def cut_off(tier: str, at: float) -> dict[str, object]:
    return {"cut_offs": [{"tiers": [tier], "at": day(at)}]}


def test_steps_come_by_their_instants_and_each_notice_before_its_tiers_end() -> None:
    plan = spec(restricted_at=day(20), **cut_off("free", 60))
    assert [(step.id, (step.at - BEGIN).days) for step in steps_of(plan, TIERS)] == [
        ("announce", 0),
        ("restrict", 20),
        ("notice/free/30d", 30),
        ("notice/free/7d", 53),
        ("notice/free/1d", 59),
        ("notice/pro/30d", 60),
        ("cut-off/0", 60),
        ("notice/pro/7d", 83),
        ("notice/pro/1d", 89),
        ("sunset", 90),
    ]


def test_who_lost_it_before_it_was_announced_loses_it_again_at_once_and_hears_nothing() -> None:
    steps = steps_of(spec(**cut_off("free", -200)), TIERS)
    assert [step.id for step in steps[:2]] == ["announce", "cut-off/0"]
    assert {step.at for step in steps[:2]} == {day(0)}
    assert not any(step.kind is StepKind.NOTICE and step.tiers == ("free",) for step in steps)


@given(st.integers(0, 400), st.integers(0, 400))
def test_a_date_that_moves_is_earlier_or_is_not(before: int, after: int) -> None:
    found = find_earlier(spec(sunset_at=day(before)), spec(sunset_at=day(after)), TIERS)
    assert (found is not None) == (after < before)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({}, {"restricted_at": day(10)}, "nobody new could come from 2026-03-11 00:00 on"),
        ({}, cut_off("free", 60), "free would lose it 2026-04-30 00:00, and was told"),
        (
            {"brownouts": [{"start": day(10), "end": day(11)}]},
            {"brownouts": [{"start": day(9), "end": day(11)}]},
            "a brownout would begin 2026-03-10 00:00, and was told 2026-03-11",
        ),
    ],
)
def test_what_would_come_earlier_is_told(
    before: dict[str, object], after: dict[str, object], told: str
) -> None:
    found = find_earlier(spec(**before), spec(**after), TIERS)
    assert found is not None
    assert told in found.replace(" old ", " it ")


def test_what_has_happened_stays_and_what_was_promised_is_kept() -> None:
    promised = {"pro": timedelta(days=60)}
    assert find_conflict(spec(), spec(sunset_at=day(100)), ["announce"], TIERS, promised) is None
    moved = spec(announced_at=day(1))
    found = find_conflict(spec(), moved, ["announce"], TIERS, promised)
    assert found == (
        "announce: has happened, 2026-03-01 00:00 UTC as it was written. Leave it as it is."
    )
    assert find_conflict(spec(), moved, [], TIERS, promised) is None
    short = find_conflict(spec(), spec(sunset_at=day(59)), [], TIERS, promised)
    assert short is not None
    assert "for pro, expected 60d of notice at least. Move it later." in short
    assert find_conflict(spec(), spec(sunset_at=day(59)), [], TIERS, {}) is None
    assert find_conflict(spec(), spec(model="other"), [], TIERS, {}) == (
        'model: got "other", expected "old". Write another plan for it.'
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"sunset_at": day(-1)},
            "sunsetAt: got 2026-02-28.*, expected no earlier than announcedAt",
        ),
        ({"restricted_at": day(91)}, "restrictedAt: got .*, expected it between announcedAt"),
        (cut_off("free", 91), r"cutOffs\[0\].at: got .*, expected no later than sunsetAt"),
        (
            {"brownouts": [{"start": day(89), "end": day(91)}]},
            r"brownouts\[0\]: got .*, expected a window between",
        ),
        (
            {
                "brownouts": [
                    {"start": day(5), "end": day(7)},
                    {"start": day(6), "end": day(8)},
                ]
            },
            r"brownouts\[1\]: got .*, expected a window between",
        ),
        (
            {"cut_offs": [{"tiers": ["free"], "at": day(5)}, {"tiers": ["free"], "at": day(6)}]},
            r'cutOffs\[1\].tiers: got "free" again, expected each tier once',
        ),
    ],
)
def test_dates_that_make_no_sense_are_told(changes: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        spec(**changes)
