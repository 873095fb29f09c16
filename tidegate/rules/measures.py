"""From the readings of many nodes and gateways to one reading a pool."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from tidegate.readings import DemandReading, EngineReading, NodeReading, Reading, TierDemand

_GONE_AFTER_LIMITS: Final = 10.0
"""A node or gateway that was silent for so many reading limits has gone away for good."""
_LEAST_SAMPLE: Final = 0.05
"""Share of a tier below which those let in tell too little of all."""


def by_pool(nodes: Iterable[NodeReading]) -> dict[str, list[NodeReading]]:
    """Return for each pool the nodes that serve it, each with the engines of that pool alone.

    Every measure of a pool reads the same from these as from all nodes, and a tick that asks for
    many pools does not look through all nodes for each.
    """
    found: dict[str, list[NodeReading]] = {}
    for node in nodes:
        pools = {engine.pool for engine in node.engines}
        for pool in pools:
            serves = node
            if len(pools) > 1:
                engines = tuple(engine for engine in node.engines if engine.pool == pool)
                serves = msgspec.structs.replace(node, engines=engines)
            found.setdefault(pool, []).append(serves)
    return found


def queue_wait(nodes: Sequence[NodeReading], pool: str, *, now: float, limit_s: float) -> Reading:
    """Mean queue wait of a pool's replicas in seconds, each weighing the same: the worst version's.

    A replica that started nothing since it was last asked waits 0 s if it reads that nobody
    queues, and tells nothing if somebody does.
    """
    return _over_engines("queue_wait", nodes, pool, _wait_s, now=now, limit_s=limit_s)


def kv_cache_use(nodes: Sequence[NodeReading], pool: str, *, now: float, limit_s: float) -> Reading:
    """Mean KV-cache use of a pool's replicas, 0 to 1: the worst version's."""
    return _over_engines(
        "kv_cache_use", nodes, pool, lambda engine: engine.kv_cache_use, now=now, limit_s=limit_s
    )


def waiting_requests(
    nodes: Sequence[NodeReading], pool: str, *, now: float, limit_s: float
) -> Reading:
    """Requests that wait in a pool's replicas, all together."""
    heard = _heard(nodes, pool, now=now, limit_s=limit_s)
    told = [(engine.waiting, age_s) for engine, age_s in heard if engine.waiting is not None]
    if not told:
        return Reading("waiting", None, None, limit_s)
    return Reading("waiting", sum(n for n, _ in told), max(age_s for _, age_s in told), limit_s)


def gpu_utilisation(
    nodes: Sequence[NodeReading], pool: str, *, now: float, limit_s: float
) -> Reading:
    """Mean duty cycle of the GPUs, or MIG instances, under a pool's replicas, 0 to 1."""
    values: list[float] = []
    ages: list[float] = []
    for node in _lately(nodes, now, limit_s):
        under_pool = {(e.gpu, e.instance) for e in node.engines if e.pool == pool}
        for gpu in node.gpus or ():
            parts = ((each.uuid, each.utilisation) for each in gpu.instances or ())
            for instance, utilisation in ((None, gpu.utilisation), *parts):
                if (gpu.index, instance) in under_pool and utilisation is not None:
                    values.append(utilisation)
                    ages.append(now - node.at)
    return _mean("gpu_utilisation", values, ages, limit_s)


def demand_rps(
    gateways: Sequence[DemandReading],
    pool: str,
    of: Callable[[TierDemand], float],
    *,
    now: float,
    limit_s: float,
) -> Reading:
    """Requests a second on a pool over all gateways; `of` says which to count.

    As old as the oldest gateway heard lately; one silent for ten limits has gone away.
    """
    heard = [g for g in gateways if now - g.at <= _GONE_AFTER_LIMITS * limit_s]
    if not heard:
        return Reading("demand", None, None, limit_s)
    total = sum(of(tier) for g in heard for tier in g.demand.get(pool, {}).values())
    return Reading("demand", total, max(now - g.at for g in heard), limit_s)


def load(admitted_rps: Reading, capacity_rps: float | None) -> Reading:
    """Admitted requests a second over what the pool's serving replicas can do at full use.

    Named `demand`, because it is absent where the demand is; also absent while nothing serves.
    A replica that was not heard within the limit is not counted on.
    """
    if admitted_rps.value is None or not capacity_rps:
        return Reading("demand", None, None, admitted_rps.limit_s)
    return replace(admitted_rps, value=admitted_rps.value / capacity_rps)


