"""The capacity loop: replicas of each pool, sized from demand, within the GPU budget."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import structlog

from tidegate.cluster import Cluster, ClusterState, PodPhase, PoolStatus
from tidegate.edges.outbox import Outbox
from tidegate.edges.redis import Redis
from tidegate.edges.temporal import ControlPlane
from tidegate.errors import Refused
from tidegate.messages.budget import Observation
from tidegate.readings import DemandReading, NodeReading
from tidegate.rules import measures
from tidegate.rules.sizing import Need, PoolSeen, SizingDecision, decide_replicas
from tidegate.snapshot import IntentPart, PoolIntent

log = structlog.get_logger()

_FAULT_AFTER_S: Final = 5.0
"""A node whose agent was silent for longer tells nothing about sick GPUs."""


class CapacityLoop:
    """The only writer of `scale`, and the budget's eyes."""

    def __init__(self, redis: Redis, cluster: Cluster, plane: ControlPlane, outbox: Outbox) -> None:
        self._redis = redis
        self._cluster = cluster
        self._plane = plane
        self._outbox = outbox
        self._recent: dict[str, tuple[Need, ...]] = {}
        self._observed: dict[str, Observation] = {}
        self._told: dict[str, Mapping[str, object]] = {}
        self._revision = 0

    async def wake(self, wait_s: float) -> None:
        """Return when pods or GPUs have changed, at the latest after `wait_s`."""
        await self._cluster.observe(after=self._revision, wait_s=wait_s)

    async def tick(self, now: float) -> None:
        """Size every pool and tell the budgets what is there."""
        seen = await self._cluster.observe()
        self._revision = seen.revision
        intent = (await self._redis.snapshot()).intent
        nodes, gateways = await self._redis.readings()
        if intent is not None:
            needed: dict[str, int] = {}
            for name, pool in intent.pools.items():
                status = seen.pools.get(name)
                if status is not None:
                    decision = self._decide(pool, status, nodes, gateways, now)
                    needed[name] = decision.needed_replicas * pool.gpus_per_replica
                    await self._act(status, decision)
                    await self._tell(pool, status, decision, seen, now)
            await self._inform_budgets(intent, seen, needed, nodes, now)
        await self._outbox.tick(datetime.fromtimestamp(now, UTC))

    def _decide(
        self,
        pool: PoolIntent,
        status: PoolStatus,
        nodes: Sequence[NodeReading],
        gateways: Sequence[DemandReading],
        now: float,
    ) -> SizingDecision:
        limit_s = pool.reading_limit_s
        demand = measures.demand_rps(
            gateways, status.name, measures.offered, now=now, limit_s=limit_s
        )
        wait = measures.queue_wait(nodes, status.name, now=now, limit_s=limit_s)
        required = [r for r in (demand, wait) if r.name in pool.required_readings]
        sized = PoolSeen(
            demand_rps=demand,
            waiting=measures.waiting_requests(nodes, status.name, now=now, limit_s=limit_s),
            required=tuple(required),
            booked_replicas=status.replicas,
        )
        decision = decide_replicas(sized, pool, self._recent.get(status.name, ()), now)
        self._recent[status.name] = decision.recent
        return decision

    async def _act(self, status: PoolStatus, decision: SizingDecision) -> None:
        if decision.replicas == status.replicas:
            return
        try:
            await self._cluster.scale(status.name, decision.replicas)
        except Refused as refusal:
            log.warning("pool.not_scaled", pool=status.name, reason=str(refusal))

    async def _tell(
        self,
        pool: PoolIntent,
        status: PoolStatus,
        decision: SizingDecision,
        seen: ClusterState,
        now: float,
    ) -> None:
        size = pool.gpus_per_replica
        loading = status.count(PodPhase.LOADING) + status.count(PodPhase.PENDING)
        facts: dict[str, str | int | None] = {
            "needed_gpus": decision.needed_replicas * size,
            "ready_gpus": status.ready_gpus,
            "loading_gpus": loading * size,
            "booked_gpus": decision.replicas * size,
            "installed_gpus": seen.gpus.get(pool.gpu_type),
            "limited_by": str(decision.limited_by),
        }
        if self._told.get(status.name) != facts:
            self._told[status.name] = facts
            await self._outbox.tell(
                "pool.sized",
                subject=f"pool/{status.name}",
                at=datetime.fromtimestamp(now, UTC),
                pool=status.name,
                before=status.replicas,
                after=decision.replicas,
                reason=decision.reason,
                **facts,
            )

    async def _inform_budgets(
        self,
        intent: IntentPart,
        seen: ClusterState,
        needed: Mapping[str, int],
        nodes: Sequence[NodeReading],
        now: float,
    ) -> None:
        """Signal each budget what changed since it was last told; an idle tick is silent."""
        for gpu_type, installed in seen.gpus.items():
            drawn = [n for n in needed if intent.pools[n].gpu_type == gpu_type]
            observation = Observation(
                installed_gpus=installed,
                sick_gpus=_sick(nodes, now),
                ready_gpus={name: seen.pools[name].ready_gpus for name in drawn},
                needed_gpus={name: needed[name] for name in drawn},
            )
            if self._observed.get(gpu_type) != observation:
                await self._plane.observe(gpu_type, observation)
                self._observed[gpu_type] = observation


def _sick(nodes: Sequence[NodeReading], now: float) -> int:
    """Count the GPUs that answer with a fault."""
    fresh = [node for node in nodes if now - node.at <= _FAULT_AFTER_S]
    return sum(1 for node in fresh for gpu in node.gpus or () if gpu.fault is not None)
