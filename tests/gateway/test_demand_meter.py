"""What is asked for and turned away, as rates over the last two seconds."""

import asyncio

import pytest

from gateway.demand_meter import PERIOD_S, DemandMeter, DemandPublisher
from gateway.tally import Tally
from tests.gateway.asking import NOBODY, entrance
from tests.tidegate.snapshots import NOW, gate, intent, snapshot
from tidegate.edges.redis import Redis, as_json
from tidegate.holding import SnapshotHolder
from tidegate.readings import DemandReading, TierDemand
from tidegate.rules.exposure import shed_place, threshold
from tidegate.rules.outcome import Code, Outcome
from tidegate.snapshot import GatePart, Snapshot


def outcome(code: Code = Code.ALLOWED, tier: str = "free") -> Outcome:
    return Outcome(
        allowed=code is Code.ALLOWED,
        code=code,
        reason="",
        feature="image",
        tier=tier,
        pool="image",
        version=1,
    )


class Metered:
    """A meter that is stepped by hand."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.meter = DemandMeter("gateway-1", self.tally, entrance().desk, taken_s=0.0)

    def count(self, times: int, code: Code = Code.ALLOWED, tier: str = "free") -> None:
        for _ in range(times):
            self.tally.count(outcome(code, tier), "ada", NOW)

    def tick(self, taken_s: float, held: Snapshot | None = None) -> DemandReading:
        return self.meter.tick(held or snapshot(), at=NOW + taken_s, taken_s=taken_s)


def test_admitted_shed_and_not_exposed_are_told_apart_by_tier() -> None:
    metered = Metered()
    metered.count(10)
    metered.count(6, Code.GATE_SHED)
    metered.count(4, Code.NOT_EXPOSED, "plus")
    free, plus = (metered.tick(2.0).demand["image"][tier] for tier in ("free", "plus"))
    assert (free.admitted_rps, free.refused_by_gate_rps, free.not_exposed_rps) == (5.0, 3.0, 0.0)
    assert (plus.admitted_rps, plus.refused_by_gate_rps, plus.not_exposed_rps) == (0.0, 0.0, 2.0)


def test_the_share_let_in_is_told_as_it_was_in_force_over_the_window() -> None:
    metered = Metered()
    half, whole = (snapshot(None, gate({"free": c})) for c in (0.5, 1.0))
    assert metered.tick(1.0, half).demand["image"]["free"].let_in == 0.5
    assert metered.tick(2.0, whole).demand["image"]["free"].let_in == 0.75
    assert metered.tick(3.0, whole).demand["image"]["pro"].let_in == 1.0


def test_a_gate_unheard_of_lets_in_the_safe_share() -> None:
    gone = gate({"free": 1.0}, safe_share=0.2, expires_at=NOW)
    told = Metered().tick(1.0, snapshot(None, gone)).demand["image"]["free"]
    assert told.let_in == 0.2


def test_those_spared_lately_are_counted_by_themselves_while_others_may_come_back() -> None:
    metered = Metered()
    users = [f"user-{n}" for n in range(1000)]

    def ask(ceiling: float, second: int) -> TierDemand:
        """Have everybody ask once, then tick; refused from the ceiling on."""
        at = NOW + second
        for user in users:
            is_in = shed_place("image", user, at) < threshold(ceiling)
            code = Code.ALLOWED if is_in else Code.GATE_SHED
            metered.tally.count(outcome(code), user, at)
        held = snapshot(None, gate({"free": ceiling}))
        return metered.meter.tick(held, at=at, taken_s=float(second)).demand["image"]["free"]

    ask(1.0, 1)
    narrowed = ask(0.4, 2)
    assert (narrowed.spared, narrowed.spared_rps) == (None, None), "nobody was counted by then"
    assert ask(0.8, 3).spared is None, "half of the window was not counted"
    told = ask(0.8, 4)
    assert told.spared == 0.4, "whoever was refused at 0.4 may be among those who ask at 0.8"
    assert told.spared_rps == pytest.approx(0.4 * 1000.0, rel=0.1), "each once"
    assert ask(0.1, 5).spared_rps == pytest.approx(0.4 * 1000.0, rel=0.1), "also those refused now"
    opened = [ask(1.0, second).spared for second in range(6, 26)]
    assert opened[1] == 0.1
    assert opened[-1] is None, "all of them have come back, or will not"
    assert metered.tally.spared_below == {}, "and counting costs nothing any more"


def test_a_pool_that_goes_while_it_is_narrowed_is_forgotten() -> None:
    metered = Metered()
    metered.tick(1.0, snapshot(None, gate({"free": 0.4})))
    assert set(metered.tally.spared_below) == {("image", "free")}
    metered.tick(2.0, snapshot(intent(features={}), gate({"free": 0.4})))
    assert metered.tally.spared_below == {}


def test_every_tier_is_there_and_a_true_zero_where_nobody_asked() -> None:
    reading = Metered().tick(1.0)
    assert set(reading.demand["image"]) == {"pro", "plus", "free"}
    assert reading.demand["image"]["pro"].admitted_rps == 0.0


def test_before_a_snapshot_nothing_is_said_rather_than_zero() -> None:
    reading = Metered().tick(1.0, Snapshot())
    assert (reading.demand, reading.seen, reading.gates) == ({}, {}, {})


def test_the_rate_is_of_the_last_two_seconds_only() -> None:
    metered = Metered()
    rates = []
    for second, count in enumerate([10, 10, 20, 0, 0, 0], start=1):
        metered.count(count)
        demand = metered.tick(second * 1.001).demand["image"]["free"]
        rates.append(demand.admitted_rps)
    assert rates == pytest.approx([10, 10, 15, 10, 0, 0], rel=0.01)


def test_a_tick_that_came_late_is_no_spike() -> None:
    metered = Metered()
    metered.tick(1.0)
    metered.count(60)
    assert metered.tick(7.0).demand["image"]["free"].admitted_rps == pytest.approx(10.0)


def test_the_snapshot_held_is_echoed_so_that_a_new_writer_can_take_it_up() -> None:
    shut = gate({"free": 0.25}, version=77)
    reading = Metered().tick(1.0, snapshot(intent(version=5), shut))
    assert reading.seen == {"intent": 5, "gate/image": 77}
    assert GatePart.model_validate_json(reading.gates["image"]) == shut
    assert reading.gates["image"] == as_json(shut)
    assert (reading.gateway, reading.at) == ("gateway-1", NOW + 1.0)


async def test_a_reading_that_cannot_be_published_is_dropped() -> None:
    tally = Tally()
    async with Redis(NOBODY) as redis:
        meter = DemandMeter("gateway-1", tally, entrance().desk, taken_s=0.0)
        publisher = DemandPublisher(redis, SnapshotHolder(), meter)
        running = asyncio.create_task(publisher.run())
        async with asyncio.timeout(10 * PERIOD_S):
            while publisher.dropped < 2:
                await asyncio.sleep(0.05)
        running.cancel()