def serving_replicas(nodes: Sequence[NodeReading], pool: str, *, now: float, limit_s: float) -> int:
    """Replicas of a pool whose engines answered within the limit."""
    fresh = [node for node in nodes if now - node.at <= limit_s]
    engines = [engine for node in fresh for engine in node.engines if engine.pool == pool]
    # Triton tells no running requests, and one engine may serve several versions.
    return len({e.replica for e in engines if e.running is not None or e.waiting is not None})


def versions(nodes: Sequence[NodeReading], pool: str, *, now: float, limit_s: float) -> int:
    """Versions of models that a pool's replicas serve; one that tells none counts as one."""
    heard = _heard(nodes, pool, now=now, limit_s=limit_s)
    return len({(engine.model, engine.version) for engine, _ in heard})


def asked_by_tier(
    gateways: Sequence[DemandReading], pool: str, *, now: float, limit_s: float
) -> dict[str, float] | None:
    """Requests a second of each tier, refused by the gate included; None unless all are fresh.

    Whoever asks again counts again: a gate that moves meets repeats, and paying tiers come first.
    """
    demand = demand_rps(gateways, pool, admitted, now=now, limit_s=limit_s)
    if demand.fresh_value is None:
        return None
    total: dict[str, float] = {}
    for gateway in gateways:
        if now - gateway.at <= limit_s:
            for name, tier in gateway.demand.get(pool, {}).items():
                total[name] = total.get(name, 0.0) + asked(tier)
    return total


def offered(tier: TierDemand) -> float:
    """Requests that would be served, were there GPUs: admitted, and refused by the gate, each once.

    Whoever is refused asks again, and is counted again: pools sized for that would be sized for
    their own shortage. A user's place stands still, so those whom no ceiling refused lately are a
    sample of all, as large as their share, and nobody in it asks again. Where that is too small or
    not told, those let in are the sample, some of whom asked before. All that was asked counts
    where that is, too, and at most.
    """
    asked_rps = asked(tier)
    share, rps = tier.spared, tier.spared_rps
    if share is not None and rps is not None and share >= _LEAST_SAMPLE:
        return min(asked_rps, max(tier.admitted_rps, rps / share))
    if tier.let_in is None or not _LEAST_SAMPLE <= tier.let_in < 1.0:
        return asked_rps
    return min(asked_rps, tier.admitted_rps / tier.let_in)


def asked(tier: TierDemand) -> float:
    """Requests admitted and refused by the gate, however often somebody asks."""
    return tier.admitted_rps + tier.refused_by_gate_rps


def admitted(tier: TierDemand) -> float:
    """Requests let through to the pool."""
    return tier.admitted_rps


def _wait_s(engine: EngineReading) -> float | None:
    if engine.queue_wait_s is None and engine.waiting == 0.0:
        return 0.0
    return engine.queue_wait_s


def _over_engines(
    name: str,
    nodes: Sequence[NodeReading],
    pool: str,
    of: Callable[[EngineReading], float | None],
    *,
    now: float,
    limit_s: float,
) -> Reading:
    # Each version of a model by itself: one that is full does not show in the mean of all.
    by_version: dict[tuple[str | None, str | None], list[float]] = {}
    ages: list[float] = []
    for node in _lately(nodes, now, limit_s):
        for engine in node.engines:
            value = of(engine) if engine.pool == pool else None
            if value is not None:
                by_version.setdefault((engine.model, engine.version), []).append(value)
                ages.append(now - node.at)
    if not ages:
        return Reading(name, None, None, limit_s)
    worst = max(sum(values) / len(values) for values in by_version.values())
    return Reading(name, worst, max(ages), limit_s)


def _heard(
    nodes: Sequence[NodeReading], pool: str, *, now: float, limit_s: float
) -> list[tuple[EngineReading, float]]:
    """Return a pool's engines, and how old in seconds what each read is."""
    return [
        (engine, now - node.at)
        for node in _lately(nodes, now, limit_s)
        for engine in node.engines
        if engine.pool == pool
    ]


def _lately(nodes: Sequence[NodeReading], now: float, limit_s: float) -> list[NodeReading]:
    return [node for node in nodes if now - node.at <= _GONE_AFTER_LIMITS * limit_s]


def _mean(name: str, values: list[float], ages: list[float], limit_s: float) -> Reading:
    if not values:
        return Reading(name, None, None, limit_s)
    return Reading(name, sum(values) / len(values), max(ages), limit_s)
