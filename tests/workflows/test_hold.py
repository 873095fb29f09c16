"""A hold by a role: on a feature, on what a model serves, on everything and what comes later."""

import itertools
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import pytest
import pytest_asyncio
from temporalio.client import WorkflowExecutionStatus
from temporalio.testing import WorkflowEnvironment

from tests.embedded.until import until
from tests.workflows.story import Given, Story, Then, When
from tests.workflows.world import KEYS, World
from tidegate.catalogue import FeatureSpec, ModelSpec, PoolSpec
from tidegate.cli.holding import place_hold, release_hold
from tidegate.edges.temporal import ControlPlane
from tidegate.errors import Refused
from tidegate.events import Event
from tidegate.messages.catalogue import Declaration
from tidegate.messages.feature import ExposeOrder, Hold, HoldOrder
from tidegate.messages.hold import hold_id

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]

_numbers = itertools.count(1)
_POOL: Final = {
    "gpu_type": "h100",
    "max_replicas": 1,
    "capacity_rps": 1.0,
    "queue_wait_target": "1s",
    "cold_start": {"p50": "1s", "p90": "1s"},
    "reading_limit": "1s",
    "actuation_lag": "1s",
    "scale_down_window": "1s",
}


@dataclass
class House:
    """Two features of two models, named like no other test's, and who may hold them."""

    plane: ControlPlane
    world: World
    number: int = field(default_factory=lambda: next(_numbers))

    @property
    def drawing(self) -> str:
        return f"drawing-{self.number}"

    @property
    def talking(self) -> str:
        return f"talking-{self.number}"

    @property
    def role(self) -> str:
        """A role of this test alone, as holds on everything would meet."""
        return f"legal-{self.number}"

    async def declared(self, *features: str) -> None:
        models = {f"model-{f}": ModelSpec() for f in features}
        pools = {
            f"pool-{f}": PoolSpec.model_validate({**_POOL, "model": f"model-{f}"}) for f in features
        }
        specs = {f: FeatureSpec(pool=f"pool-{f}") for f in features}
        declaration = Declaration(by="ann", models=models, pools=pools, features=specs)
        await self.plane.declare(declaration)
        for name, spec in specs.items():
            await self.plane.declare_feature(name, spec)

    def order(self, reason: str = "a letter", *, roll_back: bool = False) -> HoldOrder:
        return HoldOrder(by="lee", role=self.role, reason=reason, rolls_back=roll_back)

    async def held(self, feature: str) -> dict[str, Hold]:
        """Return the holds on a feature of this test's role."""
        state = await self.plane.feature(feature)
        assert state is not None
        return {key: hold for key, hold in state.holds.items() if hold.role == self.role}

    async def exposed(self, feature: str, share: float) -> None:
        order = ExposeOrder(
            order_id=f"{share}", stage="all", tiers=("pro",), share=share, reason="a test"
        )
        await self.plane.ask_feature(feature, "expose", order)

    async def is_over(self, scope: str) -> bool:
        handle = self.plane.client.get_workflow_handle(hold_id(self.role, scope))
        return (await handle.describe()).status is WorkflowExecutionStatus.COMPLETED

    def told(self, scope: str, event_type: str) -> list[Event]:
        subject = hold_id(self.role, scope)
        return [e for e in self.world.recorded if (e.subject, e.type) == (subject, event_type)]


@pytest_asyncio.fixture(loop_scope="session")
async def house(env: WorkflowEnvironment, world: World) -> House:
    house = House(ControlPlane(env.client, KEYS), world)
    await house.declared(house.drawing, house.talking)
    return house


async def test_a_hold_on_a_model_holds_what_it_serves_until_its_role_releases_it(
    house: House,
) -> None:
    scope = f"model/model-{house.drawing}"
    said = await place_hold(house.plane, scope, house.order())
    assert said == [f"{scope} is held by {house.role}: 1 feature"]
    assert await house.held(house.talking) == {}
    with pytest.raises(Refused, match=f"{house.role} must release it first"):
        await house.exposed(house.drawing, 0.5)
    other = HoldOrder(by="sam", role="safety")
    with pytest.raises(Refused, match="no such workflow is running"):
        await release_hold(house.plane, scope, other)
    await release_hold(house.plane, scope, house.order())
    await house.exposed(house.drawing, 0.5)
    await until(partial(house.is_over, scope))
    assert [len(house.told(scope, f"hold.{t}")) for t in ("placed", "released")] == [1, 1]


async def test_a_hold_on_everything_is_on_what_is_declared_later_before_it_may_open(
    house: House,
) -> None:
    await place_hold(house.plane, "everything", house.order(roll_back=True))
    later = f"later-{house.number}"
    await house.declared(later)
    catalogue = await house.plane.catalogue()
    assert catalogue is not None
    assert hold_id(house.role, "everything") in catalogue.holds
    await house.plane.look_again(hold_id(house.role, "everything"))
    for feature in (house.drawing, house.talking, later):
        (hold,) = (await house.held(feature)).values()
        assert hold.rolls_back
    await release_hold(house.plane, "everything", house.order())
    assert await house.held(later) == {}
    await until(partial(house.is_over, "everything"))
    catalogue = await house.plane.catalogue()
    assert catalogue is not None
    assert hold_id(house.role, "everything") not in catalogue.holds


async def test_what_comes_under_a_hold_unasked_is_held_within_an_hour(
    house: House, env: WorkflowEnvironment
) -> None:
    await place_hold(house.plane, "everything", house.order())
    later = f"unasked-{house.number}"
    await house.declared(later)
    await env.sleep(3700)

    async def is_held() -> bool:
        return await house.held(later) != {}

    await until(is_held)
    await release_hold(house.plane, "everything", house.order())


async def test_placed_twice_it_is_one_hold_with_the_newer_reason(house: House) -> None:
    scope = f"feature/{house.drawing}"
    await place_hold(house.plane, scope, house.order("a letter"))
    await place_hold(house.plane, scope, house.order("a court order"))
    (hold,) = (await house.held(house.drawing)).values()
    assert hold.reason == "a court order"
    await release_hold(house.plane, scope, house.order())
    assert await house.held(house.drawing) == {}


async def test_two_scopes_of_one_role_hold_a_feature_until_both_are_released(
    house: House,
) -> None:
    scopes = (f"feature/{house.drawing}", f"model/model-{house.drawing}")
    for scope in scopes:
        await place_hold(house.plane, scope, house.order())
    await release_hold(house.plane, scopes[0], house.order())
    assert len(await house.held(house.drawing)) == 1
    await release_hold(house.plane, scopes[1], house.order())
    assert await house.held(house.drawing) == {}


async def test_nothing_is_held_that_nobody_declared(house: House) -> None:
    name = f"{house.drawing}x"
    with pytest.raises(Refused) as refusal:
        await place_hold(house.plane, f"feature/{name}", house.order())
    assert str(refusal.value) == (
        f'feature "{name}": nobody declared it. Did you mean "{house.drawing}"?'
    )


async def test_a_hold_stops_a_rollout_that_runs_and_takes_nothing_back(
    story: Story, house: House, given: Given, when: When, then: Then
) -> None:
    await given.rollout(["pro", "free"])
    await then.exposure_is("pro", "100%")
    await house.declared(story.feature)
    scope = f"feature/{story.feature}"
    await place_hold(house.plane, scope, house.order())
    await then.exposure_stays("free", "0%", over="20m")
    assert (await story.feature_state()).exposure == {"pro": 1.0}
    await release_hold(house.plane, scope, house.order())
    await when.passes("5m")
    await then.exposure_is("free", "100%")
