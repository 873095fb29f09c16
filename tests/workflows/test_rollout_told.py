"""What people tell a rollout on its way: skip a stage, watch it again, go on by another plan."""

from datetime import timedelta

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata

from tests.workflows.story import CHECK, Given, Stage, Story, Then, When
from tidegate.messages.rollout import RolloutPhase, rollout_id
from tidegate.messages.steered import Waits
from tidegate.rules.ledger import ClaimKind
from tidegate.rules.verdict import Verdict

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("waits", [Waits.DUE, Waits.APPROVAL, Waits.GPUS])
async def test_a_skipped_stage_stays_shut_and_gives_its_gpus_back(
    story: Story, given: Given, when: When, then: Then, waits: Waits
) -> None:
    await given.rollout([Stage("pro", starts_in="1h", approval="launch", reserve=8), "free"])
    if waits is not Waits.DUE:
        await when.passes("1h")
    if waits is Waits.GPUS:
        await when.approved("pro", role="launch")
    await then.it_waits_for(waits)
    await when.skipped(by="ann", reason="pro has it by contract")
    await then.exposure_is("free", "100%")
    await when.passes("30m")
    await then.it_ended(RolloutPhase.FINISHED)
    state = await story.feature_state()
    assert state.exposure == {"free": 1.0}
    assert state.notes["pro"].waits_for == (
        "a new rollout; ann skipped this: pro has it by contract"
    )
    assert (await story.budget_state()).ledger.of(ClaimKind.RESERVED) == ()
    told = await then.told("stage.skipped", stage="pro")
    assert (told.data["by"], told.data["reason"]) == ("ann", "pro has it by contract")


