"""A feature: exposure that is set once an order, holds, and the history of both."""

from datetime import UTC, datetime

import pytest

from tests.workflows.story import Given, Story, Then
from tidegate.catalogue import FeatureSpec
from tidegate.errors import Refused
from tidegate.messages.feature import HISTORY_KEPT, ExposeOrder, HoldOrder, KillNote

pytestmark = pytest.mark.asyncio(loop_scope="session")


def _order(order_id: str, share: float, *tiers: str) -> ExposeOrder:
    return ExposeOrder(
        order_id=order_id, stage="s", tiers=tiers or ("pro",), share=share, reason="a test"
    )


async def test_an_order_done_twice_changes_nothing_and_is_answered_alike(
    story: Story, given: Given, then: Then
) -> None:
    await given.feature()
    order = _order("1", 0.5, "pro", "plus")
    first = await story.plane.ask_feature(story.feature, "expose", order)
    await story.plane.ask_feature(story.feature, "expose", _order("2", 1.0, "plus"))
    again = await story.plane.ask_feature(story.feature, "expose", order)
    assert first == again == {"pro": 0.0, "plus": 0.0}
    state = await story.feature_state()
    assert state.exposure == {"pro": 0.5, "plus": 1.0}
    assert len(state.history) == 3  # declared, and two orders
    await then.told("feature.exposed", times=3)


async def test_a_held_feature_narrows_and_never_widens(story: Story, given: Given) -> None:
    await given.feature()
    await story.plane.ask_feature(story.feature, "expose", _order("1", 0.5))
    hold = HoldOrder(by="lee", role="legal", reason="a review")
    await story.plane.ask_feature(story.feature, "hold", hold)
    since = (await story.feature_state()).hold
    assert since is not None
    with pytest.raises(Refused) as refusal:
        await story.plane.ask_feature(story.feature, "expose", _order("2", 0.6))
    assert str(refusal.value) == (
        f'feature "{story.feature}": held by legal since {since.since:%F %H:%M}: a review. '
        "legal must release it first."
    )
    await story.plane.ask_feature(story.feature, "expose", _order("3", 0.4))
    assert (await story.feature_state()).exposure == {"pro": 0.4}
    await story.plane.ask_feature(story.feature, "expose", _order("1", 0.5))  # done, so no matter
    assert (await story.feature_state()).exposure == {"pro": 0.4}


async def test_a_feature_is_held_until_every_role_that_holds_it_has_released_it(
    story: Story, given: Given
) -> None:
    await given.feature()
    ask = story.plane.ask_feature
    await ask(story.feature, "hold", HoldOrder(by="lee", role="legal", reason="a review"))
    await ask(story.feature, "hold", HoldOrder(by="sam", role="safety", reason="another"))
    await ask(story.feature, "release", HoldOrder(by="sam", role="safety"))
    with pytest.raises(Refused, match="legal must release it first"):
        await ask(story.feature, "expose", _order("1", 0.5))
    await ask(story.feature, "release", HoldOrder(by="lee", role="legal"))
    await ask(story.feature, "expose", _order("1", 0.5))


async def test_a_hold_that_a_plan_placed_is_released_by_its_role_alone(
    story: Story, given: Given
) -> None:
    await given.feature()
    ask = story.plane.ask_feature
    order = HoldOrder(by="lee", role="legal", reason="a review", placed_by="rollout/x")
    await ask(story.feature, "hold", order)
    with pytest.raises(Refused, match="only legal releases this hold"):
        await ask(story.feature, "release", order.model_copy(update={"role": "safety"}))


async def test_a_role_may_mend_the_reason_of_its_hold_and_releases_it_once(
    story: Story, given: Given
) -> None:
    await given.feature()
    ask = story.plane.ask_feature
    await ask(story.feature, "hold", HoldOrder(by="lee", role="legal", reason="a review"))
    await ask(story.feature, "hold", HoldOrder(by="kim", role="legal", reason="a longer review"))
    held = (await story.feature_state()).hold
    assert held is not None
    assert held.reason == "a longer review"
    await ask(story.feature, "release", HoldOrder(by="lee", role="legal"))
    await ask(story.feature, "release", HoldOrder(by="lee", role="legal"))
    whats = [entry.what for entry in (await story.feature_state()).history]
    assert whats == ["declared", "held by legal", "held by legal", "released by legal"]


async def test_a_hold_without_a_reason_is_refused(story: Story, given: Given) -> None:
    await given.feature()
    with pytest.raises(Refused, match=r'^hold: "reason" is missing\. Say why'):
        await story.plane.ask_feature(story.feature, "hold", HoldOrder(by="lee", role="legal"))


async def test_declaring_the_same_settings_again_is_no_news(
    story: Story, given: Given, then: Then
) -> None:
    await given.feature()
    await given.feature()
    await then.told("feature.declared")
    spec = FeatureSpec(pool=story.pool, surfaces=("api", "web"))
    await story.plane.declare_feature(story.feature, spec)
    assert (await story.feature_state()).spec == spec
    await then.told("feature.declared", times=2)


async def test_a_feature_remembers_its_last_transitions_and_no_more(
    story: Story, given: Given
) -> None:
    await given.feature()
    for number in range(HISTORY_KEPT + 5):
        order = _order(str(number), (number % 100) / 100)
        await story.plane.ask_feature(story.feature, "expose", order)
    state = await story.feature_state()
    assert len(state.history) == HISTORY_KEPT
    assert len(state.orders_done) == HISTORY_KEPT
    assert str(HISTORY_KEPT + 4) in state.orders_done
    assert "0" not in state.orders_done


async def test_asking_a_feature_that_nobody_declared_says_what_to_do(story: Story) -> None:
    with pytest.raises(Refused) as refusal:
        await story.plane.ask_feature("unheard-of", "expose", _order("1", 0.5))
    assert str(refusal.value) == (
        "feature/unheard-of: no such workflow is running. Apply its manifest first."
    )
    assert await story.plane.feature("unheard-of") is None


def _kill(version: int, *, is_lift: bool = False) -> KillNote:
    until = datetime(2026, 3, 4, 12, tzinfo=UTC)
    return KillNote(version=version, is_lift=is_lift, until=until, by="lee", reason="hands")


async def test_an_order_that_closed_it_is_remembered_and_told_once_and_leaves_exposure(
    story: Story, given: Given, then: Then
) -> None:
    await given.feature()
    await story.plane.ask_feature(story.feature, "expose", _order("1", 0.5))
    for version in (7, 7, 6, 8):
        note = _kill(version, is_lift=version == 8)
        await story.plane.ask_feature(story.feature, "note_kill", note)
    state = await story.feature_state()
    assert state.exposure == {"pro": 0.5}
    assert [entry.what for entry in state.history[-2:]] == [
        "closed for all tiers until 2026-03-04 12:00:00 UTC by lee",
        "reopened by lee",
    ]
    await then.told("feature.killed")
    await then.told("feature.kill_lifted")
