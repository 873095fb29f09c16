"""The gate loop: about once a second, how far each pool's gate is open for each tier."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from controllers.echoes import echoed, newest
from tidegate.edges.outbox import Outbox
from tidegate.edges.redis import Redis
from tidegate.readings import DemandReading, NodeReading, Reading
from tidegate.rules import measures
from tidegate.rules.gate import FULL, GateDecision, Move, Pressure, Room, decide_gate, fit, weigh
from tidegate.snapshot import GatePart, PoolIntent, gate_part, next_version

LIVES_S: Final = 10.0
"""A gate that is not renewed falls back to the smaller of itself and the safe share."""


class GateLoop:
    """The only writer of the gate parts; whoever starts anew takes up the newest echo."""

    def __init__(self, redis: Redis, outbox: Outbox) -> None:
        self._redis = redis
        self._outbox = outbox
        self._published: dict[str, GatePart] = {}
        self._told_missing: dict[str, bool] = {}

    async def tick(self, now: float) -> None:
        """Decide each pool's gate and publish it."""
        snapshot = await self._redis.snapshot()
        nodes, gateways = await self._redis.readings()
        if snapshot.intent is not None:
            for name, pool in snapshot.intent.pools.items():
                # Also this loop: right after a loss, the intent may be back before any gateway
                # has echoed.
                known = [
                    snapshot.gates.get(name),
                    self._published.get(name),
                    *(echoed(GatePart, each.gates.get(name)) for each in gateways),
                ]
                last = newest(gate_part(name), known, gateways)
                pressure = weigh_pool(name, pool, nodes, gateways, now)
                room = room_in_pool(name, pool, nodes, gateways, now)
                pressure = fit(pressure, room, snapshot.intent.tiers)
                decision = decide_gate(pressure, last, snapshot.intent.tiers, pool, now)
                if await self._act(name, pool, decision, last, now):
                    await self._tell(name, decision, last, now)
        await self._outbox.tick(datetime.fromtimestamp(now, UTC))

    async def _act(
        self, name: str, pool: PoolIntent, decision: GateDecision, last: GatePart | None, now: float
    ) -> bool:
        """Publish; returns whether it holds, which it does not where another loop was newer."""
        part = GatePart(
            pool=name,
            version=next_version(now, last.version if last else 0),
            issued_at=now,
            expires_at=now + LIVES_S,
            state=decision.state,
            stale=decision.stale,
            openness=decision.openness,
            ceilings=decision.ceilings,
            moved_at=decision.moved_at,
            reason=decision.reason,
            retry_after_s=decision.retry_after_s,
            safe_share=pool.safe_share,
        )
        if not await self._redis.publish(part):
            return False
        self._published[name] = part
        return True

    async def _tell(
        self, name: str, decision: GateDecision, last: GatePart | None, now: float
    ) -> None:
        news = decision.move not in {Move.STAYED, Move.HELD}
        if decision.move is Move.HELD:
            news = not self._told_missing.get(name, False)
        self._told_missing[name] = decision.move is Move.HELD
        if not news:
            return
        lowest = min(decision.ceilings.values(), default=1.0)
        await self._outbox.tell(
            f"gate.{decision.move}",
            subject=f"pool/{name}",
            at=datetime.fromtimestamp(now, UTC),
            pool=name,
            before=None if last is None else last.openness,
            after=decision.openness,
            lowest_ceiling=lowest,
            state=str(decision.state),
            pressure=decision.pressure.worst,
            pressed_by=decision.pressure.by,
            reason=decision.reason,
        )


def weigh_pool(
    name: str,
    pool: PoolIntent,
    nodes: Sequence[NodeReading],
    gateways: Sequence[DemandReading],
    now: float,
) -> Pressure:
    """Weigh a pool's queue wait, load and KV-cache use, each over its own limit."""
    limit_s = pool.reading_limit_s
    load = measures.load(nodes, gateways, name, pool.capacity_rps, now=now, limit_s=limit_s)
    wait = measures.queue_wait(nodes, name, now=now, limit_s=limit_s)
    kv_cache = measures.kv_cache_use(nodes, name, now=now, limit_s=limit_s)
    duty = measures.gpu_utilisation(nodes, name, now=now, limit_s=limit_s)
    read: list[tuple[Reading, float]] = [
        (wait, pool.queue_wait_target_s),
        (load, 1.0),
        (kv_cache, FULL),
    ]
    if "gpu_utilisation" in pool.required_readings:
        # A duty cycle says that a kernel ran, not that the card was full: it may be asked for,
        # and presses only where it is.
        read.append((duty, 1.0))
    return weigh(read, pool.required_readings)


def room_in_pool(
    name: str,
    pool: PoolIntent,
    nodes: Sequence[NodeReading],
    gateways: Sequence[DemandReading],
    now: float,
) -> Room:
    """Read what a pool could take, and what it is offered."""
    limit_s = pool.reading_limit_s
    serving = measures.serving_replicas(nodes, name, now=now, limit_s=limit_s)
    return Room(
        capacity_rps=serving * pool.capacity_rps if serving else None,
        kv_cache_use=measures.kv_cache_use(nodes, name, now=now, limit_s=limit_s),
        queue_wait=measures.queue_wait(nodes, name, now=now, limit_s=limit_s),
        offered_rps=measures.offered_by_tier(gateways, name, now=now, limit_s=limit_s),
    )