async def test_a_stage_that_is_skipped_while_it_bakes_stays_open_and_keeps_its_gpus(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", reserve=8, bake="30d", check=CHECK), "free"])
    await when.seen(installed=8, ready=8)
    await then.it_waits_for(Waits.BAKE)
    await when.skipped()
    await when.passes("30m")
    await then.it_ended(RolloutPhase.FINISHED)
    assert (await story.feature_state()).exposure == {"pro": 1.0, "free": 1.0}
    assert [c.gpus for c in (await story.budget_state()).ledger.of(ClaimKind.RESERVED)] == [8]
    assert story.events("stage.baked", stage="pro") == []


async def test_a_skip_passes_a_pause_and_the_next_stage_waits_for_its_end(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", starts_in="30d"), "free"])
    await when.paused()
    await when.skipped()
    await then.told("stage.skipped", stage="pro")
    await then.exposure_stays("free", "0%", over="1h")
    await when.resumed()
    await then.exposure_is("free", "100%")
    assert (await story.feature_state()).exposure == {"free": 1.0}


async def test_a_skip_needs_a_reason_and_comes_once_a_stage(
    story: Story, given: Given, when: When, then: Then
) -> None:
    refused = []

    async def skip_again() -> None:
        story.world.before.clear()
        await then.refused(when.skipped(), 'stage "pro": pm skips it already.')
        refused.append("again")

    await given.rollout([Stage("pro", starts_in="1h"), "free"])
    await then.refused(
        when.skipped(reason=""),
        'skip: "reason" is missing. Say why, for those who read it later.',
    )
    await then.it_waits_for(Waits.DUE)
    story.world.before["ask_feature"] = skip_again
    await when.skipped()
    await then.exposure_is("free", "100%")
    assert refused == ["again"]


async def test_what_could_not_be_read_is_watched_again_for_as_long(
    story: Story, given: Given, when: When, then: Then
) -> None:
    given.verdicts(Verdict.INCONCLUSIVE, Verdict.PASS)
    await given.rollout([Stage("pro", check=CHECK, bake="2h"), "free"])
    await then.it_waits_for(Waits.BAKE)
    await when.passes("3h")
    await then.it_waits_for(Waits.PERSON)
    await when.retried(by="ann")
    await then.it_waits_for(Waits.BAKE)
    await then.exposure_stays("free", "0%", over="1h50m")
    await when.passes("15m")
    await then.exposure_is("free", "100%")
    assert (await then.told("stage.retried", stage="pro")).data["by"] == "ann"


async def test_there_is_nothing_to_retry_while_no_check_waits(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", bake="1h")])
    await then.refused(
        when.retried(),
        f"rollout/{story.rollout}: no check waits for a person, so nothing to retry.",
    )


async def test_a_plan_changes_ahead_of_the_rollout_and_not_behind_it(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", bake="1h"), Stage("free", starts_in="1d")])
    await then.it_waits_for(Waits.BAKE)
    await then.refused(
        when.changed([Stage("pro", bake="5m"), "free"]),
        f'rollout/{story.rollout}: stages[0]: "pro" has opened, and stays as it is: '
        "bake: 1h to 5m. Abort the rollout, or add a stage behind it.",
    )
    await when.changed([Stage("pro", bake="1h"), "team", Stage("free", exposure="50%")])
    await when.passes("2h")
    await then.it_ended(RolloutPhase.FINISHED)
    assert (await story.feature_state()).exposure == {"pro": 1.0, "team": 1.0, "free": 0.5}
    lines = [event.data["change"] for event in story.events("plan.changed")]
    assert lines[0] == "+ stage team: tiers ['team'], bake 10m, looks 1"
    assert "~ stage free: exposure: none to 50%" in lines


async def test_a_stage_that_is_changed_while_it_waits_claims_and_is_approved_anew(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", approval="launch", reserve=16)])
    await when.approved("pro", role="launch")
    await then.it_waits_for(Waits.GPUS)
    [before] = (await story.budget_state()).ledger.of(ClaimKind.RESERVED)
    await when.seen(installed=8, ready=0)
    await when.changed([Stage("pro", approval="launch", reserve=8, bake="1h")])
    await then.it_waits_for(Waits.APPROVAL)
    assert (await story.budget_state()).ledger.of(ClaimKind.RESERVED) == ()
    await when.approved("pro", role="launch", by="bob")
    await then.it_waits_for(Waits.GPUS)
    # As by an attempt of the activity that nobody waits for any more.
    await story.plane.ask_budget(story.gpu_type, "release", before.id, None)
    [after] = (await story.budget_state()).ledger.of(ClaimKind.RESERVED)
    assert after.gpus == 8
    await when.seen(installed=8, ready=8)
    await then.exposure_is("pro", "100%")


async def test_a_stage_that_a_change_leaves_alone_keeps_its_place_in_the_queue(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", approval="launch", reserve=8), Stage("free")])
    await when.approved("pro", role="launch")
    await then.it_waits_for(Waits.GPUS)
    before = (await story.budget_state()).ledger.of(ClaimKind.RESERVED)
    await when.changed([Stage("pro", approval="launch", reserve=8), Stage("free", exposure="5%")])
    await then.told("plan.changed")
    await then.it_waits_for(Waits.GPUS)
    assert (await story.budget_state()).ledger.of(ClaimKind.RESERVED) == before
    await when.seen(installed=8, ready=8)
    await when.passes("30m")
    await then.it_ended(RolloutPhase.FINISHED)
    assert (await story.feature_state()).exposure == {"pro": 1.0, "free": 0.05}


async def test_a_change_while_a_stage_opens_is_refused_where_it_is_about_that_stage(
    story: Story, given: Given, when: When, then: Then
) -> None:
    refused = []

    async def change_it() -> None:
        story.world.before.clear()
        await then.refused(
            when.changed([Stage("pro", exposure="5%", bake="1h")]),
            f'rollout/{story.rollout}: stages[0]: "pro" has opened, and stays as it is: '
            "exposure: none to 5%. Abort the rollout, or add a stage behind it.",
        )
        refused.append("late")

    await given.feature()
    story.world.before["ask_feature"] = change_it
    await given.rollout([Stage("pro", bake="1h")])
    await then.exposure_is("pro", "100%")
    assert refused == ["late"]


async def test_the_ui_says_until_when_a_stage_waits_and_what_a_person_may_do(
    story: Story, given: Given, when: When, then: Then
) -> None:
    async def shown() -> str:
        handle = story.client.get_workflow_handle(rollout_id(story.rollout))
        told = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
        return str(told.current_details)

    await given.rollout([Stage("pro", starts_in="1d", approval="launch", bake="5d")])
    await then.it_waits_for(Waits.DUE)
    assert f"Until {story.began_at + timedelta(days=1):%F}" in await shown()
    await when.paused()
    assert f"`tidegate resume {story.rollout}`" in await shown()
    await when.passes("10d")
    await when.resumed()
    assert f"Until {story.began_at + timedelta(days=11):%F}" in await shown()
    await when.passes("1d")
    await then.it_waits_for(Waits.APPROVAL)
    assert f"`tidegate approve {story.rollout} pro --role launch`" in await shown()
    await when.approved("pro", role="launch")
    await then.it_waits_for(Waits.BAKE)
    assert f"Until {story.began_at + timedelta(days=16):%F}" in await shown()
    assert f"`tidegate pause {story.rollout}` stops it" in await shown()
