"""A story on the dev server and its file database, with worker and server killed while it plays."""

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from temporalio.service import RPCError

from controllers.capacity import CapacityLoop
from controllers.gate import GateLoop
from controllers.publisher import Publisher
from embedded.ports import free_ports
from embedded.processes import Supervisor
from embedded.redis import RedisServer, find_redis, start_redis
from embedded.temporal import TemporalDevServer, start_temporal
from rehearsal.telling import AdmissionTeller
from scenarios.assertions import Evidence
from tests.scenarios.skipped import ASK_A_GATEWAY, Played, Shell, Staged, stage, state_of
from tests.workflows.world import KEYS
from tidegate.edges.outbox import Outbox
from tidegate.edges.record import Record
from tidegate.edges.redis import Redis
from tidegate.edges.temporal import ControlPlane, connect
from tidegate.errors import Refused, Unavailable
from tidegate.messages.budget import budget_id
from tidegate.messages.catalogue import CATALOGUE_ID
from tidegate.messages.feature import feature_id
from tidegate.settings import variable

_PLAYS_S: Final = 25.0
"""How long a story takes; what its pools do takes as long as it does."""
_A_KILL_TAKES_S: Final = 8.0
"""From one to the next, with what it takes to recover."""
_STEP_S: Final = 0.5
_ENDS_WITHIN_S: Final = 150.0
_RECOVERS_WITHIN_S: Final = 60.0
_EVENTS_OF_A_STORY: Final = 80


@dataclass(frozen=True, slots=True)
class Kills:
    """`number` of them, of worker and server in turn, at counts of history events by a seed."""

    number: int
    seed: int


@dataclass(frozen=True, slots=True)
class _Stage:
    """What is real while a story plays."""

    supervisor: Supervisor
    plane: ControlPlane
    redis: Redis
    record: Record


async def play_disturbed(name: str, folder: Path, kills: Kills) -> Played:
    """Play a story fast, kill while it plays, and wait until it has come to rest."""
    async with _standing(folder) as real:
        now, plays_s = time.time(), max(_PLAYS_S, _A_KILL_TAKES_S * kills.number)
        speed = stage(name, now).scenario.clock.length_s / plays_s
        staged = stage(name, now, speed=speed)
        shell = Shell(real.plane, folder, staged.plan)
        looping = asyncio.create_task(_run_loops(real, staged, folder))
        killing = asyncio.create_task(_kill(real, kills))
        try:
            for command in staged.scenario.commands:
                await asyncio.sleep(staged.instant(command.at) - time.time())
                if command.run.split()[0] not in ASK_A_GATEWAY:
                    await shell.type(command.run)
            async with asyncio.timeout(_ENDS_WITHIN_S):
                await killing
                while not await real.record.events(types=[staged.scenario.ends_with]):
                    await asyncio.sleep(0.2)
                while await _is_acting(real) or await real.record.gaps():
                    await asyncio.sleep(0.2)
        finally:
            for task in (looping, killing):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        gaps = [str(gap) for gap in await real.record.gaps()]
        evidence = Evidence(await real.record.events(), gaps, staged.declared)
        return Played(evidence, shell.said, staged.scenario, await state_of(real.plane))


@asynccontextmanager
async def _standing(folder: Path) -> AsyncIterator[_Stage]:
    temporal_port, ui_port, redis_port = free_ports(3)
    temporal = TemporalDevServer(temporal_port, ui_port, folder / "temporal.db")
    redis = RedisServer(find_redis(), redis_port)
    record_url = f"sqlite:///{folder / 'record.db'}"
    environment = {
        variable("temporal"): temporal.address,
        variable("redis"): redis.url,
        variable("record"): record_url,
        variable("state"): str(folder),
    }
    async with Supervisor(folder) as supervisor, Redis(redis.url) as client:
        Shell.write_keys(folder)
        await start_temporal(supervisor, temporal)
        await start_redis(supervisor, redis, folder)
        for loop in ("recorder", "worker"):
            argv = [sys.executable, "-m", "controllers", loop]
            await supervisor.start(loop, argv, env=environment, restarts=True)
        plane = await connect(temporal.address, "default", KEYS)
        async with Record(record_url) as record:
            yield _Stage(supervisor, plane, client, record)


async def _run_loops(real: _Stage, staged: Staged, folder: Path) -> None:
    """Have the gate, the capacity loop and the publisher go on, whoever is away."""
    world = staged.world
    sources = ("/controllers/gate", "/controllers/capacity", f"/gateways/{world.gateway.name}")
    outboxes = [
        Outbox(folder / f"{each.rpartition('/')[2]}.outbox", each, real.redis) for each in sources
    ]
    gate = GateLoop(real.redis, outboxes[0])
    capacity = CapacityLoop(real.redis, world.pools, real.plane, outboxes[1])
    teller = AdmissionTeller(world.gateway, outboxes[2], every_s=1.0)
    publisher = Publisher(real.redis, real.plane)
    before = time.time()
    try:
        while True:
            await asyncio.sleep(_STEP_S)
            now, step_s = time.time(), time.time() - before
            before = now
            world.pass_time(now, step_s)
            with suppress(Unavailable):
                for node in world.pools.readings():
                    await real.redis.publish_reading(node)
                await real.redis.publish_reading(world.gateway.reading(now))
                await gate.tick(now)
                await teller.tick(now)
                world.gateway.take(await real.redis.snapshot())
                await publisher.tick(now)
                await capacity.tick(now)
    finally:
        for outbox in outboxes:
            outbox.close()


async def _kill(real: _Stage, kills: Kills) -> None:
    draw = random.Random(kills.seed)
    seen = 0
    for number in range(kills.number):
        # Close enough together that all of them come before the shortest story is over.
        seen += draw.randint(1, max(2, 2 * _EVENTS_OF_A_STORY // kills.number))
        while (length := await _history_length(real)) < seen:
            await asyncio.sleep(0.02)
        seen = length
        victim = ("worker", "temporal")[(number + kills.seed) % 2]
        os.kill(real.supervisor.pids()[victim], signal.SIGKILL)
        async with asyncio.timeout(_RECOVERS_WITHIN_S):
            await _recovered(real)


async def _recovered(real: _Stage) -> None:
    """Return once a worker answers for a workflow again."""
    while True:
        with suppress(Unavailable, Refused):
            await real.plane.catalogue()
            return
        await asyncio.sleep(0.1)


async def _history_length(real: _Stage) -> int:
    lengths = [found.history_length or 0 for found in (await _described(real)).values()]
    return sum(lengths)


async def _is_acting(real: _Stage) -> bool:
    found = await _described(real)
    return any(each.raw_description.pending_activities for each in found.values())


async def _described(real: _Stage) -> Mapping[str, Any]:
    """Describe every workflow of the story that is there; nothing while nobody answers."""
    with suppress(Unavailable, RPCError):
        catalogue = await real.plane.catalogue()
        ids = [CATALOGUE_ID]
        if catalogue is not None:
            declared = catalogue.declared
            ids += [*map(feature_id, declared.features), *map(budget_id, declared.budgets)]
            ids += [*catalogue.holds, *(f"{kind}/{name}" for kind, name in declared.plans())]
        client = real.plane.client
        return {each: await client.get_workflow_handle(each).describe() for each in ids}
    return {}
