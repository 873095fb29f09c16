"""A surge does what helps, step by step, undoes it as the demand is served, and ends."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.embedded.until import until
from tests.workflows.company import Company
from tests.workflows.pressed import NARROW, OPEN, Pressed
from tests.workflows.story import Story, When
from tidegate.errors import Refused
from tidegate.messages.common import Act
from tidegate.messages.feature import SignupsOrder, SignupsVerb
from tidegate.messages.surge import SurgeOrder, SurgePhase

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]


@pytest_asyncio.fixture(loop_scope="session")
async def pressed(story: Story, tmp_path: Path) -> AsyncIterator[Pressed]:
    pressed = Pressed(Company(story, tmp_path / "file.yaml"))
    await pressed.company.is_at_work()
    yield pressed
    if not await story.is_over(pressed.plan):
        order = Act(by="test", reason="the story is told")
        await story.plane.steer(pressed.plan, "abort", order)
        await pressed.ends()


async def test_served_soon_it_ends_and_nothing_of_it_is_left(pressed: Pressed, when: When) -> None:
    await pressed.gate_is(NARROW, starts=True)
    await until(lambda: "asked" in pressed.types())
    assert await pressed.company.freezes(pressed.company.voice) == [pressed.plan]
    assert await pressed.asked() == [3]
    await when.passes("5m")
    await pressed.gate_is(OPEN)
    await when.passes("2h")
    await pressed.ends()
    assert pressed.types() == ["began", "asked", "ended"]
    assert await pressed.company.freezes(pressed.company.voice) == []
    assert await pressed.asked() == []
    assert (await pressed.signups()).state == "open"
    ended = pressed.events()[-1]
    assert ended.data["lowest_ceiling"] == 0.3
    assert 3900 <= float(str(ended.data["lasted_s"])) <= 4000


async def test_pressed_for_long_sign_ups_close_and_reopen_by_steps_as_it_calms(
    pressed: Pressed, when: When
) -> None:
    await pressed.gate_is(NARROW, starts=True)
    await when.passes("11m")
    await pressed.comes_to(SurgePhase.SUSPENDED)
    assert (await pressed.signups()).state == "suspended"
    await when.passes("5h")
    assert (await pressed.signups()).cohorts == ()
    await pressed.gate_is(OPEN)
    await when.passes("61m")
    assert (await pressed.signups()).cohorts == ("staff",)
    await when.passes("61m")
    assert (await pressed.signups()).share == 0.1
    await when.passes("61m")
    await pressed.ends()
    assert (await pressed.signups()).state == "open"
    assert pressed.types() == [
        "began",
        "asked",
        "suspended",
        "reopened",
        "reopened",
        "reopened",
        "ended",
    ]


async def test_pressed_again_while_sign_ups_reopen_they_close_again(
    pressed: Pressed, when: When
) -> None:
    await pressed.gate_is(NARROW, starts=True)
    await when.passes("11m")
    await pressed.gate_is(OPEN)
    await when.passes("61m")
    assert (await pressed.signups()).cohorts == ("staff",)
    await pressed.gate_is(NARROW, starts=True)
    await when.passes("5m")
    assert (await pressed.signups()).cohorts == ("staff",), "a moment is no surge"
    await when.passes("6m")
    assert (await pressed.signups()).cohorts == ()
    assert (await pressed.signups()).state == "suspended"
    assert pressed.types().count("began") == 1, "one at a time for each pool"


async def test_what_a_person_suspended_stays_suspended(pressed: Pressed, when: When) -> None:
    order = SignupsOrder(verb=SignupsVerb.SUSPEND, by="mara", reason="a launch went wrong")
    await pressed.company.story.plane.set_signups(pressed.company.voice, order)
    await pressed.gate_is(NARROW, starts=True)
    await when.passes("11m")
    await pressed.gate_is(OPEN)
    await when.passes("2h")
    await pressed.ends()
    assert (await pressed.signups()).reason == "a launch went wrong"


async def test_a_person_ends_it_and_all_is_undone(pressed: Pressed, when: When) -> None:
    await pressed.gate_is(NARROW, starts=True)
    await when.passes("11m")
    plane = pressed.company.story.plane
    with pytest.raises(Refused, match='"reason" is missing'):
        await plane.steer(pressed.plan, "abort", Act(by="mara"))
    await plane.steer(pressed.plan, "abort", Act(by="mara", reason="it was a test"))
    await pressed.ends()
    assert (await pressed.signups()).state == "open"
    assert await pressed.company.freezes(pressed.company.voice) == []
    assert await pressed.asked() == []


async def test_a_gate_that_opens_starts_none(pressed: Pressed) -> None:
    await pressed.gate_is(OPEN)
    assert await pressed.company.story.plane.plan(pressed.plan, SurgeOrder) is None
    await pressed.gate_is(NARROW, starts=True)
