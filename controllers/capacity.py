"""The capacity loop: replicas of each pool, sized from demand, within the GPU budget."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog

from controllers.sick_gpus import SickGpus
from tidegate.cluster import Cluster, ClusterState, PodPhase, PoolStatus
from tidegate.edges.outbox import News, Outbox, news
from tidegate.edges.redis import Redis
from tidegate.edges.temporal import ControlPlane
from tidegate.errors import Refused, Unavailable
from tidegate.messages.budget import Observation
from tidegate.readings import DemandReading, NodeReading, Reading
from tidegate.rules import measures
from tidegate.rules.sizing import Need, PoolSeen, SizingDecision, decide_replicas
from tidegate.snapshot import INTENT, GatePart, IntentPart, PoolIntent

log = structlog.get_logger()

_INFORM_WITHIN_S: Final = 2.0
"""Sizing goes on at about this pace while Temporal does not answer."""

_INFORM_EVERY_S: Final = 1.0
"""However fast pods come up, a budget hears no more often: each signal stays in its history."""


@dataclass(frozen=True, slots=True)
class _Read:
    """What a tick read: nodes, gateways, and a pool's gate where one is published."""

    nodes: Sequence[NodeReading]
    gateways: Sequence[DemandReading]
    gate: GatePart | None

    def let_in(self, now: float, limit_s: float) -> Reading | None:
        """Share of the lowest gated tier that is let in; None without a gate, or a gated tier."""
        if self.gate is None or not self.gate.ceilings:
            return None
        lowest = min(self.gate.ceilings.values())
        return Reading("let_in", lowest, now - self.gate.issued_at, limit_s)


