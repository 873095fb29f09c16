"""From many readings to one: what is missing is never zero, and what is silent is not counted."""

import itertools
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.readings import (
    DemandReading,
    EngineReading,
    Freshness,
    GpuReading,
    InstanceReading,
    NodeReading,
    Reading,
    TierDemand,
)
from tidegate.rules import measures

NOW = 1_772_000_000.0
LIMIT_S = 5.0
GONE_S = 10 * LIMIT_S
NUMBERS = itertools.count()


def engine(pool: str = "image", **read: float | None) -> EngineReading:
    return msgspec.convert({"pool": pool, "replica": f"r-{next(NUMBERS)}", **read}, EngineReading)


def node(*engines: EngineReading, age_s: float = 0.0, **more: object) -> NodeReading:
    fields = {"node": f"n{age_s}", "at": NOW - age_s, "engines": engines, **more}
    return msgspec.convert(fields, NodeReading)


def gateway(
    admitted: float = 0.0, refused: float = 0.0, *, age_s: float = 0.0, pool: str = "image"
) -> DemandReading:
    tier = TierDemand(admitted_rps=admitted, refused_by_gate_rps=refused, not_exposed_rps=99.0)
    return DemandReading(gateway="g", at=NOW - age_s, demand={pool: {"free": tier, "pro": tier}})


def wait(*nodes: NodeReading) -> Reading:
    return measures.queue_wait(nodes, "image", now=NOW, limit_s=LIMIT_S)


def offered(*gateways: DemandReading) -> Reading:
    return measures.demand_rps(gateways, "image", measures.offered, now=NOW, limit_s=LIMIT_S)


def load(nodes: list[NodeReading], *gateways: DemandReading) -> Reading:
    admitted = measures.demand_rps(gateways, "image", measures.admitted, now=NOW, limit_s=LIMIT_S)
    serving = measures.serving_replicas(nodes, "image", now=NOW, limit_s=LIMIT_S)
    return measures.load(admitted, 10.0 * serving)


optional = st.none() | st.floats(0.0, 100.0)
engines = st.builds(
    EngineReading,
    pool=st.sampled_from(["image", "chat"]),
    replica=st.just("r"),
    running=optional,
    waiting=optional,
    kv_cache_use=optional,
    queue_wait_s=optional,
)
nodes = st.lists(
    st.builds(
        NodeReading,
        node=st.just("n"),
        at=st.floats(NOW - 2 * GONE_S, NOW),
        engines=st.lists(engines, max_size=4).map(tuple),
    ),
    max_size=4,
)


def _wait_of(e: EngineReading) -> float | None:
    return 0.0 if e.queue_wait_s is None and e.waiting == 0.0 else e.queue_wait_s


MEANS = {
    "queue_wait": (measures.queue_wait, _wait_of),
    "kv_cache_use": (measures.kv_cache_use, lambda e: e.kv_cache_use),
}


@pytest.mark.parametrize("name", MEANS)
@given(read=nodes)
def test_a_mean_is_of_what_was_read_and_absent_where_nothing_was(
    name: str, read: list[NodeReading]
) -> None:
    measure, value_of = MEANS[name]
    reading = measure(read, "image", now=NOW, limit_s=LIMIT_S)
    heard = [n for n in read if NOW - n.at <= GONE_S]
    values = [
        (NOW - n.at, value)
        for n in heard
        for e in n.engines
        if e.pool == "image" and (value := value_of(e)) is not None
    ]
    if not values:
        assert reading == Reading(name, None, None, LIMIT_S)
        assert reading.freshness is Freshness.ABSENT
        return
    assert reading.value == pytest.approx(sum(v for _, v in values) / len(values))
    assert reading.age_s == max(age_s for age_s, _ in values)


def test_a_replica_that_started_nothing_waits_no_time_only_where_nobody_queues() -> None:
    assert wait(node(engine(waiting=0.0))).value == 0.0
    assert wait(node(engine(waiting=3.0))).value is None
    assert wait(node(engine())).value is None
    assert wait(node(engine(waiting=0.0, queue_wait_s=2.0))).value == 2.0


def version(number: str, **read: float | None) -> EngineReading:
    told = {"model": "chat", "version": number, "replica": "one"}
    return msgspec.structs.replace(engine("image", **read), **told)


