"""A stage opens only on GPUs that ready replicas cover, and says when they are expected."""

import pytest

from tests.embedded.until import until
from tests.workflows.story import LEAD_P50_S, LEAD_P90_S, Given, Stage, Story, Then, When
from tidegate.messages.steered import Waits
from tidegate.quantities import parse_duration

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_nobody_is_let_in_before_ready_replicas_cover_the_reservation(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", reserve=8)])
    await then.it_waits_for(Waits.GPUS)
    steps = [(0, 0, 0), (4, 4, 0), (8, 4, 0), (8, 7, 0), (16, 8, 1), (16, 15, 8)]
    for installed, ready, needed in steps:
        await when.seen(installed=installed, ready=ready, needed=needed)
        await then.exposure_stays("pro", "0%", over="1m")
    await when.seen(installed=16, ready=16, needed=8)
    await then.exposure_is("pro", "100%")
    advanced = await then.told("stage.advanced")
    assert advanced.data["reserve"] == 8
    assert advanced.data["ready_gpus"] == 16
    await then.told("claim.spent")


async def test_the_next_stage_needs_gpus_on_top_of_those_of_the_users_inside(
    given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", reserve=8), Stage("free", reserve=8)])
    await when.seen(installed=24, ready=8)
    await then.exposure_is("pro", "100%")
    await when.passes("10m")
    await then.it_waits_for(Waits.GPUS, stage="free")
    for ready, needed in [(15, 8), (16, 9), (23, 16)]:
        await when.seen(installed=24, ready=ready, needed=needed)
        await then.exposure_stays("free", "0%", over="1m")
    await when.seen(installed=24, ready=24, needed=16)
    await then.exposure_is("free", "100%")


async def test_a_stage_without_a_reservation_waits_for_no_gpus(given: Given, then: Then) -> None:
    await given.rollout(["pro"])
    await then.exposure_is("pro", "100%")


async def test_gpus_go_first_come_first_served_and_a_small_claim_does_not_overtake(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("large", reserve=16)])
    await then.it_waits_for(Waits.GPUS)
    await given.rollout([Stage("small", reserve=4)])
    await then.it_waits_for(Waits.GPUS)
    await when.seen(installed=8, ready=8)
    await then.exposure_stays("small", "0%", over="1h")
    await when.seen(installed=16, ready=16)
    await then.exposure_is("large", "100%")
    await then.exposure_stays("small", "0%", over="1h")
    await when.seen(installed=20, ready=20)
    await then.exposure_is("small", "100%")
    granted = [str(e.data["claim"]).rpartition("/")[2] for e in story.events("claim.granted")]
    assert granted == ["large", "small"]


async def test_without_dated_arrivals_the_forecast_is_unknown(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", reserve=8)])
    forecast = await then.told("stage.forecast")
    assert forecast.data["p50"] is None
    assert forecast.data["p90"] is None
    assert forecast.data["reason"] == "8 GPUs; nobody has counted what is installed"
    await when.seen(installed=4, ready=4)
    forecast = await then.told("stage.forecast", times=2)
    assert forecast.data["p50"] is None
    lacks = "8 GPUs: 4 of 4 are unclaimed, those inside need 0"
    assert forecast.data["reason"] == lacks

    async def noted() -> bool:
        return (await story.feature_state()).notes["pro"].waits_for == lacks

    await until(noted)
    assert (await story.feature_state()).notes["pro"].opens is None


async def test_dated_arrivals_give_a_range_and_the_cold_start_is_added(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", reserve=8)], given.arrival(8, "10d", "20d"))
    await when.seen(installed=4, ready=4)
    await then.it_waits_for(Waits.GPUS)

    async def forecast_is(p50: str, p90: str) -> None:
        async def noted() -> bool:
            note = (await story.feature_state()).notes.get("pro")
            if note is None or note.opens is None:
                return False
            soonest = (note.opens.p50 - story.began_at).total_seconds() - LEAD_P50_S
            by = (note.opens.p90 - story.began_at).total_seconds() - LEAD_P90_S
            wanted = (parse_duration(p50).total_seconds(), parse_duration(p90).total_seconds())
            return (soonest, by) == wanted

        await until(noted)

    await forecast_is("10d", "20d")
    await given.budget(given.arrival(8, "15d", "40d"))
    await forecast_is("15d", "40d")
    await given.budget(given.arrival(2, "1d", "2d", "few"), given.arrival(8, "15d", "40d"))
    await forecast_is("15d", "40d")
    await when.seen(installed=6, ready=6)  # the few have come
    await forecast_is("15d", "40d")
    await when.seen(installed=7, ready=7)  # and one of the eight: the seven others are enough
    await forecast_is("15d", "40d")
    for name in ("few", "order"):
        await story.plane.ask_budget(story.gpu_type, "expect_no_more", name, None)
    forecast = await then.told("stage.forecast", times=len(story.events("stage.forecast")))
    await until(lambda: story.events("stage.forecast")[-1].data["p50"] is None)
    assert forecast.data["p50"] is not None


async def test_gpus_that_came_are_no_longer_expected(
    story: Story, given: Given, when: When, then: Then
) -> None:
    soon, late = given.arrival(4, "1d", "2d", "soon"), given.arrival(8, "9d", "10d", "late")
    await given.rollout([Stage("pro", reserve=16)], soon, late)
    await when.seen(installed=4, ready=4)
    assert await _arriving(story) == {"soon": 4, "late": 8}
    await when.seen(installed=7, ready=7)
    assert await _arriving(story) == {"soon": 1, "late": 8}
    await when.seen(installed=10, ready=10)
    assert await _arriving(story) == {"late": 6}
    assert (await then.told("supply.arrived", times=2)).data["gpus"] == 3


async def test_a_node_that_reboots_is_no_arrival(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", reserve=16)], given.arrival(8, "9d", "10d", "late"))
    await when.seen(installed=8, ready=8)
    await when.seen(installed=0, ready=0)
    assert await _arriving(story) == {"late": 8}
    await when.seen(installed=8, ready=8)
    assert await _arriving(story) == {"late": 8}
    await then.told("supply.lost")
    await then.told("supply.arrived")


async def test_an_arrival_that_is_overdue_moves_the_forecast_without_telling_it_all_the_time(
    story: Story, given: Given, when: When, then: Then
) -> None:
    await given.rollout([Stage("pro", reserve=8)], given.arrival(8, "1d", "11d"))
    await when.seen(installed=4, ready=4)
    await then.it_waits_for(Waits.GPUS)
    await when.passes("25h")
    for _ in range(10):
        await when.seen(installed=4, ready=3)
        await when.seen(installed=4, ready=4)
        await when.passes("1m")
    assert len(story.events("stage.forecast")) == 1
    for _ in range(8):
        await when.passes("1d")
        await when.seen(installed=4, ready=4)
    await when.passes("1s")
    assert 1 < len(story.events("stage.forecast")) <= 8
    await when.passes("3d")
    await when.seen(installed=4, ready=4)
    await until(lambda: story.events("stage.forecast")[-1].data["p50"] is None)


async def test_readiness_lost_just_before_opening_makes_the_stage_wait_again(
    story: Story, given: Given, when: When, then: Then
) -> None:
    async def lose_it() -> None:
        story.world.before.clear()
        await when.seen(installed=8, ready=7)
        await story.budget_state()

    await given.rollout([Stage("pro", reserve=8)])
    story.world.before["spend"] = lose_it
    await when.seen(installed=8, ready=8)
    await until(lambda: not story.world.before)
    await then.exposure_stays("pro", "0%", over="1h")
    await then.it_waits_for(Waits.GPUS)
    assert story.events("claim.spent") == []
    await when.seen(installed=8, ready=8)
    await then.exposure_is("pro", "100%")


async def test_readiness_lost_and_regained_around_the_opening_does_not_strand_the_stage(
    story: Story, given: Given, when: When, then: Then
) -> None:
    async def lose_it() -> None:
        del story.world.before["spend"]
        await when.seen(installed=8, ready=7)

    await given.rollout([Stage("pro", reserve=8)])
    story.world.before["spend"] = lose_it
    await when.seen(installed=8, ready=8)
    await until(lambda: "spend" not in story.world.before)
    await when.seen(installed=8, ready=8)
    await then.exposure_is("pro", "100%")


async def test_what_the_budget_grants_before_the_reservation_is_answered_is_not_missed(
    story: Story, given: Given, when: When, then: Then
) -> None:
    async def grant_it() -> None:
        story.world.after.clear()
        await when.seen(installed=8, ready=8)
        await then.told("claim.granted")
        await story.state()  # the rollout has heard of it, and still waits for the answer

    story.world.after["reserve"] = grant_it
    await given.rollout([Stage("pro", reserve=8)])
    await then.exposure_is("pro", "100%")


async def _arriving(story: Story) -> dict[str, int]:
    claims = (await story.budget_state()).ledger.claims
    return {
        claim_id.removeprefix("arriving/"): claim.gpus
        for claim_id, claim in claims.items()
        if claim_id.startswith("arriving/")
    }
