"""How soon a spike narrows the gate in a gateway: from its first sample to the ceiling in force."""

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from benchmarks.many_pools import TARGET_S, Fleet, gateways_of, intent_of, nodes_of
from embedded.processes import Supervisor
from tidegate.edges.follower import Follower
from tidegate.edges.redis import Redis
from tidegate.edges.stored import SnapshotFile
from tidegate.holding import Held, SnapshotHolder
from tidegate.rules.gate import derive_ceilings, widest_openness
from tidegate.settings import variable
from tidegate.snapshot import GatePart, GateState, next_version

PERIOD_S: Final = 1.0
"""How often agents and gateways read, and how long the gate loop waits at most."""
_FLEET: Final = Fleet(pools=1, gpus=64)
_POOL: Final = _FLEET.names[0]
_WITHIN_S: Final = 30.0


class _Gateway:
    """What a gateway follows, and when the ceiling that it holds last narrowed."""

    def __init__(self, url: str, file: Path) -> None:
        self.redis = Redis(url)
        self.holder = SnapshotHolder()
        self.moved = asyncio.Event()
        self.ceiling: float | None = None
        self.moved_s = 0.0
        self.holder.listen(self._look)
        self.following = asyncio.create_task(
            Follower(self.redis, self.holder, SnapshotFile(file)).run()
        )

    def _look(self, held: Held) -> None:
        gate = held.snapshot.gates.get(_POOL)
        ceiling = None if gate is None else min(gate.ceilings.values(), default=1.0)
        if ceiling != self.ceiling:
            self.ceiling, self.moved_s = ceiling, time.monotonic()
            self.moved.set()

    async def until_narrower_than(self, ceiling: float) -> float:
        """Return when it held less, by the monotonic clock."""
        async with asyncio.timeout(_WITHIN_S):
            while self.ceiling is None or self.ceiling >= ceiling:
                self.moved.clear()
                await self.moved.wait()
        return self.moved_s

    async def is_open_soon(self) -> bool:
        """Say whether it holds a gate that is wide open before long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PERIOD_S):
                while self.ceiling != 1.0:
                    self.moved.clear()
                    await self.moved.wait()
        return self.ceiling == 1.0

    async def close(self) -> None:
        """Follow no longer."""
        self.following.cancel()
        await asyncio.gather(self.following, return_exceptions=True)
        await self.redis.close()


@asynccontextmanager
async def gate_process(url: str, folder: Path) -> AsyncIterator[None]:
    """Run the gate loop as a process of its own, as it runs anywhere."""
    environment = {
        variable("redis"): url,
        variable("record"): f"sqlite:///{folder / 'record.db'}",
        variable("state"): str(folder),
    }
    async with Supervisor(folder) as supervisor:
        argv = [sys.executable, "-m", "controllers", "gate"]
        await supervisor.start("gate", argv, env=environment)
        yield


async def reactions_s(spikes: int, redis: Redis, folder: Path) -> list[float]:
    """Measure spikes, each from a quiet, open gate, at any moment of the loop's period.

    From the instant at which an agent publishes the first reading with the spike in it until the
    snapshot of a gateway holds the narrower ceiling. The first spike warms up, and is no measure.
    """
    chance = random.Random(1)
    gateway = _Gateway(redis.url, folder / "gateway.json")
    took: list[float] = []
    try:
        async with gate_process(redis.url, folder):
            for number in range(spikes + 1):
                is_open = False
                while not is_open:  # the loop may just have decided by the spike before
                    await _begin_quiet(redis)
                    await gateway.is_open_soon()
                    await _quietly(redis, PERIOD_S * (1.0 + chance.random()))
                    is_open = gateway.ceiling == 1.0
                began_s = time.monotonic()
                for node in nodes_of(_FLEET, time.time(), wait_s=4.5 * TARGET_S):
                    await redis.publish_reading(node)
                narrowed_s = await gateway.until_narrower_than(1.0)
                if number:
                    took.append(narrowed_s - began_s)
    finally:
        await gateway.close()
    return took


async def _begin_quiet(redis: Redis) -> None:
    """Publish an intent, quiet readings, and a gate that is open and has been for long."""
    now = time.time()
    await _read_quietly(redis)
    versions = (await redis.snapshot()).versions()
    # Ahead of the loop's own, by more than it may publish meanwhile.
    version = next_version(now, max(versions.values(), default=0))
    intent = intent_of(_FLEET, now, version)
    await redis.publish(intent)
    widest = widest_openness(intent.tiers)
    part = GatePart(
        pool=_POOL,
        version=version + 1,
        issued_at=now,
        expires_at=now + 60.0,
        state=GateState.OPEN,
        stale=False,
        openness=widest,
        ceilings=derive_ceilings(widest, intent.tiers),
        moved_at=now - 3600.0,
        reason="a benchmark opened it",
        retry_after_s=1.0,
        safe_share=0.2,
    )
    while not await redis.publish(part):
        part = part.model_copy(update={"version": part.version + 1000})


async def _quietly(redis: Redis, for_s: float) -> None:
    """Go on reading once a period that nothing is the matter."""
    until_s = time.monotonic() + for_s
    while (left_s := until_s - time.monotonic()) > 0.0:
        await asyncio.sleep(min(left_s, PERIOD_S))
        if left_s > PERIOD_S:
            await _read_quietly(redis)


async def _read_quietly(redis: Redis) -> None:
    now = time.time()
    for node in nodes_of(_FLEET, now):
        await redis.publish_reading(node)
    for gateway in gateways_of(_FLEET, now):
        await redis.publish_reading(gateway)