def test_a_full_version_is_not_hidden_by_the_mean_of_all() -> None:
    nodes = node(version("1", queue_wait_s=0.2), version("2", queue_wait_s=4.0))
    assert wait(nodes).value == 4.0
    assert load(
        [node(version("1", waiting=1.0), version("2", waiting=0.0))], gateway(5.0)
    ).value == (10.0 / 10.0), "both are one replica"


def test_the_oldest_reading_decides_the_age() -> None:
    reading = wait(node(engine(queue_wait_s=1.0)), node(engine(queue_wait_s=3.0), age_s=6.0))
    assert (reading.value, reading.age_s) == (2.0, 6.0)
    assert reading.freshness is Freshness.STALE


def test_a_node_that_was_silent_for_long_has_gone_and_holds_nothing_up() -> None:
    alive = node(engine(queue_wait_s=1.0, waiting=2.0))
    gone = node(engine(queue_wait_s=9.0, waiting=9.0), age_s=GONE_S + 1.0)
    assert wait(alive, gone) == wait(alive)
    assert wait(gone).freshness is Freshness.ABSENT
    waiting = measures.waiting_requests([alive, gone], "image", now=NOW, limit_s=LIMIT_S)
    assert (waiting.value, waiting.age_s) == (2.0, 0.0)


def test_waiting_requests_add_up_over_the_replicas_that_tell_them() -> None:
    read = [node(engine(waiting=2.0), engine(waiting=5.0), engine(), engine("chat", waiting=7.0))]
    waiting = measures.waiting_requests(read, "image", now=NOW, limit_s=LIMIT_S)
    assert waiting.value == 7.0
    none = measures.waiting_requests([node(engine())], "image", now=NOW, limit_s=LIMIT_S)
    assert none.freshness is Freshness.ABSENT


def test_demand_adds_up_over_gateways_and_tiers_and_counts_what_the_gate_refused() -> None:
    reading = offered(gateway(1.0, 2.0), gateway(10.0, 0.5, age_s=3.0))
    assert (reading.value, reading.age_s) == (27.0, 3.0)
    admitted = measures.demand_rps(
        [gateway(1.0, 2.0)], "image", measures.admitted, now=NOW, limit_s=LIMIT_S
    )
    assert admitted.value == 2.0


def test_demand_is_absent_without_a_gateway_and_zero_where_one_saw_none() -> None:
    assert offered().freshness is Freshness.ABSENT
    assert offered(gateway(5.0, pool="chat")).value == 0.0


def test_a_gateway_that_was_silent_for_long_does_not_count() -> None:
    silent = gateway(100.0, age_s=GONE_S + 1.0)
    assert offered(gateway(1.0), silent) == offered(gateway(1.0))
    assert offered(silent).freshness is Freshness.ABSENT
    lately = gateway(100.0, age_s=GONE_S - 1.0)
    assert offered(gateway(1.0), lately).freshness is Freshness.STALE


def test_load_is_what_is_admitted_over_what_the_serving_replicas_can_do() -> None:
    read = [node(engine(running=1.0), engine(running=0.0), engine(), engine("chat", running=1.0))]
    reading = load(read, gateway(admitted=4.0, refused=50.0))
    assert reading == Reading("demand", 8.0 / 20.0, 0.0, LIMIT_S)


def test_load_is_absent_when_nothing_serves_or_nobody_tells_the_demand() -> None:
    serving = [node(engine(running=1.0))]
    for reading in (
        load([], gateway(5.0)),
        load([node(engine())], gateway(5.0)),
        load(serving),
        load(serving, gateway(5.0, age_s=GONE_S + 1.0)),
    ):
        assert reading == Reading("demand", None, None, LIMIT_S)
    assert load(serving, gateway(0.0)).value == 0.0


def test_a_replica_that_was_not_heard_lately_is_not_counted_on() -> None:
    heard, silent = node(engine(running=1.0)), node(engine(running=1.0), age_s=LIMIT_S + 1.0)
    assert load([heard, silent], gateway(10.0)) == load([heard], gateway(10.0))
    assert load([silent], gateway(10.0)).freshness is Freshness.ABSENT


