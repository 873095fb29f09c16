"""The gate loop: about once a second, how far each pool's gate is open for each tier."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from controllers.echoes import echoed, newest
from tidegate.edges.outbox import News, Outbox, news
from tidegate.edges.redis import Redis
from tidegate.readings import DemandReading, NodeReading, Reading
from tidegate.rules import measures
from tidegate.rules.gate import (
    FULL,
    OFFERED_OVER,
    GateDecision,
    Move,
    Pressure,
    Room,
    decide_gate,
    fit,
    mean_by_tier,
    weigh,
)
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
        self._offered: dict[str, deque[Mapping[str, float]]] = {}

    async def tick(self, now: float) -> None:
        """Decide each pool's gate and publish it."""
        # Only what is newer than its own: where it leads, that is nothing.
        own = {gate_part(name): part.version for name, part in self._published.items()}
        snapshot = (await self._redis.published(own)).snapshot
        pools = {} if snapshot.intent is None else snapshot.intent.pools
        of_gpus = any("gpu_utilisation" in pool.required_readings for pool in pools.values())
        nodes, gateways = await self._redis.readings(gpus=of_gpus)
        serving = measures.by_pool(nodes)
        decided: dict[str, tuple[GateDecision, GatePart | None]] = {}
        for name, pool in pools.items():
            # Also this loop: right after a loss, the intent may be back before any gateway
            # has echoed.
            known = [
                snapshot.gates.get(name),
                self._published.get(name),
                *(echoed(GatePart, each.gates.get(name)) for each in gateways),
            ]
            last = newest(gate_part(name), known, gateways)
            tiers = {} if snapshot.intent is None else snapshot.intent.tiers
            ours = serving.get(name, ())
            pressure, room = read_pool(name, pool, ours, gateways, now)
            pressure = fit(pressure, self._over_time(name, room), tiers)
            decided[name] = decide_gate(pressure, last, tiers, pool, now), last
        held = await self._act(pools, decided, now)
        found = (self._news(name, *decided[name], now) for name in held)
        # Where many gates move at once, one write to disk for each would take longer than all else.
        await self._outbox.tell_all([each for each in found if each is not None])
        await self._outbox.tick(datetime.fromtimestamp(now, UTC))

    def _over_time(self, name: str, room: Room) -> Room:
        """Hold the mean of what a pool was offered lately against its room."""
        if room.offered_rps is None:
            self._offered.pop(name, None)
            return room
        recent = self._offered.setdefault(name, deque(maxlen=OFFERED_OVER))
        recent.append(room.offered_rps)
        return replace(room, offered_rps=mean_by_tier(recent))

    async def _act(
        self,
        pools: Mapping[str, PoolIntent],
        decided: Mapping[str, tuple[GateDecision, GatePart | None]],
        now: float,
    ) -> list[str]:
        """Publish; returns which hold, which those do not where another loop was newer."""
        parts = {
            name: _part(name, pools[name], decision, last, now)
            for name, (decision, last) in decided.items()
        }
        is_newest = await self._redis.publish_all(list(parts.values()))
        held = [name for name, is_held in zip(parts, is_newest, strict=True) if is_held]
        self._published.update((name, parts[name]) for name in held)
        return held

    def _news(
        self, name: str, decision: GateDecision, last: GatePart | None, now: float
    ) -> News | None:
        is_news = decision.move not in {Move.STAYED, Move.HELD}
        if decision.move is Move.HELD:
            is_news = not self._told_missing.get(name, False)
        self._told_missing[name] = decision.move is Move.HELD
        if not is_news:
            return None
        lowest = min(decision.ceilings.values(), default=1.0)
        return news(
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


def _part(
    name: str, pool: PoolIntent, decision: GateDecision, last: GatePart | None, now: float
) -> GatePart:
    return GatePart(
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


def read_pool(
    name: str,
    pool: PoolIntent,
    nodes: Sequence[NodeReading],
    gateways: Sequence[DemandReading],
    now: float,
) -> tuple[Pressure, Room]:
    """Weigh a pool's queue wait, load and KV-cache use, each over its own limit, and its room.

    The room is what the pool could take, and what it is offered.
    """
    limit_s = pool.reading_limit_s
    wait = measures.queue_wait(nodes, name, now=now, limit_s=limit_s)
    kv_cache = measures.kv_cache_use(nodes, name, now=now, limit_s=limit_s)
    demand = measures.demand_rps(gateways, name, measures.admitted, now=now, limit_s=limit_s)
    serving = measures.serving_replicas(nodes, name, now=now, limit_s=limit_s)
    capacity_rps = serving * pool.capacity_rps if serving else None
    read: list[tuple[Reading, float]] = [
        (wait, pool.queue_wait_target_s),
        (measures.load(demand, capacity_rps), 1.0),
        (kv_cache, FULL),
    ]
    if "gpu_utilisation" in pool.required_readings:
        # A duty cycle says that a kernel ran, not that the card was full: it may be asked for,
        # and presses only where it is.
        duty = measures.gpu_utilisation(nodes, name, now=now, limit_s=limit_s)
        read.append((duty, 1.0))
    offered_rps = measures.asked_by_tier(gateways, name, now=now, limit_s=limit_s)
    room = Room(capacity_rps, kv_cache_use=kv_cache, queue_wait=wait, offered_rps=offered_rps)
    return weigh(read, pool.required_readings), room
