"""GPUs on their way: counted on, moved, late, short, complete or cancelled."""

from pathlib import Path

import pytest

from tests.embedded.until import until
from tests.workflows.story import Given, Stage, Story, Then, When
from tidegate.cli.applying import Applicant, apply_file, apply_supply
from tidegate.errors import Refused
from tidegate.events import Event
from tidegate.messages.common import Act
from tidegate.messages.supply import SupplyOrder, SupplyPhase

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]


class Order:
    """One supply of a story's GPUs, as a buyer sees it."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.name = f"order-{story.number}"

    @property
    def plan_id(self) -> str:
        return f"supply/{self.name}"

    async def applied(self, gpus: int, at: str, latest: str, gpu_type: str = "") -> str:
        spec = Given(self.story).arrival(gpus, at, latest).spec
        spec = spec.model_copy(update={"gpu_type": gpu_type or spec.gpu_type})
        return await apply_supply(self.story.plane, SupplyOrder(name=self.name, spec=spec))

    async def counted_on(self, gpus: int, at: str, latest: str) -> None:
        """Have the story's budget count four GPUs as installed, and on this many more."""
        await Given(self.story).budget()
        await When(self.story).seen(installed=4, ready=4)
        await self.applied(gpus, at, latest)
        await _is_counted_on(self.story, gpus)

    async def phase(self) -> SupplyPhase:
        order = await self.story.plane.plan(self.plan_id, SupplyOrder)
        assert order is not None
        return order.state.phase

    async def is_over(self) -> None:
        async def holds() -> bool:
            return await self.story.plane.running_plans(self.name) == []

        await until(holds)

    def told(self, event_type: str) -> list[Event]:
        recorded = self.story.world.recorded
        return [e for e in recorded if (e.type, e.subject) == (event_type, self.plan_id)]

    async def heard(self, event_type: str) -> Event:
        await until(lambda: self.told(event_type) != [])
        return self.told(event_type)[-1]


@pytest.fixture
def order(story: Story) -> Order:
    return Order(story)


async def _is_counted_on(story: Story, gpus: int) -> None:
    async def holds() -> bool:
        claims = (await story.budget_state()).ledger.claims.values()
        return sum(c.gpus for c in claims if c.kind == "arriving") == gpus

    await until(holds)


async def test_a_supply_dates_the_stage_that_waits_and_moves_it_when_it_moves(
    story: Story, given: Given, when: When, then: Then, order: Order
) -> None:
    await given.rollout([Stage("pro", reserve=8)])
    await when.seen(installed=4, ready=4)
    counted = "8 GPUs: 4 of 4 are unclaimed, those inside need 0"
    await until(lambda: counted in {e.data["reason"] for e in story.events("stage.forecast")})
    before = len(story.events("stage.forecast"))
    assert await order.applied(8, "10d", "20d") == f"{order.plan_id} started"
    first = await then.told("stage.forecast", times=before + 1)
    assert await order.applied(8, "15d", "40d") == f"{order.plan_id} moved"
    second = await then.told("stage.forecast", times=before + 2)
    assert str(first.data["p50"]) < str(second.data["p50"])
    assert len(order.told("supply.moved")) == 1
    said = await order.applied(8, "15d", "40d")
    assert said == f"{order.plan_id} is there already, unchanged"


async def test_gpus_that_come_in_parts_are_short_and_then_complete(
    story: Story, given: Given, when: When, order: Order
) -> None:
    await order.counted_on(8, "10d", "20d")
    await when.seen(installed=9, ready=4)
    assert (await order.heard("supply.short")).data["come"] == 5
    await _is_counted_on(story, 3)
    await when.seen(installed=12, ready=4)
    assert (await order.heard("supply.complete")).data["come"] == 8
    await order.is_over()
    assert await order.phase() is SupplyPhase.COMPLETE
    assert order.told("supply.late") == []
    await _is_counted_on(story, 0)


async def test_a_supply_that_is_late_says_so_once_for_its_dates(
    story: Story, given: Given, when: When, order: Order
) -> None:
    await order.counted_on(8, "1d", "2d")
    await when.passes("10d")
    await order.heard("supply.late")
    await order.applied(8, "20d", "30d")
    await order.heard("supply.moved")
    await when.passes("30d")
    await until(lambda: len(order.told("supply.late")) == 2)
    await when.passes("30d")
    assert len(order.told("supply.late")) == 2


async def test_what_came_for_one_supply_is_not_taken_off_the_next(
    story: Story, given: Given, when: When, order: Order
) -> None:
    await order.counted_on(8, "1d", "2d")
    await when.seen(installed=12, ready=4)
    await order.is_over()
    await given.budget(given.arrival(6, "10d", "20d", "next"))
    await _is_counted_on(story, 6)


async def test_a_supply_that_is_cancelled_is_counted_on_no_more(
    story: Story, given: Given, when: When, order: Order
) -> None:
    await order.counted_on(8, "10d", "20d")
    await story.plane.steer(order.plan_id, "abort", Act(by="pm", reason="the vendor failed"))
    assert (await order.heard("supply.cancelled")).data["reason"] == "the vendor failed"
    await _is_counted_on(story, 0)


async def test_a_supply_does_not_become_one_of_another_type(
    story: Story, given: Given, order: Order
) -> None:
    await given.budget()
    await order.applied(8, "10d", "20d")
    with pytest.raises(Refused, match="Abort this supply and apply another"):
        await order.applied(8, "10d", "20d", gpu_type="other")


async def test_a_supply_that_may_not_change_so_is_refused_before_anything_is_declared(
    story: Story, given: Given, order: Order, tmp_path: Path
) -> None:
    await given.budget()
    await order.applied(8, "10d", "20d")
    instants = 'at: "2030-01-01T00:00:00Z", latest: "2030-01-02T00:00:00Z"'
    file = tmp_path / "plan.yaml"
    file.write_text(
        f"""
apiVersion: tidegate.dev/v1
kind: Budget
metadata: {{name: other-{story.number}}}
spec: {{}}
---
apiVersion: tidegate.dev/v1
kind: Supply
metadata: {{name: {order.name}}}
spec: {{gpuType: other-{story.number}, owner: ann, gpus: 8, {instants}}}
"""
    )
    with pytest.raises(Refused, match="Abort this supply and apply another"):
        await apply_file(story.plane, file, Applicant("ann"))
    catalogue = await story.plane.catalogue()
    assert catalogue is None or f"other-{story.number}" not in catalogue.declared.budgets


async def test_a_supply_may_be_called_as_a_rollout_that_runs(
    story: Story, given: Given, order: Order
) -> None:
    await given.rollout([Stage("pro", starts_in="1d")])
    order.name = story.rollout
    assert await order.applied(8, "10d", "20d") == f"{order.plan_id} started"
    assert await order.applied(8, "11d", "20d") == f"{order.plan_id} moved"
