"""A stage is held against its checks while it bakes: looks, flaps, dry runs, a person's word."""

from datetime import timedelta
from typing import Final

import pytest

from tests.workflows.story import Given, Stage, Story, Then, When
from tidegate.checks import CheckSpec
from tidegate.messages.rollout import Answer, RolloutPhase, rollout_id
from tidegate.messages.steered import Waits
from tidegate.rules.verdict import Verdict

pytestmark = pytest.mark.asyncio(loop_scope="session")

PASS, FAIL, GAP = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
WAIT: Final = CheckSpec(name="wait", queue_wait_below=timedelta(seconds=2))
ASKED: Final = CheckSpec(name="looks-right", answer="design")


def watched(*checks: CheckSpec, bake: str = "5h") -> Stage:
    return Stage("pro", checks=checks, looks=5, bake=bake)


async def _answers(story: Story, *, passes: bool, role: str = "design", check: str = "") -> None:
    answer = Answer(
        by="dee", role=role, stage="pro", check=check or ASKED.name, passes=passes, reason=""
    )
    await story.plane.steer(rollout_id(story.rollout), "answer", answer)


async def test_a_check_that_flaps_does_not_abort_and_is_for_a_person_where_it_ends_so(
    story: Story, given: Given, when: When, then: Then
) -> None:
    given.verdicts(FAIL, FAIL, PASS, FAIL, FAIL)
    await given.rollout([watched(WAIT), "free"])
    await when.passes("6h")
    await then.it_waits_for(Waits.PERSON)
    told = [e.data["verdict"] for e in story.events("stage.checked", stage="pro")]
    assert told == ["fail", "pass", "fail"], "what stays the same is not told again"
    await when.promoted()
    await then.exposure_is("free", "100%")


async def test_a_check_that_flapped_and_passes_at_the_end_passes(
    given: Given, when: When, then: Then
) -> None:
    given.verdicts(FAIL, GAP, FAIL, FAIL, PASS)
    await given.rollout([watched(WAIT), "free"])
    await when.passes("5h10m")
    await then.exposure_is("free", "100%")


async def test_failures_in_a_row_take_the_stage_back_before_its_bake_is_over(
    story: Story, given: Given, when: When, then: Then
) -> None:
    given.verdicts(PASS, FAIL, FAIL, FAIL)
    await given.rollout([watched(WAIT)])
    await when.passes("4h10m")
    await then.it_ended(RolloutPhase.ABORTED)
    await then.exposure_is("pro", "0%")
    await then.happened("stage.failed", stage="pro", after="4h")
    assert story.events("stage.failed")[0].data["reason"] == "wait: as the test says"


async def test_a_dry_run_is_told_and_decides_nothing(
    story: Story, given: Given, when: When, then: Then
) -> None:
    given.verdicts(*[FAIL] * 5)
    await given.rollout([watched(WAIT.model_copy(update={"dry_run": True}))])
    await when.passes("6h")
    await then.it_ended(RolloutPhase.FINISHED)
    told = await then.told("stage.checked", stage="pro")
    assert (told.data["verdict"], told.data["dry_run"]) == ("fail", True)


async def test_a_person_s_no_ends_the_bake_at_once(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([watched(ASKED, bake="30d")])
    await then.it_waits_for(Waits.BAKE)
    await _answers(story, passes=False)
    await then.it_ended(RolloutPhase.ABORTED)
    await then.exposure_is("pro", "0%")
    failed = await then.told("stage.failed", stage="pro")
    assert failed.data["reason"] == "looks-right: design said that it fails"


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_person_s_yes_passes_whether_it_comes_before_the_end_or_after(
    story: Story, given: Given, when: When, then: Then, is_late: bool
) -> None:
    await given.rollout([watched(ASKED), "free"])
    await then.it_waits_for(Waits.BAKE)
    if is_late:
        await when.passes("6h")
        await then.it_waits_for(Waits.PERSON)
        inconclusive = await then.told("stage.inconclusive", stage="pro")
        assert inconclusive.data["reason"] == "looks-right: design has not answered"
    await _answers(story, passes=True)
    await when.passes("6h")
    await then.exposure_is("free", "100%")


async def test_only_that_role_answers_only_what_is_asked_and_once(
    story: Story, given: Given, then: Then
) -> None:
    await given.rollout([watched(ASKED, WAIT)])
    await then.it_waits_for(Waits.BAKE)
    await then.refused(
        _answers(story, passes=True, role="launch"),
        'check "looks-right": design answers it, not launch.',
    )
    await then.refused(
        _answers(story, passes=True, check="wait"),
        'stage "pro": no check "wait" asks a person. Those that do: looks-right.',
    )
    await _answers(story, passes=True)
    await then.refused(
        _answers(story, passes=False), 'check "looks-right": it is answered already.'
    )


async def test_a_pause_between_looks_moves_the_next_by_as_much(
    story: Story, given: Given, when: When, then: Then
) -> None:
    given.verdicts(*[FAIL] * 3)
    await given.rollout([watched(WAIT)])
    await when.passes("1h10m")
    await then.told("stage.checked", stage="pro")
    await when.paused()
    await when.passes("10d")
    await when.resumed()
    await when.passes("1h")
    await then.it_is(RolloutPhase.RUNNING)
    await when.passes("1h")
    await then.it_ended(RolloutPhase.ABORTED)
