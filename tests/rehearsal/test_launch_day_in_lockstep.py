"""Six hours of a launch day in lockstep: real workflows, rules, loops, Redis and record."""

import re
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from itertools import pairwise

import pytest
import pytest_asyncio

from rehearsal.lockstep import STEP_S
from scenarios.assertions import Evidence, examine
from tests.rehearsal.launch_day import ARRIVE_AT_S, Rehearsed, rehearse
from tests.rehearsal.skipped_time import servers

pytestmark = pytest.mark.scenario

MINUTE_S = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def day(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rehearsed]:
    folder = tmp_path_factory.mktemp("launch-day")
    async with servers(folder) as started:
        yield await rehearse(started, folder / "day")


@pytest.mark.parametrize(
    "holds",
    [
        "events-have-no-gap",
        {"paying-tiers-open-before": "free"},
        {"stage-waits-for-gpus": "free-25"},
        {"stage-is-told-a-range-or-unknown": "free-25"},
        {"opens-fully": ["pro", "plus", "team", "free"]},
        "no-paying-user-is-refused-by-a-gate",
        "stages-advance-when-the-plan-has-reached-them",
        "stages-advance-on-ready-replicas",
        "no-pool-books-more-gpus-than-are-installed",
    ],
    ids=str,
)
def test_what_must_hold_on_a_launch_day_holds(
    day: Rehearsed, holds: str | Mapping[str, str | list[str]]
) -> None:
    gaps = [str(gap) for gap in day.gaps]
    (finding,) = examine(Evidence(day.events, gaps, day.plan), [holds])
    assert finding.held, finding.seen


def test_every_source_counts_from_one_without_a_gap(day: Rehearsed) -> None:
    sequences: dict[str, list[int]] = {}
    for event in day.events:
        sequences.setdefault(event.source, []).append(event.sequence)
    assert {source: sorted(heard) for source, heard in sequences.items()} == {
        source: list(range(1, len(heard) + 1)) for source, heard in sequences.items()
    }
    told_by = {re.sub(r"/[0-9a-f]{8}$", "", source) for source in sequences}
    assert told_by == {
        "/budget/h100",
        "/catalogue",
        "/controllers/capacity",
        "/controllers/gate",
        "/feature/image",
        "/model/image-2",
        "/gateways/rehearsal",
        "/rollout/image-launch",
        "/supply/order-17",
        "/supply/order-18",
    }


def test_free_waits_for_the_order_and_opens_within_its_forecast(day: Rehearsed) -> None:
    first = day.of("stage.forecast", stage="free-25")[0]
    p50, p90 = (datetime.fromisoformat(str(first.data[key])) for key in ("p50", "p90"))
    # The order's own range, and the cold start's on top of it.
    assert day.after_s(p50) == pytest.approx((120 + 8) * MINUTE_S, abs=1.0)
    assert day.after_s(p90) == pytest.approx((160 + 16) * MINUTE_S, abs=1.0)
    (opened,) = day.of("stage.advanced", stage="free-25")
    assert p50 <= opened.at <= p90


def test_free_is_granted_its_gpus_as_soon_as_they_have_come(day: Rehearsed) -> None:
    arrived = day.of("supply.arrived")
    assert len(arrived) == 2
    for event, after_s in zip(arrived, ARRIVE_AT_S, strict=True):
        assert 0.0 <= day.after_s(event.at) - after_s <= STEP_S + 10.0
    (granted,) = (e for e in day.of("claim.granted") if str(e.data["claim"]).endswith("/free-25"))
    assert 0.0 <= (granted.at - arrived[0].at).total_seconds() < 1.0


def test_the_gate_sheds_free_under_load_and_opens_again(day: Rehearsed) -> None:
    (opened,) = day.of("stage.advanced", stage="free-100")
    tightened = [event for event in day.of("gate.tightened") if event.at > opened.at]
    assert tightened
    assert all(float(str(event.data["pressure"])) >= 1.0 for event in tightened)
    shed = day.of("admission.counted", tier="free")
    assert sum(int(str(event.data["refused_by_gate"])) for event in shed) > 1000
    assert day.of("gate.opened")[-1].at > max(tightened[-1].at, day.of("supply.arrived")[-1].at)


def test_no_paying_tier_ever_has_a_ceiling(day: Rehearsed) -> None:
    assert {tuple(ceilings) for ceilings in day.ceilings} == {("free",)}


def test_the_gate_moves_by_a_step_a_lag_and_never_jumps_open(day: Rehearsed) -> None:
    free = [ceilings["free"] for ceilings in day.ceilings]
    assert min(free) < 1.0
    moved = [(before, after) for before, after in pairwise(free) if before != after]
    assert max(after - before for before, after in moved) == pytest.approx(0.06)
    assert min(after - before for before, after in moved) == pytest.approx(-0.3)


async def test_the_same_hour_rehearsed_twice_is_the_same(
    day: Rehearsed, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("again")
    async with servers(folder) as started:
        again = await rehearse(started, folder / "day", until_s=70 * MINUTE_S)
    assert told_within(again, 69 * MINUTE_S) == told_within(day, 69 * MINUTE_S)
    assert again.ceilings == day.ceilings[: len(again.ceilings)]


def step_of(day: Rehearsed, at: datetime) -> int:
    return int((day.after_s(at) + 0.001) // STEP_S)


def told_within(day: Rehearsed, until_s: float) -> list[tuple[object, ...]]:
    """What each source told, in which step of the day, without the names that each run makes up.

    In steps, because the server's clock runs on, a few milliseconds, while workflows catch up.
    """

    def as_told(value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return step_of(day, datetime.fromisoformat(value))
        except ValueError:
            return re.sub(r"/[0-9a-f]{8}(?=/|$)", "", value)

    return sorted(
        (
            str(as_told(event.source)),
            event.sequence,
            step_of(day, event.at),
            event.type,
            event.subject,
            tuple(sorted((key, as_told(value)) for key, value in event.data.items())),
        )
        for event in day.events
        if day.after_s(event.at) < until_s and event.type != "admission.counted"
    )
