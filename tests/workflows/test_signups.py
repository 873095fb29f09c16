"""Sign-ups of a feature: suspended at once, reopened by cohorts, by a share, and for all."""

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata

from tests.embedded.until import until
from tests.workflows.story import Given, Story, Then
from tidegate.errors import Refused
from tidegate.messages.feature import HoldOrder, SignupsOrder, SignupsVerb, feature_id
from tidegate.snapshot import Signups
from workflows.visibility import STATE, WAITING_FOR

pytestmark = pytest.mark.asyncio(loop_scope="session")

SUSPEND = SignupsOrder(verb=SignupsVerb.SUSPEND, by="mara", reason="a surge")
SUSPENDED = Signups(state="suspended", reason="a surge")


def _reopen(*cohorts: str, share: float | None = None, reason: str = "it calms") -> SignupsOrder:
    return SignupsOrder(
        verb=SignupsVerb.REOPEN, by="mara", cohorts=cohorts, share=share, reason=reason
    )


async def _is_shown(story: Story, state: str, waiting_for: str) -> None:
    """Wait until this is to be seen in the list, which follows what is told."""
    handle = story.client.get_workflow_handle(feature_id(story.feature))

    async def holds() -> bool:
        shown = (await handle.describe()).typed_search_attributes
        return (shown.get(STATE), shown.get(WAITING_FOR)) == (state, waiting_for)

    await until(holds)


async def _details(story: Story) -> list[str]:
    """Return the paragraphs that the UI shows of the feature."""
    handle = story.client.get_workflow_handle(feature_id(story.feature))
    metadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    return str(metadata.current_details).split("\n\n")


async def test_sign_ups_are_suspended_reopened_in_steps_and_remembered(
    story: Story, given: Given, then: Then
) -> None:
    await given.feature()
    steps = [
        (SUSPEND, SUSPENDED),
        (_reopen("beta"), SUSPENDED.model_copy(update={"cohorts": ("beta",)})),
        (
            _reopen("staff", share=0.1),
            SUSPENDED.model_copy(update={"cohorts": ("beta", "staff"), "share": 0.1}),
        ),
        (_reopen(), Signups()),
    ]
    for order, expected in steps:
        assert await story.plane.set_signups(story.feature, order) == expected
        assert (await story.feature_state()).signups == expected
    history = (await story.feature_state()).history[1:]
    assert [(entry.what, entry.reason) for entry in history] == [
        ("sign-ups suspended by mara", "a surge"),
        ("sign-ups widened to cohort beta by mara", "it calms"),
        ("sign-ups widened to cohorts beta, staff and 10% of those who ask by mara", "it calms"),
        ("sign-ups reopened by mara", "it calms"),
    ]
    told = await then.told("feature.signups_suspended")
    assert told.data == {"feature": story.feature, "by": "mara", "reason": "a surge"}
    widened = await then.told("feature.signups_widened", times=2)
    assert (widened.data["cohorts"], widened.data["share"]) == ("beta, staff", 0.1)
    await then.told("feature.signups_reopened")


async def test_an_order_that_comes_again_is_answered_alike_and_is_no_news(
    story: Story, given: Given, then: Then
) -> None:
    await given.feature()
    for order in (SUSPEND, _reopen("beta", share=0.1), _reopen(share=1.0)):
        first = await story.plane.set_signups(story.feature, order)
        assert await story.plane.set_signups(story.feature, order) == first
    assert len((await story.feature_state()).history) == 4  # declared, and three orders
    for event_type in ("suspended", "widened", "reopened"):
        await then.told(f"feature.signups_{event_type}")


async def test_a_held_feature_lets_nobody_new_in_and_may_be_suspended(
    story: Story, given: Given
) -> None:
    await given.feature()
    hold = HoldOrder(by="lee", role="legal", reason="a review")
    await story.plane.ask_feature(story.feature, "hold", hold)
    await story.plane.set_signups(story.feature, SUSPEND)
    held = (await story.feature_state()).hold
    assert held is not None
    for order in (_reopen("beta"), _reopen(share=0.1), _reopen()):
        with pytest.raises(Refused) as refusal:
            await story.plane.set_signups(story.feature, order)
        assert str(refusal.value) == (
            f'feature "{story.feature}": held by legal since {held.since:%F %H:%M}: a review. '
            "legal must release it first."
        )
    assert (await story.feature_state()).signups == SUSPENDED
    await story.plane.ask_feature(story.feature, "release", HoldOrder(by="lee", role="legal"))
    await story.plane.set_signups(story.feature, _reopen("beta"))
    await story.plane.ask_feature(story.feature, "hold", hold)
    again = await story.plane.set_signups(story.feature, _reopen("beta"))  # done, so no matter
    assert again.cohorts == ("beta",)


async def test_what_makes_no_sense_is_refused_with_what_to_do_and_changes_nothing(
    story: Story, given: Given
) -> None:
    await given.feature()
    without_reason = SUSPEND.model_copy(update={"reason": ""})
    with pytest.raises(Refused, match=r"^reason: got nothing, expected why\. Say it;"):
        await story.plane.set_signups(story.feature, without_reason)
    with pytest.raises(Refused, match="sign-ups are open for all, expected them suspended"):
        await story.plane.set_signups(story.feature, _reopen("beta"))
    await story.plane.set_signups(story.feature, SUSPEND)
    half = await story.plane.set_signups(story.feature, _reopen(share=0.5))
    with pytest.raises(Refused, match=r"share: got 10%, expected at least 50%"):
        await story.plane.set_signups(story.feature, _reopen("beta", share=0.1))
    assert (await story.feature_state()).signups == half


async def test_ops_see_suspended_sign_ups_in_the_list_and_a_hold_before_them(
    story: Story, given: Given
) -> None:
    await given.feature()
    await story.plane.set_signups(story.feature, SUSPEND)
    await _is_shown(story, *("signups-suspended", "reopening of sign-ups"))
    await story.plane.set_signups(story.feature, _reopen("beta"))
    await _is_shown(story, *("signups-suspended", "reopening of sign-ups"))
    hold = HoldOrder(by="lee", role="legal", reason="a review")
    await story.plane.ask_feature(story.feature, "hold", hold)
    await _is_shown(story, *("held", "release by legal"))
    await story.plane.ask_feature(story.feature, "release", HoldOrder(by="lee", role="legal"))
    await story.plane.set_signups(story.feature, _reopen())
    await _is_shown(story, *("live", "nothing"))


async def test_the_temporal_ui_says_who_may_come_in_all_the_same(
    story: Story, given: Given
) -> None:
    await given.feature()
    await story.plane.set_signups(story.feature, SUSPEND)
    await story.plane.set_signups(story.feature, _reopen("beta"))
    exposed, signups, history = await _details(story)
    assert exposed == "Exposed to nobody"
    assert signups == "Sign-ups are **suspended but for cohort beta**: a surge"
    assert history.splitlines()[-1].endswith(" sign-ups widened to cohort beta by mara: it calms")
    await story.plane.set_signups(story.feature, _reopen())
    assert len(await _details(story)) == 2
