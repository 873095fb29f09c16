"""Readings boiled down to the figures that people look at; absent stays absent."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tidegate.readings import Absent, DemandReading, NodeReading, TierDemand

_GONE_LIMITS: Final = 10


@dataclass(frozen=True, slots=True)
class GpuUse:
    """The duty cycle of the GPUs that reported one: their mean, 0 to 1, and how many."""

    share: float
    gpus: int


def fresh_nodes(
    nodes: Iterable[NodeReading], now: float, limit_s: float
) -> tuple[NodeReading, ...]:
    """Keep the nodes read no longer than `limit_s` ago."""
    return tuple(node for node in nodes if now - node.at <= limit_s)


def engines_seen(nodes: Sequence[NodeReading], pool: str) -> int | None:
    """Count a pool's engines that agents read; None where no agent is fresh."""
    if not nodes:
        return None
    return len({e.replica for node in nodes for e in node.engines if e.pool == pool})


def demand_of(
    gateways: Iterable[DemandReading], pool: str, tier: str, *, now: float, limit_s: float
) -> TierDemand | None:
    """Add up what gateways report of a tier; None where one of them is late or none reports it.

    A gateway silent for ten limits has gone away, as it has for the capacity loop.
    """
    there = [gateway for gateway in gateways if now - gateway.at <= _GONE_LIMITS * limit_s]
    if any(now - gateway.at > limit_s for gateway in there):
        return None
    found = [
        gateway.demand[pool][tier]
        for gateway in there
        if pool in gateway.demand and tier in gateway.demand[pool]
    ]
    if not found:
        return None
    return TierDemand(
        admitted_rps=sum(demand.admitted_rps for demand in found),
        refused_by_gate_rps=sum(demand.refused_by_gate_rps for demand in found),
        not_exposed_rps=sum(demand.not_exposed_rps for demand in found),
    )


def gpu_use(nodes: Sequence[NodeReading]) -> GpuUse | Absent:
    """Return the mean duty cycle over every GPU that reports one, or why there is none."""
    if not nodes:
        return Absent("no agent was heard lately")
    shares = [
        gpu.utilisation for node in nodes for gpu in node.gpus or () if gpu.utilisation is not None
    ]
    if shares:
        return GpuUse(share=sum(shares) / len(shares), gpus=len(shares))
    reasons = {node.gpus_absent_because for node in nodes if node.gpus_absent_because}
    reasons |= {gpu.fault for node in nodes for gpu in node.gpus or () if gpu.fault}
    return Absent("; ".join(sorted(reasons)) or "no GPU reports it")
