"""A code red: side projects stand still and lend, and everything is given back in order."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from tests.embedded.until import until
from tests.strategies import NOW
from tests.workflows.company import CODE_RED, Company
from tests.workflows.story import Stage, Story, When
from tidegate.edges.temporal.starting import start_rollout
from tidegate.errors import Refused
from tidegate.messages.code_red import CodeRedOrder
from tidegate.messages.common import Act
from tidegate.messages.rollout import rollout_id
from tidegate.plans import RolloutSpec

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]


@pytest_asyncio.fixture(loop_scope="session")
async def company(story: Story, tmp_path: Path) -> AsyncIterator[Company]:
    company = Company(story, tmp_path / "file.yaml")
    yield company
    # One that stood on would freeze what others start.
    catalogue = await story.plane.catalogue()
    for red in catalogue.holds if catalogue is not None else ():
        await company.lifts(red)


async def test_side_projects_stand_still_and_lend_and_get_everything_back_in_the_reverse_order(
    company: Company,
) -> None:
    await company.is_at_work()
    await company.starts(company.ads)
    await company.starts(company.core)
    await company.places()
    loan = f"{company.red}/{company.voice}"
    assert await company.loans() == {loan: 6}
    assert await company.freezes(company.voice) == [company.red]
    assert await company.freezes(company.ads) == [company.red]
    assert await company.freezes(company.core) == []
    await company.lifts()
    assert await company.loans() == {}
    assert await company.freezes(company.voice) == []
    order = [(e.type, str(e.data.get("claim") or e.subject)) for e in company.done()]
    voice, ads = rollout_id(company.voice), rollout_id(company.ads)
    frozen = [name for kind, name in order if kind == "plan.frozen"]
    assert sorted(frozen) == sorted([voice, ads])
    assert [name for kind, name in order if kind == "plan.thawed"] == frozen[::-1]
    kinds = [kind for kind, _ in order]
    assert kinds[2:] == ["claim.lent", "claim.released", "plan.thawed", "plan.thawed"]


async def test_it_is_lifted_by_itself_when_its_time_is_up(company: Company, when: When) -> None:
    await company.is_at_work()
    await company.places()
    await when.passes("47h")
    assert await company.freezes(company.voice) == [company.red]
    await when.passes("2h")
    await until(partial(company.story.is_over, company.red))
    assert await company.freezes(company.voice) == []
    state = await company.state()
    assert state.abort is not None
    assert state.abort.reason == "its time is up"


async def test_what_stood_still_goes_on_later_by_as_long(company: Company, when: When) -> None:
    await company.is_at_work()
    await company.places()
    await when.passes("1d")
    await company.lifts()
    await when.passes("71h")
    assert await company.is_exposed(company.voice)
    await when.passes("2h")
    await until(partial(company.is_exposed, company.voice, 0.02))


async def test_placed_twice_it_takes_once_and_a_second_one_takes_what_is_left(
    company: Company,
) -> None:
    await company.is_at_work()
    first = await company.places()
    assert f"{company.red} started" in first
    assert f"{company.red} is there already, unchanged" in await company.places()
    other = f"other-{company.story.number}"
    await company.places(other)
    assert await company.loans() == {f"{company.red}/{company.voice}": 6}
    assert await company.freezes(company.voice) == [company.red, f"code-red/{other}"]
    await company.lifts()
    assert await company.freezes(company.voice) == [f"code-red/{other}"]
    await company.lifts(f"code-red/{other}")
    assert await company.freezes(company.voice) == []
    assert await company.loans() == {}


async def test_lifted_while_half_placed_it_leaves_nothing_frozen_and_nothing_lent(
    company: Company,
) -> None:
    await company.is_at_work()
    await company.starts(company.ads)
    lifted = Act(by="sam", reason="a mistake")

    async def lift_it() -> None:
        company.story.world.after.pop("freeze")
        await company.story.plane.steer(company.red, "abort", lifted)

    company.story.world.after["freeze"] = lift_it
    await company.places()
    await until(partial(company.story.is_over, company.red))
    assert [e.type for e in company.done()] == ["plan.frozen", "plan.thawed"]
    assert await company.loans() == {}
    assert await company.freezes(company.voice) == []
    assert await company.freezes(company.ads) == []


async def test_a_hotfix_goes_through(company: Company) -> None:
    await company.is_at_work()
    await company.places(through="fix")
    lines = await company.starts(company.ads, name="fix")
    assert "rollout/fix started" in lines
    await until(partial(company.is_exposed, company.ads))


async def test_a_plan_that_is_started_meanwhile_stands_still_from_its_first_moment(
    company: Company, when: When
) -> None:
    await company.is_at_work()
    await company.places()
    lines = await company.starts(company.ads)
    assert f"rollout/{company.ads} started, and stands still: we fall behind" in lines
    await when.passes("1h")
    assert await company.freezes(company.ads) == [company.red]
    assert not await company.is_exposed(company.ads)
    await company.lifts()
    await until(partial(company.is_exposed, company.ads))


async def test_a_plan_that_is_started_as_it_is_lifted_goes_on(company: Company) -> None:
    await company.is_at_work()
    await company.places()
    red = await company.story.plane.plan(company.red, CodeRedOrder)
    assert red is not None
    await company.lifts()  # after it was read as standing
    company.story.rollouts.append(company.ads)
    spec = RolloutSpec(feature=company.ads, owner="ann", stages=(Stage("pro").spec(NOW),))
    order = company.story.order(company.ads, [Stage("pro")]).model_copy(update={"spec": spec})
    line = await start_rollout(company.story.plane, order, [red])
    assert line == f"rollout/{company.ads} started"
    await until(partial(company.is_exposed, company.ads, 1.0))


async def test_a_pool_keeps_what_it_is_left(company: Company) -> None:
    await company.is_at_work()
    text = CODE_RED.format(name=f"red-{company.story.number}", core=company.core, through="")
    keep = text.replace("lasts: 2d", f"lasts: 2d, keep: {{{company.voice}: 2}}")
    await company.apply(keep)
    await company.story.plane.look_again(company.red)
    assert await company.loans() == {f"{company.red}/{company.voice}": 4}
    await company.lifts()


async def test_it_is_lifted_once_and_with_a_reason(company: Company) -> None:
    await company.is_at_work()
    await company.places()
    with pytest.raises(Refused, match='abort: "reason" is missing'):
        await company.story.plane.steer(company.red, "abort", Act(by="sam"))
    await company.lifts()


async def test_nothing_of_it_is_left_in_the_catalogue(company: Company) -> None:
    await company.is_at_work()
    await company.places()
    catalogue = await company.story.plane.catalogue()
    assert catalogue is not None
    assert company.red in catalogue.holds
    await company.lifts()
    catalogue = await company.story.plane.catalogue()
    assert catalogue is not None
    assert company.red not in catalogue.holds
