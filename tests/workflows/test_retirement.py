"""A retirement goes step by step, waits, moves, is taken back, and keeps its word."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from tests.embedded.until import until
from tests.workflows.retiring import TIERS, Retiring
from tests.workflows.story import COARSE, Story, When
from tidegate.errors import Refused
from tidegate.messages.feature import HoldOrder
from tidegate.messages.retirement import RetirementPhase
from tidegate.messages.steered import Waits
from tidegate.rules.ledger import ClaimKind

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]


@pytest_asyncio.fixture(loop_scope="session")
async def going(story: Story) -> AsyncIterator[Retiring]:
    going = Retiring(story)
    await going.begins()
    yield going
    await going.end()


async def test_it_goes_step_by_step_as_it_was_planned(going: Retiring, when: When) -> None:
    spec = going.spec(
        restricted_at=going.at("3d"), brownouts=[("5d", "126h")], cut_offs=[("free", "7d")]
    )
    await going.starts(spec)
    await going.sees(old=4, needed=4)
    await going.waits_for(Waits.DUE)
    await when.passes("2d")
    model = (await going.old()).going
    assert model is not None
    assert model.deprecated_at == going.at("1d")
    assert model.sunset_at == going.at("10d")
    assert (model.is_restricted, model.gone, len(model.brownouts)) == (False, {}, 1)
    await when.passes("2d")
    model = (await going.old()).going
    assert model is not None
    assert model.is_restricted
    await when.passes("4d")
    assert await going.gone() == {"free"}
    await when.passes("3d")
    assert await going.gone() == set(TIERS)
    await going.sees()
    await going.comes_to(RetirementPhase.RETIRED)
    await when.passes("4d")
    assert (await going.ends()).has_finished
    assert going.types() == [
        "announced",
        "restricted",
        "brownout_began",
        "brownout_ended",
        "cut_off",
        "sunset",
        "drained",
        "retired",
        "ended",
    ]
    began = going.story.began_at
    planned = [began + timedelta(days=d) for d in (1, 3, 5, 5.25, 7, 10)]
    for event, at in zip(going.events(), planned, strict=False):
        assert timedelta() <= event.at - at <= COARSE, event


async def test_its_gpus_are_given_back_when_nobody_is_inside_any_more(
    going: Retiring, when: When
) -> None:
    await going.serves_on(6)
    await going.sees(old=6, needed=3)
    await going.starts(going.spec("3d"))
    await when.passes("73h")
    await going.comes_to(RetirementPhase.SUNSET)
    book = (await going.story.budget_state()).ledger
    assert [c.gpus for c in book.of(ClaimKind.RESERVED)] == [6]
    await going.sees(old=6, needed=0)
    await when.passes("5m")
    await going.comes_to(RetirementPhase.RETIRED)
    book = (await going.story.budget_state()).ledger
    assert book.of(ClaimKind.RESERVED) == ()
    assert going.events("retired")[0].data["gpus"] == 6


async def test_a_model_that_never_drains_goes_after_an_hour(going: Retiring, when: When) -> None:
    await going.sees(old=4, needed=2)
    await going.starts(going.spec("3d"))
    await when.passes("74h")
    await going.comes_to(RetirementPhase.RETIRED)


async def test_notices_are_told_once_each_to_those_who_are_to_lose_it(
    going: Retiring, when: When
) -> None:
    leads = (timedelta(days=3), timedelta(days=1), timedelta(days=30))
    await going.starts(going.spec(cut_offs=[("free", "6d")], notices=leads))
    await when.passes("4d")
    told = [(e.data["tier"], e.data["reason"]) for e in going.events("notice")]
    assert told == [("free", "3d before")]
    await going.is_taken_back("plus")
    await when.passes("7d")
    told = [(e.data["tier"], e.data["reason"]) for e in going.events("notice")]
    assert told == [
        ("free", "3d before"),
        ("free", "1d before"),
        ("pro", "3d before"),
        ("pro", "1d before"),
    ]


async def test_a_pause_moves_everything_later_and_takes_back_what_was_told(
    going: Retiring, when: When
) -> None:
    await going.starts(going.spec(brownouts=[("4d", "5d")]))
    await when.passes("2d")
    await going.told("pause")

    async def says(sunset: object, brownouts: int) -> bool:
        model = (await going.old()).going
        return model is not None and (model.sunset_at, len(model.brownouts)) == (sunset, brownouts)

    await until(lambda: says(None, 0))
    await when.passes("30d")
    assert await going.gone() == set()
    assert "brownout_began" not in going.types()
    await going.told("resume")
    state = await going.state()
    assert timedelta(days=30) <= state.shift <= timedelta(days=30) + COARSE
    await until(lambda: says(going.at("10d") + state.shift, 1))
    await when.passes("9d")
    assert await going.gone() == set(TIERS)


async def test_nobody_loses_the_model_while_a_role_holds_its_retirement(
    going: Retiring, when: When
) -> None:
    await going.starts(going.spec("3d"))
    await when.passes("2d")
    order = HoldOrder(by="lee", role="legal", reason="a contract")
    await going.story.plane.steer(going.plan, "hold", order)
    await when.passes("5d")
    assert await going.gone() == set()
    await going.story.plane.steer(going.plan, "release", order)
    await when.passes("2d")
    assert await going.gone() == set(TIERS)


async def test_it_waits_while_the_model_is_used_too_much_or_nobody_knows(
    going: Retiring, when: When
) -> None:
    use = going.story.world.use
    use[going.model] = None
    await going.starts(going.spec("3d", use_below={"requests_a_day": 100.0}))
    await when.passes("4d")
    await going.waits_for(Waits.USE)
    assert (await going.state()).lacks == f"nobody knows how much {going.model} is used"
    use[going.model] = 250.0
    await when.passes("3h")
    expected = f"{going.model} has 250 weighted requests a day, at most 100 may be"
    assert (await going.state()).lacks == expected
    assert await going.gone() == set()
    use[going.model] = 90.0
    await when.passes("3h")
    assert await going.gone() == set(TIERS)
    assert [e.type for e in going.events("waiting")] == ["retirement.waiting"] * 2


async def test_it_waits_for_room_on_the_successors_pools(going: Retiring, when: When) -> None:
    await going.starts(going.spec("3d", headroom=4))
    await when.passes("4d")
    await going.waits_for(Waits.SUCCESSOR)
    await going.sees(new=3)
    await when.passes("3h")
    needs = f"{going.successor} needs 4 GPUs to spare, it has 3"
    assert (await going.state()).lacks == needs
    await going.sees(new=4)
    await when.passes("3h")
    assert await going.gone() == set(TIERS)


async def test_a_person_may_go_on_with_what_is_in_the_way_this_once(
    going: Retiring, when: When
) -> None:
    with pytest.raises(Refused, match="no such workflow"):
        await going.told("promote")
    await going.starts(going.spec("5d", headroom=4, cut_offs=[("free", "3d")]))
    await when.passes("74h")
    await going.waits_for(Waits.SUCCESSOR)
    await going.told("promote")
    await until(lambda: _is_gone(going, {"free"}))
    with pytest.raises(Refused, match="nothing is in its way"):
        await going.told("promote")
    await when.passes("3d")
    assert await going.gone() == {"free"}
    await going.waits_for(Waits.SUCCESSOR)


async def _is_gone(going: Retiring, tiers: set[str]) -> bool:
    return await going.gone() == tiers


async def test_taken_back_for_some_tiers_they_have_it_again_and_keep_it(
    going: Retiring, when: When
) -> None:
    await going.serves_on(4)
    await going.sees(old=4, needed=4)
    await going.starts(going.spec("3d"))
    await when.passes("73h")
    assert await going.gone() == set(TIERS)
    await going.is_taken_back("pro", "plus")
    await until(lambda: _is_gone(going, {"free"}))
    model = (await going.old()).going
    assert model is not None
    assert model.spared == ("pro", "plus")
    assert model.retired_at is None
    await when.passes("5d")
    assert (await going.ends()).has_finished
    book = (await going.story.budget_state()).ledger
    assert [c.gpus for c in book.of(ClaimKind.RESERVED)] == [4]


async def test_taken_back_for_all_it_is_as_if_nothing_had_been_said(
    going: Retiring, when: When
) -> None:
    await going.starts(going.spec("5d", cut_offs=[("free", "3d")]))
    await when.passes("4d")
    await going.is_taken_back()
    state = await going.ends()
    assert state.phase is RetirementPhase.TAKEN_BACK
    assert (await going.old()).going is None
    assert going.types()[-2:] == ["taken_back", "ended"]


async def test_within_the_grace_period_it_is_restored_once_its_gpus_are_ready_again(
    going: Retiring, when: When
) -> None:
    await going.serves_on(4)
    await going.starts(going.spec("3d"))
    await going.sees(old=4)
    await when.passes("74h")
    await going.comes_to(RetirementPhase.RETIRED)
    await going.sees(old=0)
    await going.is_taken_back("pro")
    await when.passes("10m")
    await going.waits_for(Waits.GPUS)
    assert await going.gone() == set(TIERS)
    model = (await going.old()).going
    assert model is not None
    assert model.retired_at is None, "its pools may grow"
    await going.sees(old=4)
    await when.passes("5m")
    assert await going.gone() == {"plus", "free"}
    await going.ends()
    book = (await going.story.budget_state()).ledger
    assert [c.gpus for c in book.of(ClaimKind.RESERVED)] == [4]


async def test_after_the_grace_period_it_is_gone_for_good(going: Retiring, when: When) -> None:
    await going.sees()
    await going.starts(going.spec("3d"))
    await when.passes("7d")
    assert (await going.ends()).phase is RetirementPhase.RETIRED
    with pytest.raises(Refused, match="no such workflow is running"):
        await going.is_taken_back()
    assert await going.gone() == set(TIERS)


async def test_a_date_moves_later_freely(going: Retiring, when: When) -> None:
    await going.starts(going.spec("5d"))
    await when.passes("2d")
    await going.moves(going.spec("9d"))
    await when.passes("5d")
    assert await going.gone() == set()
    model = (await going.old()).going
    assert model is not None
    assert model.sunset_at == going.at("9d")
    await when.passes("3d")
    assert await going.gone() == set(TIERS)


async def test_a_date_moves_earlier_in_the_name_of_safety_alone(
    going: Retiring, when: When
) -> None:
    await going.starts(going.spec("9d"))
    await when.passes("2d")
    sooner = going.spec("4d")
    for role, reason in (("", "why"), ("legal", "why"), ("safety", "")):
        with pytest.raises(Refused, match=r"pro would lose .*, and was told"):
            await going.moves(sooner, role=role, reason=reason)
    await going.moves(sooner, role="safety", reason="it does harm")
    await when.passes("3d")
    assert await going.gone() == set(TIERS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"announced": "2d"}, "announce: has happened, .* as it was written"),
        ({"sunset": "60h"}, "expected 2d of notice at least"),
        ({"model": "another"}, 'model: got "another"'),
    ],
)
async def test_what_has_happened_or_was_promised_is_not_rewritten(
    going: Retiring, when: When, changes: dict[str, str], message: str
) -> None:
    await going.starts(going.spec("9d"))
    await when.passes("26h")
    model = changes.pop("model", None)
    sunset, announced = changes.get("sunset", "9d"), changes.get("announced", "1d")
    spec = going.spec(sunset, announced=announced)
    other = spec.model_copy(update={"model": model}) if model else spec
    with pytest.raises(Refused, match=message):
        await going.moves(other)


async def test_those_who_are_pinned_are_carried_over_to_the_successor(
    going: Retiring, when: When
) -> None:
    await going.sees()
    await going.starts(going.spec("3d"), pinned=("ada", "lee"))
    await when.passes("74h")
    await going.comes_to(RetirementPhase.RETIRED)
    successor = await going.story.plane.model(going.successor)
    assert successor is not None
    assert successor.pinned == ("ada", "lee")


async def test_a_tier_that_keeps_the_model_is_asked_for_by_its_name(going: Retiring) -> None:
    await going.starts(going.spec("3d"))
    with pytest.raises(Refused, match=r'no tier "prro"\. There is pro, plus, free'):
        await going.is_taken_back("prro")