class CapacityLoop:
    """The only writer of `scale`, and the budget's eyes."""

    def __init__(self, redis: Redis, cluster: Cluster, plane: ControlPlane, outbox: Outbox) -> None:
        self._redis = redis
        self._cluster = cluster
        self._plane = plane
        self._outbox = outbox
        self._recent: dict[str, tuple[Need, ...]] = {}
        self._observed: dict[str, Observation] = {}
        self._informed_at: dict[str, float] = {}
        self._sick = SickGpus(outbox)
        self._refused: dict[str, str | None] = {}
        self._told: dict[str, Mapping[str, object]] = {}
        self._revision = 0

    async def wake(self, wait_s: float) -> None:
        """Return when pods or GPUs have changed, at the latest after `wait_s`."""
        await self._cluster.observe(after=self._revision, wait_s=wait_s)

    async def tick(self, now: float) -> None:
        """Size every pool and tell the budgets what is there."""
        seen = await self._cluster.observe()
        self._revision = seen.revision
        intent = (await self._redis.published(only=INTENT)).snapshot.intent
        pools = {} if intent is None else intent.pools
        of_gpus = any("gpu_utilisation" in pool.required_readings for pool in pools.values())
        nodes, gateways = await self._redis.readings(gpus=of_gpus)
        await self._sick.note(nodes, pools, now)
        await self._forget_gone(seen, now)
        gates = await self._gates(intent)
        needed: dict[str, int] = {}
        found: list[News] = []
        serving = measures.by_pool(nodes)
        try:
            for name, pool in pools.items():
                status = seen.pools.get(name)
                if status is not None:
                    read = _Read(serving.get(name, ()), gateways, gates.get(name))
                    decision = self._decide(pool, status, read, now)
                    if decision.is_demand_known:
                        needed[name] = decision.needed_replicas * pool.gpus_per_replica
                    refused = await self._act(status, decision)
                    found += self._news(pool, status, decision, refused, seen, now)
        finally:
            # All with one write to disk; and also what was done before a cluster went away.
            await self._outbox.tell_all(found)
        # Before the budgets: what was told must not wait for a Temporal that is away.
        await self._outbox.tick(datetime.fromtimestamp(now, UTC))
        if intent is not None:
            await self._inform_budgets(intent, seen, needed, now)

    async def _forget_gone(self, seen: ClusterState, now: float) -> None:
        gone = self._sick.gone(seen.nodes, now)
        for node in gone:
            await self._redis.forget_reading(f"node/{node}")
        await self._sick.forget(gone, now)

    async def _gates(self, intent: IntentPart | None) -> Mapping[str, GatePart]:
        """Read the gates, where a pool has an objective that they are held against."""
        pools = () if intent is None else intent.pools.values()
        if all(pool.gated_objective is None for pool in pools):
            return {}
        return (await self._redis.snapshot()).gates

    def _decide(
        self,
        pool: PoolIntent,
        status: PoolStatus,
        read: _Read,
        now: float,
    ) -> SizingDecision:
        limit_s, nodes = pool.reading_limit_s, read.nodes
        demand = measures.demand_rps(
            read.gateways, status.name, measures.offered, now=now, limit_s=limit_s
        )
        wait = measures.queue_wait(nodes, status.name, now=now, limit_s=limit_s)
        read_of_pool = [demand, wait]
        if "gpu_utilisation" in pool.required_readings:
            # No size follows from a duty cycle; but whoever asks for it shrinks nothing blindly.
            duty = measures.gpu_utilisation(nodes, status.name, now=now, limit_s=limit_s)
            read_of_pool.append(duty)
        required = [r for r in read_of_pool if r.name in pool.required_readings]
        sized = PoolSeen(
            demand_rps=demand,
            waiting=measures.waiting_requests(nodes, status.name, now=now, limit_s=limit_s),
            required=tuple(required),
            booked_replicas=status.replicas,
            let_in=read.let_in(now, limit_s),
            waits_for_any=measures.versions(nodes, status.name, now=now, limit_s=limit_s) <= 1,
        )
        decision = decide_replicas(sized, pool, self._recent.get(status.name, ()), now)
        self._recent[status.name] = decision.recent
        return decision

    async def _act(self, status: PoolStatus, decision: SizingDecision) -> str | None:
        """Scale the pool where it should change; returns why that was refused, if it was."""
        refused: str | None = None
        if decision.replicas != status.replicas:
            try:
                await self._cluster.scale(status.name, decision.replicas)
            except Refused as refusal:
                refused = str(refusal)
        if refused is not None and refused != self._refused.get(status.name):
            log.warning("pool.not_scaled", pool=status.name, reason=refused)
        self._refused[status.name] = refused
        return refused

    def _news(
        self,
        pool: PoolIntent,
        status: PoolStatus,
        decision: SizingDecision,
        refused: str | None,
        seen: ClusterState,
        now: float,
    ) -> Sequence[News]:
        """Write down how a pool is sized, where that is not as was told of it last."""
        size = pool.gpus_per_replica
        booked = decision.replicas if refused is None else status.replicas
        loading = status.count(PodPhase.LOADING) + status.count(PodPhase.PENDING)
        facts: dict[str, str | int | None] = {
            "needed_gpus": decision.needed_replicas * size if decision.is_demand_known else None,
            "ready_gpus": status.ready_gpus,
            "loading_gpus": loading * size,
            "booked_gpus": booked * size,
            "installed_gpus": seen.gpus.get(pool.gpu_type),
            "limited_by": str(decision.limited_by),
        }
        if self._told.get(status.name) == facts:
            return ()
        self._told[status.name] = facts
        sized = news(
            "pool.sized",
            subject=f"pool/{status.name}",
            at=datetime.fromtimestamp(now, UTC),
            pool=status.name,
            before=status.replicas,
            after=booked,
            reason=refused or decision.reason,
            **facts,
        )
        return (sized,)

    async def _inform_budgets(
        self,
        intent: IntentPart,
        seen: ClusterState,
        needed: Mapping[str, int],
        now: float,
    ) -> None:
        """Signal each budget what changed since it was last told; an idle tick is silent.

        What changes within a second of that is told together, by a later tick.
        """
        for gpu_type, installed in seen.gpus.items():
            pools = {n: p for n, p in intent.pools.items() if p.gpu_type == gpu_type}
            observation = Observation(
                installed_gpus=installed,
                sick_gpus=self._sick.count(gpu_type, seen.nodes),
                ready_gpus={n: _staying_gpus(seen.pools[n]) for n in pools if n in seen.pools},
                needed_gpus={n: needed[n] for n in pools if n in needed},
            )
            # A budget that was declared, or lost, after it was told has counted nothing.
            is_counted = all(pool.ceiling_gpus is not None for pool in pools.values())
            is_news = not is_counted or self._observed.get(gpu_type) != observation
            # A clock that was set back is no reason to say nothing.
            since_s = abs(now - self._informed_at.get(gpu_type, 0.0))
            if is_news and since_s >= _INFORM_EVERY_S:
                await self._inform(gpu_type, observation)
                self._observed[gpu_type] = observation
                self._informed_at[gpu_type] = now

    async def _inform(self, gpu_type: str, observation: Observation) -> None:
        try:
            async with asyncio.timeout(_INFORM_WITHIN_S):
                await self._plane.observe(gpu_type, observation)
        except TimeoutError as error:
            message = f"temporal: no answer in {_INFORM_WITHIN_S:g} s. Check that it is running."
            raise Unavailable(message, code="temporal-unavailable") from error


def _staying_gpus(status: PoolStatus) -> int:
    """Count the GPUs of ready replicas, without the surge of a rollout, which soon is gone."""
    return min(status.ready_gpus, status.replicas * status.gpus_per_replica)
