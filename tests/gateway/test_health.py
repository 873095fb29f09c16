"""Alive, ready, and counted."""

from prometheus_client.parser import text_string_to_metric_families

from tests.gateway.asking import Asked
from tests.tidegate.snapshots import NOW, gate, intent, snapshot
from tidegate.snapshot import Snapshot


async def metrics(asked: Asked) -> dict[tuple[str, ...], float]:
    text = (await asked.get("/metrics")).body.decode()
    return {
        (
            sample.name.removeprefix("tidegate_gateway_"),
            *sorted(sample.labels.values()),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_it_is_alive_before_it_is_ready() -> None:
    asked = Asked()
    assert (await asked.get("/healthz")).status == 200
    assert (await asked.get("/healthz", method="HEAD")).status == 200
    answer = await asked.get("/readyz")
    assert (answer.status, answer.json["ready"], answer.json["versions"]) == (503, False, {})


async def test_a_gate_alone_does_not_make_it_ready() -> None:
    assert (await Asked(Snapshot(gates={"image": gate()})).get("/readyz")).status == 503


async def test_it_is_ready_with_a_snapshot_however_old_and_says_how_old() -> None:
    answer = await Asked(snapshot(), now=NOW + 5_000.0).get("/readyz")
    assert answer.status == 200
    assert answer.json == {
        "ready": True,
        "versions": {"gate/image": 11, "intent": 10},
        "age_s": {"gate/image": 5_000.0, "intent": 5_000.0},
        "redis_up": False,
    }


async def test_decisions_are_counted_by_pool_tier_and_code() -> None:
    asked = Asked(snapshot(intent(), gate({"free": 0.0})), now=NOW + 2.0)
    for tier in ("pro", "pro", "free"):
        await asked.admit("ada", tier)
    counted = await metrics(asked)
    assert counted[("decisions_total", "allowed", "image", "pro")] == 2.0
    assert counted[("decisions_total", "free", "gate-shed", "image")] == 1.0
    assert counted[("snapshot_version", "intent")] == 10.0
    assert counted[("snapshot_age_seconds", "gate/image")] == 2.0
    assert counted[("redis_up",)] == 0.0
    assert counted[("readings_dropped_total",)] == 0.0
    assert counted[("process_resident_memory_bytes",)] > 1e6


async def test_made_up_features_and_tiers_make_no_new_series() -> None:
    asked = Asked(snapshot())
    for n in range(50):
        await asked.admit("ada", f"tier-{n}")
        await asked.admit("ada", "free", feature=f"feature-{n}")
        await asked.admit("ada", f"tier-{n}", surface=f"surface-{n}")
    assert set(asked.tally.counts) == {
        ("image", "", "tier-unknown"),
        ("", "", "feature-unknown"),
        ("image", "", "surface-closed"),
    }
