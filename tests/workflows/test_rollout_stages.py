"""Stages open in their order, each when it is due, approved, backed by ready replicas."""

import pytest

from tests.workflows.story import CHECK, Given, Stage, Story, Then, When
from tidegate.audience import Segment
from tidegate.messages.rollout import RolloutPhase
from tidegate.messages.steered import Waits
from tidegate.rules.verdict import Verdict

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_stage_opens_a_surface_or_a_region_and_takes_that_part_back_alone(
    story: Story, given: Given, when: When, then: Then
) -> None:
    europe, chat = Segment(regions=("eu",)), Segment(surfaces=("chat",))
    stages = [
        Stage("europe", tiers=("free",), only=europe),
        Stage("half", tiers=("free",), exposure="50%"),
        Stage("chat", tiers=("free",), only=chat, bake="1d"),
    ]
    await given.rollout(stages)
    await when.passes("25m")
    await then.told("stage.advanced", stage="chat")
    state = await story.feature_state()
    assert [str(o) for o in state.openings] == [
        "free 100% on regions eu",
        "free 100% on surfaces chat",
    ]
    assert state.exposure == {"free": 0.5}
    await when.aborted()
    await then.it_ended(RolloutPhase.ABORTED)
    state = await story.feature_state()
    assert [str(o) for o in state.openings] == ["free 100% on regions eu"]
    assert state.exposure == {"free": 0.5}
    assert [e.data["segment"] for e in story.events("feature.exposed")] == [
        "regions eu",
        "",
        "surfaces chat",
        "surfaces chat",
    ]


async def test_a_stage_is_due_then_approved_then_backed_then_exposed_then_baked(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", starts_in="1h", approval="launch", reserve=8, bake="2h")])
    await then.it_waits_for(Waits.DUE)
    await when.passes("1h")
    await then.it_waits_for(Waits.APPROVAL)
    await when.passes("1h")
    await when.approved("pro", role="launch")
    await then.it_waits_for(Waits.GPUS)
    await when.passes("1h")
    await then.exposure_is("pro", "0%")
    await when.seen(installed=8, ready=8)
    await then.exposure_is("pro", "100%")
    await then.it_waits_for(Waits.BAKE)
    await when.passes("2h")
    await then.it_ended(RolloutPhase.FINISHED)
    assert story.types(stage="pro") == [
        "stage.due",
        "stage.approved",
        "stage.waiting",
        "stage.forecast",
        "stage.advanced",
        "stage.baked",
    ]
    await then.happened("stage.due", after="1h")
    await then.happened("stage.approved", after="2h")
    await then.happened("stage.advanced", after="3h")
    await then.happened("stage.baked", after="5h")


async def test_stages_open_one_after_the_other_and_a_tier_in_steps(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout(
        [
            Stage("pro", bake="1h"),
            Stage("free-some", tiers=("free",), exposure="2.5%", bake="1h"),
            Stage("free-all", tiers=("free",), bake="1h"),
        ]
    )
    await then.it_waits_for(Waits.BAKE, stage="pro")
    await then.exposure_stays("free", "0%", over="50m")
    await when.passes("11m")
    await then.it_waits_for(Waits.BAKE, stage="free-some")
    await then.exposure_stays("free", "2.5%", over="50m")
    await when.passes("11m")
    await then.it_waits_for(Waits.BAKE, stage="free-all")
    await then.exposure_is("free", "100%")
    await when.passes("1h")
    await then.it_ended(RolloutPhase.FINISHED)
    advanced = [event.data["stage"] for event in story.events("stage.advanced")]
    assert advanced == ["pro", "free-some", "free-all"]


async def test_a_stage_that_starts_at_an_instant_opens_no_earlier_though_all_else_is_ready(
    given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", starts_in="3d", approval="launch", reserve=8)])
    await when.approved("pro", role="launch")
    await when.seen(installed=8, ready=8)
    await then.exposure_stays("pro", "0%", over="71h")
    await when.passes("1h")
    await then.exposure_is("pro", "100%")
    await then.happened("stage.advanced", stage="pro", after="3d")


async def test_an_overdue_stage_never_skips_its_approval(
    given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", bake="2d"), Stage("free", starts_in="1h", approval="legal")])
    await when.passes("3d")
    await then.it_waits_for(Waits.APPROVAL, stage="free")
    await then.exposure_stays("free", "0%", over="30d")
    await when.approved("free", role="legal")
    await then.exposure_is("free", "100%")


async def test_a_check_that_passes_lets_the_next_stage_open(
    given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", check=CHECK), "free"])
    given.verdicts(Verdict.PASS)
    await when.passes("10m")
    await then.exposure_is("free", "100%")


async def test_a_failing_check_takes_its_stage_back_and_ends_the_rollout(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout(["plus", Stage("pro", reserve=4, check=CHECK), "free"])
    given.verdicts(Verdict.FAIL)
    await when.seen(installed=4, ready=4)
    await when.passes("30m")
    state = await then.it_ended(RolloutPhase.ABORTED)
    assert state.progress["pro"].verdict is Verdict.FAIL
    await then.exposure_is("plus", "100%")
    await then.exposure_is("pro", "0%")
    await then.exposure_is("free", "0%")
    assert story.types()[-2:] == ["stage.failed", "rollout.aborted"]
    assert (await story.budget_state()).ledger.claims.keys() == {f"use/{story.pool}"}


async def test_an_inconclusive_check_neither_advances_nor_aborts_until_a_person_promotes(
    given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", check=CHECK), "free"])
    given.verdicts(Verdict.INCONCLUSIVE, Verdict.PASS)
    await when.passes("10m")
    await then.it_waits_for(Waits.PERSON)
    await then.exposure_stays("pro", "100%", over="90d")
    await then.exposure_is("free", "0%")
    await when.promoted()
    await then.exposure_is("free", "100%")
    await then.told("stage.inconclusive", stage="pro")
    assert (await then.told("stage.promoted", stage="pro")).data["by"] == "pm"


async def test_promoting_is_refused_where_no_check_waits_for_a_person(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", check=CHECK), "free"])
    given.verdicts(Verdict.INCONCLUSIVE)
    no = f"rollout/{story.rollout}: no check waits for a person, so nothing to promote."
    await then.refused(when.promoted(), no)
    await when.passes("10m")
    await then.it_waits_for(Waits.PERSON)
    await when.paused()
    await when.promoted()
    await then.refused(when.promoted(), no)
    await when.resumed()
    await then.exposure_is("free", "100%")
    await then.told("stage.promoted")


async def test_an_inconclusive_stage_can_be_aborted_instead(
    given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", check=CHECK), "free"])
    given.verdicts(Verdict.INCONCLUSIVE)
    await when.passes("10m")
    await then.it_waits_for(Waits.PERSON)
    await when.aborted()
    await then.it_ended(RolloutPhase.ABORTED)
    await then.exposure_is("pro", "0%")