def test_a_duty_cycle_is_of_the_gpus_under_the_pool_alone() -> None:
    cards = (
        GpuReading(index=0, utilisation=0.2),
        GpuReading(index=1, utilisation=0.6),
        GpuReading(index=2, utilisation=1.0),
        GpuReading(index=3, fault="GPU_IS_LOST"),
    )
    under = [*(engine(gpu=i) for i in (0, 1, 3)), engine("chat", gpu=2)]

    def duty(*read: NodeReading) -> Reading:
        return measures.gpu_utilisation(read, "image", now=NOW, limit_s=LIMIT_S)

    reading = duty(node(*under, gpus=cards, age_s=2.0))
    assert reading.value == pytest.approx(0.4)
    assert (reading.name, reading.age_s) == ("gpu_utilisation", 2.0)
    assert duty(node(*under, gpus=None)).freshness is Freshness.ABSENT
    assert duty(node(engine(), gpus=cards)).freshness is Freshness.ABSENT
    assert duty(node(*under, gpus=cards, age_s=GONE_S + 1.0)).freshness is Freshness.ABSENT


def test_a_duty_cycle_is_of_the_mig_instance_that_the_pool_has_and_absent_without_one() -> None:
    parts = (
        InstanceReading(uuid="MIG-1", utilisation=0.9),
        InstanceReading(uuid="MIG-2", utilisation=0.1),
        InstanceReading(uuid="MIG-3"),
    )
    cards = (GpuReading(index=0, is_partitioned=True, instances=parts),)

    def duty(*instances: str | None) -> float | None:
        on = [msgspec.structs.replace(engine(gpu=0), instance=each) for each in instances]
        read = [node(*on, gpus=cards)]
        return measures.gpu_utilisation(read, "image", now=NOW, limit_s=LIMIT_S).value

    assert duty("MIG-1") == 0.9
    assert duty("MIG-1", "MIG-2", "MIG-3") == 0.5
    assert duty("MIG-3") is None, "GPM tells nothing of it: absent, not idle"
    assert duty(None) is None, "nobody knows which it has"


def shed(admitted: float, refused: float, let_in: float | None) -> float:
    told = TierDemand(
        admitted_rps=admitted, refused_by_gate_rps=refused, not_exposed_rps=9.0, let_in=let_in
    )
    return measures.offered(told)


def test_whoever_is_refused_and_asks_again_is_counted_once() -> None:
    once, often = shed(60.0, 40.0, 0.6), shed(60.0, 400.0, 0.6)
    assert once == often == pytest.approx(100.0)


def test_those_spared_lately_are_the_sample_where_the_gate_opens_to_some_who_were_refused() -> None:
    """Of 100 a second 80 are let in now, where it were 40; and 30 of those refused come back."""
    told = TierDemand(
        admitted_rps=110.0,
        refused_by_gate_rps=20.0,
        not_exposed_rps=0.0,
        let_in=0.8,
        spared=0.4,
        spared_rps=40.0,
    )
    by_those_let_in = msgspec.structs.replace(told, spared=None)
    assert measures.offered(by_those_let_in) == pytest.approx(130.0)
    assert measures.offered(told) == 110.0, "never less than is let in"
    fewer = msgspec.structs.replace(told, admitted_rps=85.0, refused_by_gate_rps=45.0)
    assert measures.offered(fewer) == pytest.approx(100.0)
    too_few = msgspec.structs.replace(fewer, spared=0.01, spared_rps=1.0)
    assert measures.offered(too_few) == pytest.approx(85.0 / 0.8)


@given(
    st.floats(0.0, 1e4), st.floats(0.0, 1e4), st.none() | st.floats(0.0, 1.0) | st.just(math.nan)
)
def test_demand_is_never_less_than_was_let_in_nor_more_than_was_asked(
    admitted: float, refused: float, let_in: float | None
) -> None:
    assert admitted <= shed(admitted, refused, let_in) <= admitted + refused


@pytest.mark.parametrize("let_in", [None, 0.0, 0.04, 1.0])
def test_all_that_was_asked_counts_where_those_let_in_tell_too_little(let_in: float | None) -> None:
    assert shed(1.0, 99.0, let_in) == 100.0


def test_versions_are_counted_and_replicas_that_tell_none_are_of_one() -> None:
    def versions(*engines: EngineReading) -> int:
        return measures.versions([node(*engines)], "image", now=NOW, limit_s=LIMIT_S)

    assert versions() == 0
    assert versions(engine(), engine(), engine("chat")) == 1
    assert versions(version("1"), version("1"), version("2")) == 2
