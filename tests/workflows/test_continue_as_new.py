"""A run whose history is long goes on in a new one: nothing is lost, reset or told twice.

On the real dev server, told to find a history long after a few dozen events.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from temporalio.client import Client

from embedded.ports import free_ports
from embedded.processes import Supervisor
from embedded.temporal import TemporalDevServer
from tests.embedded.until import until
from tests.workflows.story import CHECK, Given, Stage, Story, Then, When
from tests.workflows.world import KEYS, World, make_worker
from tidegate.catalogue import FeatureSpec, TierSpec
from tidegate.edges.temporal import connect
from tidegate.messages.budget import ClaimStatus, Reservation, budget_id
from tidegate.messages.catalogue import CATALOGUE_ID, Declaration
from tidegate.messages.feature import ExposeOrder, HoldOrder, feature_id
from tidegate.messages.hold import hold_id
from tidegate.messages.rollout import RolloutPhase, rollout_id
from tidegate.messages.steered import Waits
from tidegate.rules.verdict import Verdict

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]

_LONG_AFTER: Final = 50


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(world: World, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    folder: Path = tmp_path_factory.mktemp("dev-server")
    port, ui_port = free_ports(2)
    server = TemporalDevServer(port, ui_port, folder / "temporal.db")
    setting = f"limit.historyCount.suggestContinueAsNew={_LONG_AFTER}"
    argv = [*server.argv(), "--dynamic-config-value", setting]
    async with Supervisor(folder) as supervisor:
        await supervisor.start("temporal", argv, ready=server.is_ready, ready_within_s=30.0)
        plane = await connect(server.address, "default", KEYS)
        async with make_worker(plane.client, world):
            yield plane.client


@pytest_asyncio.fixture(loop_scope="session")
async def story(client: Client, world: World) -> AsyncIterator[Story]:
    story = Story(client, world, None, datetime.now(UTC))
    yield story
    await story.end()


async def _run_of(story: Story, workflow_id: str) -> str:
    return (await story.client.get_workflow_handle(workflow_id).describe()).run_id


async def _through_new_runs(
    story: Story, workflow_id: str, act: Callable[[], Awaitable[object]], runs: int = 1
) -> None:
    """Do the same thing until the workflow has gone on in so many new runs."""
    seen = {await _run_of(story, workflow_id)}
    async with asyncio.timeout(30):
        while len(seen) <= runs:
            await act()
            seen.add(await _run_of(story, workflow_id))


async def test_a_budget_keeps_its_ledger_its_owners_and_its_plan(
    story: Story, given: Given, when: When, then: Then
) -> None:
    arrivals = given.arrival(4, "1d", "2d", "soon"), given.arrival(8, "3d", "4d", "late")
    await given.rollout([Stage("pro", reserve=32)], *arrivals)
    await then.it_waits_for(Waits.GPUS)
    await when.seen(installed=8, ready=4, needed=2, sick=1)
    await when.seen(installed=10, ready=4, needed=2, sick=1)
    before = await story.budget_state()

    async def the_same_is_seen() -> None:
        await when.seen(installed=10, ready=4, needed=2, sick=1)

    await _through_new_runs(story, budget_id(story.gpu_type), the_same_is_seen, runs=2)
    after = await story.budget_state()
    made_anew = {"made_at": story.began_at}
    claims = (
        {key: claim.model_copy(update=made_anew) for key, claim in state.ledger.claims.items()}
        for state in (before, after)
    )
    assert next(claims) == next(claims)
    assert (after.arrived_gpus, after.owners, after.expected) == (2, before.owners, before.expected)
    assert (after.ledger.installed, after.ledger.ready) == (10, {story.pool: 4})
    await then.told("claim.made")
    await when.seen(installed=40, ready=40)
    await then.exposure_is("pro", "100%")


async def test_a_hold_goes_on_in_new_runs_and_is_lifted_whenever_it_is_released(
    story: Story, given: Given
) -> None:
    await given.feature()
    features = {story.feature: FeatureSpec(pool=story.pool)}
    await story.plane.declare(Declaration(by="ann", features=features))
    scope, role = f"feature/{story.feature}", f"legal-{story.number}"
    order = HoldOrder(by="lee", role=role, reason="a letter")
    hold = hold_id(role, scope)
    await story.plane.place_hold(scope, order)
    await _through_new_runs(story, hold, partial(story.plane.look_again, hold), runs=2)
    assert len((await story.feature_state()).holds) == 1

    # It is released just as its run has become long enough, and looks for the last time.
    handle = story.client.get_workflow_handle(hold)
    releasing: list[asyncio.Task[None]] = []

    def is_released() -> bool:
        return any(e.type == "hold.released" and e.subject == hold for e in story.world.recorded)

    async def release_when_long() -> None:
        length = (await handle.describe()).history_length or 0
        if length >= _LONG_AFTER and not releasing:
            releasing.append(asyncio.create_task(story.plane.release_hold(scope, order)))
            await until(is_released)

    story.world.after["find_features"] = release_when_long
    while not releasing:
        await story.plane.look_again(hold)
    await releasing[0]
    assert (await story.feature_state()).holds == {}
    await until(partial(story.is_over, hold))


async def test_no_update_is_lost_or_done_twice_while_runs_follow_one_another(
    story: Story, given: Given, when: When
) -> None:
    await given.budget()
    await when.seen(installed=100, ready=100)
    first = await _run_of(story, budget_id(story.gpu_type))
    in_flight = asyncio.Semaphore(6)

    async def reserve(number: int) -> ClaimStatus:
        wanted = Reservation(
            claim_id=f"claim-{number}",
            owner="nobody",
            pool=story.pool,
            gpus=1,
            lead_p50_s=0.0,
            lead_p90_s=0.0,
        )
        async with in_flight:
            return await story.plane.ask_budget(story.gpu_type, "reserve", wanted, ClaimStatus)

    answers = await asyncio.gather(*(reserve(number % 40) for number in range(60)))
    assert {answer.claim_id for answer in answers} == {f"claim-{n}" for n in range(40)}
    assert await _run_of(story, budget_id(story.gpu_type)) != first
    claims = (await story.budget_state()).ledger.claims
    assert sum(claim.gpus for claim in claims.values() if claim.id.startswith("claim-")) == 40
    await until(lambda: len(story.events("claim.granted")) >= 40)
    made = [event.data["claim"] for event in story.events("claim.made")]
    assert sorted(made, key=str) == sorted({f"claim-{n}" for n in range(40)})
    sequences = [event.sequence for event in story.events()]
    assert sequences == list(range(1, len(sequences) + 1))


async def test_a_feature_keeps_its_exposure_its_hold_its_sign_ups_and_what_it_has_done(
    story: Story, given: Given, when: When
) -> None:
    await given.feature()
    orders = [
        ExposeOrder(order_id=str(n), stage="s", tiers=("pro",), share=n / 10, reason="a test")
        for n in range(1, 6)
    ]
    for order in orders:
        await story.plane.ask_feature(story.feature, "expose", order)
    await when.signups_suspended()
    await when.signups_reopened("beta", share=0.1)
    hold = HoldOrder(by="lee", role="legal", reason="a review")
    await story.plane.ask_feature(story.feature, "hold", hold)
    before = await story.feature_state()
    assert before.signups.cohorts == ("beta",)

    async def an_order_comes_again() -> None:
        answer = await story.plane.ask_feature(story.feature, "expose", orders[2])
        assert answer == {"pro": 0.2}

    await _through_new_runs(story, feature_id(story.feature), an_order_comes_again)
    after = await story.feature_state()
    assert after.model_copy(update={"outbox": before.outbox}) == before
    assert after.outbox.sequence == 9


async def test_the_catalogue_keeps_what_was_declared(story: Story) -> None:
    declaration = Declaration(by="ann", tiers={"pro": TierSpec(rank=0), "free": TierSpec(rank=1)})
    version = await story.plane.declare(declaration)
    before = await story.plane.catalogue()
    assert before is not None

    async def the_same_is_declared() -> None:
        assert await story.plane.declare(declaration) == version

    await _through_new_runs(story, CATALOGUE_ID, the_same_is_declared)
    after = await story.plane.catalogue()
    assert after is not None
    assert after.declared == before.declared


async def test_a_rollout_goes_on_where_it_was_with_all_that_people_said(
    story: Story, given: Given, when: When, then: Then
) -> None:
    pro = Stage("pro", approval="launch", reserve=4, bake="0s", check=CHECK)
    free = Stage("free", approval="legal", bake="0s")
    await given.rollout([Stage("plus", bake="0s"), pro, free])
    given.verdicts(Verdict.INCONCLUSIVE, Verdict.FAIL)
    await then.it_waits_for(Waits.APPROVAL, stage="pro")
    await when.approved("free", role="legal", by="lee")
    await when.held()

    async def it_is_paused_and_resumed() -> None:
        await when.paused()
        await when.resumed()

    workflow_id = rollout_id(story.rollout)
    await _through_new_runs(story, workflow_id, it_is_paused_and_resumed)
    state = await story.state()
    assert state.hold is not None
    assert state.progress["free"].approved_by == "lee"
    assert state.stopped_at is not None
    await when.released()
    assert (await story.state()).shift > timedelta(seconds=0.1)
    await when.approved("pro", role="launch")
    await _through_new_runs(story, workflow_id, it_is_paused_and_resumed)
    await when.seen(installed=4, ready=4)
    await then.it_waits_for(Waits.PERSON)
    await _through_new_runs(story, workflow_id, it_is_paused_and_resumed)
    await then.it_waits_for(Waits.PERSON)
    await when.promoted()
    await then.it_ended(RolloutPhase.FINISHED)
    for event_type in ("stage.due", "stage.advanced", "stage.baked"):
        assert len(story.events(event_type)) == 3
    for event_type in ("stage.inconclusive", "claim.made", "claim.spent", "plan.held"):
        await then.told(event_type)
    sequences = [event.sequence for event in story.events() if "rollout" in event.source]
    assert sequences == list(range(1, len(sequences) + 1))


async def test_a_rollout_whose_hold_is_being_placed_goes_on_only_when_it_is(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", approval="launch")])
    await then.it_waits_for(Waits.APPROVAL)

    async def it_is_held_and_released() -> None:
        await asyncio.gather(when.held(), asyncio.sleep(0))
        assert (await story.feature_state()).hold is not None
        await when.released()
        assert (await story.feature_state()).hold is None

    await _through_new_runs(story, rollout_id(story.rollout), it_is_held_and_released)
    await when.approved("pro", role="launch")
    await then.exposure_is("pro", "100%")
