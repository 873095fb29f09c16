"""Simulated traffic: shares of rates that come to the same as deciding request by request."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehearsal.traffic import NOBODY, Counted, SimulatedGateway, shares
from tests.tidegate.snapshots import NOW, feature, gate, instants, intent, snapshot, snapshots
from tidegate.demand import Demand, Launch
from tidegate.rules.decision import Decider
from tidegate.rules.outcome import Code
from tidegate.snapshot import Snapshot, gate_part

USERS = [f"user-{number}" for number in range(3000)]
STEP_S = 29.0
DEMAND = Demand(forecast_rps=10.0, tiers={"pro": 0.25, "plus": 0.25, "free": 0.5})


def within_chance(share: float) -> float:
    """Six standard deviations of a share counted over all users."""
    return 6.0 * math.sqrt(max(share * (1.0 - share), 1e-4) / len(USERS))


@settings(max_examples=60, deadline=None)
@given(held=snapshots(), now=instants, data=st.data())
def test_shares_come_to_the_same_as_deciding_for_many_users(
    held: Snapshot, now: float, data: st.DataObject
) -> None:
    assert held.intent is not None
    tier = data.draw(st.sampled_from(sorted(held.intent.tiers)))
    decider = Decider(held)
    codes = [decider.decide("image", user, tier, "api", now).code for user in USERS]
    answered = shares(decider, "image", tier, now)
    for share, code in (
        (answered.admitted, Code.ALLOWED),
        (answered.refused_by_gate, Code.GATE_SHED),
        (answered.not_exposed, Code.NOT_EXPOSED),
    ):
        counted = codes.count(code) / len(USERS)
        assert counted == pytest.approx(share, abs=within_chance(share))


@given(held=snapshots(), now=instants)
def test_every_request_is_answered_once_unless_the_feature_is_closed(
    held: Snapshot, now: float
) -> None:
    assert held.intent is not None
    decider = Decider(held)
    for tier in held.intent.tiers:
        answered = shares(decider, "image", tier, now)
        if answered != NOBODY:
            whole = answered.admitted + answered.refused_by_gate + answered.not_exposed
            assert whole == pytest.approx(1.0)


def test_a_feature_or_tier_that_nobody_published_counts_for_nobody() -> None:
    decider = Decider(snapshot())
    assert shares(decider, "video", "pro", NOW) == NOBODY
    assert shares(decider, "image", "team", NOW) == NOBODY


def gateway(held: Snapshot | None, demand: Demand = DEMAND) -> SimulatedGateway:
    made = SimulatedGateway("one", {"image": demand}, started_at=NOW - 100.0)
    if held is not None:
        made.take(held)
    return made


def test_before_anything_is_published_nobody_is_admitted_and_nothing_is_read() -> None:
    quiet = gateway(None)
    assert quiet.flow(NOW, STEP_S) == {}
    assert quiet.reading(NOW).demand == {}


def test_the_free_tier_is_shed_down_to_its_ceiling_and_the_paying_ones_are_not() -> None:
    shed = gateway(snapshot(intent(), gate({"free": 0.4}, at=NOW)))
    assert shed.flow(NOW + STEP_S, STEP_S) == {"image": pytest.approx(2.5 + 2.5 + 5.0 * 0.4)}
    read = shed.reading(NOW + STEP_S).demand["image"]
    assert read["free"].refused_by_gate_rps == pytest.approx(3.0)
    assert [read[tier].refused_by_gate_rps for tier in ("pro", "plus")] == [0.0, 0.0]


def test_a_step_is_decided_by_what_was_published_at_its_beginning() -> None:
    # The gate lives for less than a step; a real loop would have renewed it within.
    renewed = gateway(snapshot(intent(), gate({"free": 1.0}, at=NOW, expires_at=NOW + 10.0)))
    assert renewed.flow(NOW + STEP_S, STEP_S) == {"image": pytest.approx(10.0)}
    assert renewed.flow(NOW + 2 * STEP_S, STEP_S) == {"image": pytest.approx(5.0 + 5.0 * 0.3)}


def test_who_is_not_exposed_is_counted_apart() -> None:
    half = intent({"image": feature(exposure={"pro": 1.0, "free": 0.25})})
    seen = gateway(snapshot(half))
    seen.flow(NOW, STEP_S)
    read = seen.reading(NOW).demand["image"]
    assert {tier: demand.not_exposed_rps for tier, demand in read.items()} == {
        "pro": 0.0,
        "plus": pytest.approx(2.5),
        "free": pytest.approx(3.75),
    }


def test_an_opening_within_a_step_counts_for_its_part_of_it() -> None:
    launch = Launch(at_s=100.0 - STEP_S / 2.0, factor=3.0)
    demand = Demand(forecast_rps=10.0, tiers=DEMAND.tiers, launches=(launch,))
    assert gateway(snapshot(), demand).flow(NOW, STEP_S) == {"image": pytest.approx(20.0)}


def test_a_reading_echoes_what_is_held_for_writers_that_start_anew() -> None:
    read = gateway(snapshot()).reading(NOW)
    assert read.at == NOW
    assert read.seen == {"intent": 10, gate_part("image"): 11}
    assert '"pool": "image"' in read.gates["image"]


def test_parts_that_are_lost_stay_as_they_were() -> None:
    keeping = gateway(snapshot(intent(), gate({"free": 0.0})))
    keeping.take(Snapshot())
    assert keeping.flow(NOW, STEP_S) == {"image": pytest.approx(5.0)}


def test_requests_are_counted_whole_by_pool_and_tier() -> None:
    counting = gateway(snapshot())
    counting.flow(NOW, STEP_S)
    counting.flow(NOW + STEP_S, STEP_S)
    assert counting.counted["image", "free"].whole() == Counted(admitted=290)
    assert counting.counted["image", "pro"].whole() == Counted(admitted=145)
