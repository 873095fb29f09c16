"""A preview is quiet until somebody decides: promoted to a rollout, or ended without a trace."""

from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial

import pytest
import pytest_asyncio

from tests.embedded.until import until
from tests.workflows.attic import Attic
from tests.workflows.story import Given, Story, Then, When
from tidegate.errors import Refused
from tidegate.messages.code_red import CodeRedOrder
from tidegate.messages.common import Act
from tidegate.messages.preview import (
    MOST_INVITED,
    Feedback,
    InviteOrder,
    PreviewPhase,
)
from tidegate.messages.rollout import rollout_id
from tidegate.plans import CodeRedSpec

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]


@pytest_asyncio.fixture(loop_scope="session")
async def attic(story: Story) -> AsyncIterator[Attic]:
    attic = Attic(story)
    yield attic
    if not await story.is_over(attic.plan):
        await attic.steer("abort", Act(by="test", reason="the story is told"))
    await until(partial(story.is_over, attic.plan))


async def test_who_is_invited_and_what_they_say_is_kept_under_its_key_alone(attic: Attic) -> None:
    await attic.opens()
    await attic.invites("ivy", "noah")
    sealed = attic.keys.seal(attic.name, "I would pay for it")
    said_id = attic.keys.mark(attic.name, "I would pay for it")
    for _ in range(2):  # typed again, as if the first answer had been lost
        await attic.steer("feedback", Feedback(by="preview", sealed=sealed, said_id=said_id))
    state = await attic.state()
    assert [attic.keys.open(attic.name, each) for each in state.invited] == ["ivy", "noah"]
    assert "ivy" not in state.model_dump_json()
    assert state.said == 1
    said = next(e for e in attic.story.world.recorded if e.data.get("sealed") == sealed)
    assert attic.keys.open(attic.name, str(said.data["sealed"])) == "I would pay for it"


async def test_ended_its_key_is_gone_and_nobody_knows_of_it(attic: Attic) -> None:
    await attic.opens()
    await attic.invites("ivy")
    sealed = (await attic.state()).invited
    await attic.steer("abort", Act(by="ada", reason="nobody came"))
    await until(partial(attic.story.is_over, attic.plan))
    assert not attic.key_file.exists()
    assert attic.keys.open(attic.name, sealed[0]) is None
    assert (await attic.state()).invited == []
    assert await attic.is_known() == (False, False)
    assert attic.types() == ["preview.opened", "preview.invited", "preview.ended"]


async def test_its_time_is_up_and_it_ends_by_itself(attic: Attic, when: When) -> None:
    await attic.opens(lasts="3d")
    await when.passes("2d")
    assert attic.key_file.exists()
    await when.passes("2d")
    await until(partial(attic.story.is_over, attic.plan))
    assert not attic.key_file.exists()


async def test_promoted_it_becomes_a_rollout_and_those_invited_stay_until_that_is_over(
    attic: Attic, given: Given, when: When
) -> None:
    await given.feature()
    await attic.opens()
    await attic.invites("ivy")
    await attic.steer("promote", Act(by="ada", reason="they love it"))
    attic.story.rollouts.append(attic.name)
    await when.passes("1h")
    assert (await attic.state()).phase is PreviewPhase.PROMOTED
    assert len((await attic.state()).invited) == 1
    feature = await attic.story.feature_state()
    assert feature.exposure == {"pro": 1.0}
    await when.passes("2d")
    await until(partial(attic.story.is_over, attic.plan))
    assert await attic.story.is_over(rollout_id(attic.name))
    assert not attic.key_file.exists()
    assert await attic.is_known() == (False, True), "its feature lives on"


async def test_promoted_under_a_code_red_its_rollout_stands_still_from_its_first_moment(
    attic: Attic, story: Story, given: Given
) -> None:
    await given.feature()
    await attic.opens()
    spec = CodeRedSpec(owner="cto", reason="all hands", core=("chat",), lasts=timedelta(days=2))
    red = CodeRedOrder(name=f"red-{story.number}", spec=spec)
    assert await story.plane.start_plan(red, "a story")
    await until(partial(_is_known, story, red.plan_id))
    await attic.steer("promote", Act(by="ada", reason="they love it"))
    story.rollouts.append(attic.name)
    await until(partial(story.plane.is_running, rollout_id(attic.name)))
    assert list((await story.state()).freezes) == [red.plan_id]
    assert (await story.feature_state()).exposure == {}
    await story.plane.steer(red.plan_id, "abort", Act(by="cto", reason="it is over"))
    await until(partial(story.is_over, red.plan_id))
    await Then(story).exposure_is("pro", "100%")
    assert [e.type for e in story.events() if e.type == "plan.frozen"] == []


async def _is_known(story: Story, hold: str) -> bool:
    catalogue = await story.plane.catalogue()
    return catalogue is not None and hold in catalogue.holds


async def test_what_makes_no_sense_is_refused(attic: Attic) -> None:
    await attic.opens(becomes=False)
    with pytest.raises(Refused, match='"becomes" is missing'):
        await attic.steer("promote", Act(by="ada"))
    with pytest.raises(Refused, match='"reason" is missing'):
        await attic.steer("abort", Act(by="ada"))
    many = tuple(f"sealed-{i}" for i in range(MOST_INVITED + 1))
    with pytest.raises(Refused, match="expected 1000 at most"):
        await attic.steer("invite", InviteOrder(by="ada", sealed=many))
    with pytest.raises(Refused, match=r'preview "nobody": .* has no key of it'):
        attic.keys.seal("nobody", "ivy")


async def test_promoted_twice_it_becomes_one_rollout(attic: Attic, given: Given) -> None:
    await given.feature()
    await attic.opens()
    attic.story.rollouts.append(attic.name)
    await attic.steer("promote", Act(by="ada"))
    with pytest.raises(Refused, match="ada has promoted it already"):
        await attic.steer("promote", Act(by="lee"))
