"""The parts of the control benchmark run; nothing is timed."""

import pytest
from msgspec.structs import replace

from benchmarks.control import measure
from benchmarks.many_pools import Fleet, gateways_of, intent_of, nodes_of
from tests.controllers.published import NOW
from tidegate.rules import measures


async def test_a_spike_is_followed_to_a_narrower_gate_and_ticks_are_told_by_their_pools() -> None:
    found = await measure(1, 1, (2,))
    assert found["spikes"] == 1
    assert isinstance(found["reaction_periods_p99"], float)
    assert set(found) >= {"reaction_periods_p50", "tick_ms", "rss_mb", "cpu_ms_a_pool"}
    assert isinstance(found["tick_ms"], dict)
    assert found["tick_ms"].keys() == {"2"}
    assert isinstance(found["tick_ms_of"], dict)
    of = {name: ms["median"] for name, ms in found["tick_ms_of"]["2"].items()}
    for loop in ("capacity", "gate"):
        stages = [ms for name, ms in of.items() if name.startswith(f"{loop}/")]
        assert of[f"{loop}/readings"] > 0.0
        assert sum(stages) == pytest.approx(of[loop], abs=0.5), "the stages are the whole tick"


def test_a_fleet_is_as_large_as_it_says() -> None:
    fleet = Fleet(pools=3, gpus=3 * 96)
    nodes, gateways = nodes_of(fleet, NOW), gateways_of(fleet, NOW)
    assert len(nodes) * 8 == 3 * 96
    assert list(intent_of(fleet, NOW, 1).pools) == fleet.names
    assert all(len(of_pool) == 12 for of_pool in measures.by_pool(nodes).values())
    demand = measures.demand_rps(gateways, "pool-1", measures.admitted, now=NOW, limit_s=10.0)
    assert demand.value == 60.0


def test_a_node_of_several_pools_is_read_by_each_with_its_own_engines_alone() -> None:
    one, other = (nodes_of(Fleet(pools=1, gpus=8), NOW)[0] for _ in range(2))
    (engine,) = other.engines
    mixed = replace(one, engines=(*one.engines, replace(engine, pool="chat")))
    serving = measures.by_pool([mixed])
    assert serving.keys() == {"pool-0", "chat"}
    for pool in serving:
        alone = measures.kv_cache_use(serving[pool], pool, now=NOW, limit_s=10.0)
        assert alone == measures.kv_cache_use([mixed], pool, now=NOW, limit_s=10.0)
        assert {engine.pool for node in serving[pool] for engine in node.engines} == {pool}
