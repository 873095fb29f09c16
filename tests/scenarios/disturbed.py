"""A story on the dev server and its file database, with worker and server killed while it plays."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from temporalio.service import RPCError

from controllers.capacity import CapacityLoop
from controllers.gate import GateLoop
from controllers.publisher import Publisher
from rehearsal.telling import AdmissionTeller
from scenarios.assertions import Evidence
from scenarios.scenario import ScenarioSpec
from tests.embedded.until import until
from tests.integration.control_plane import Stack, control_plane
from tests.scenarios.skipped import (
    ASK_A_GATEWAY,
    Played,
    Shell,
    Staged,
    stage,
    state_of,
    transitions,
)
from tidegate.edges.outbox import Outbox
from tidegate.edges.preview_keys import PreviewKeys
from tidegate.edges.record import Record
from tidegate.edges.redis import Redis
from tidegate.edges.temporal import ControlPlane
from tidegate.errors import Unavailable
from tidegate.settings import variable

_PLAYS_S: Final = 25.0
"""How long a story takes; what its pools do takes as long as it does."""
_BETWEEN_KILLS_S: Final = 15.0
"""With what it takes to recover. Later, and a timer that it should have come before has run out."""
_STEP_S: Final = 0.5
_ENDS_WITHIN_S: Final = 150.0
_RECOVERS_WITHIN_S: Final = 60.0
_KILLED_UNTIL: Final = 0.8
"""The share of a story in which it is killed."""
_EVENTS_OF_A_STORY: Final = 80
_EVENTS_UNTIL_A_KILL: Final = 16
_FEW: Final = 3


@dataclass(frozen=True, slots=True)
class Kills:
    """`number` of them, of worker and server in turn, after numbers of history events by a seed."""

    number: int
    seed: int


@dataclass(frozen=True, slots=True)
class _Stage:
    """What is real while a story plays."""

    stack: Stack
    redis: Redis
    record: Record

    @property
    def plane(self) -> ControlPlane:
        return self.stack.plane


async def play_disturbed(
    name: str, folder: Path, kills: Kills, before: Sequence[Counter[tuple[object, ...]]]
) -> Played:
    """Play a story fast, kill while it plays, and wait until it has come to rest.

    Whoever types a command has seen what was told `before` it: what a kill makes late, they wait
    for, as a person would who acts on what happened.
    """
    async with _standing(folder) as real:
        plays_s = _PLAYS_S if kills.number <= _FEW else _BETWEEN_KILLS_S * kills.number
        now = time.time()
        speed = stage(name, now).scenario.clock.length_s / plays_s
        staged = stage(name, now, speed=speed)
        shell = Shell(real.plane, folder, staged)
        # Whatever ends one of these ends the story, with its reason.
        async with asyncio.TaskGroup() as group:
            looping = group.create_task(_run_loops(real, staged, folder))
            killing = group.create_task(_kill(real, kills, plays_s))
            for command, told in zip(staged.scenario.commands, before, strict=True):
                await asyncio.sleep(staged.instant(command.at) - time.time())
                await _until_told(real, told)
                if command.run.split()[0] not in ASK_A_GATEWAY:
                    await shell.type(command)
            await killing
            await until(partial(_has_ended, real, staged.scenario), _ENDS_WITHIN_S)
            looping.cancel()
        gaps = [str(gap) for gap in await real.record.gaps()]
        evidence = Evidence(await real.record.events(), gaps, staged.declared)
        return Played(evidence, shell.said, staged.scenario, await state_of(real.plane))


@asynccontextmanager
async def _standing(folder: Path) -> AsyncIterator[_Stage]:
    Shell.write_keys(folder)
    async with (
        control_plane(folder, restarts=True) as stack,
        Redis(stack.environment[variable("redis")]) as redis,
        Record(stack.record_url) as record,
    ):
        yield _Stage(stack, redis, record)


async def _until_told(real: _Stage, expected: Counter[tuple[object, ...]]) -> None:
    """Wait until all of this is recorded; fails the test with what is not, and who does what."""

    async def has_told() -> bool:
        return not expected or transitions(await real.record.events()) >= expected

    try:
        await until(has_told, _ENDS_WITHIN_S)
    except AssertionError as error:
        told = transitions(await real.record.events())
        error.add_note(f"not told: {sorted(map(str, expected - told))}")
        for name, found in (await _described(real)).items():
            error.add_note(f"{name}: {found.raw_description.pending_activities}")
        raise


async def _has_ended(real: _Stage, scenario: ScenarioSpec) -> bool:
    """Say whether the last event is recorded, and all that was told, and nobody does anything."""
    if not scenario.has_ended(await real.record.events()):
        return False
    return not (await _is_acting(real) or await real.record.gaps())


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
    publisher = Publisher(real.redis, real.plane, PreviewKeys(folder / "previews"))
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


async def _kill(real: _Stage, kills: Kills, plays_s: float) -> None:
    """Kill after some events more: a few in quick succession, many all through the story."""
    draw = random.Random(kills.seed)
    began_at, apart_s = time.time(), _KILLED_UNTIL * plays_s / kills.number
    seen = 0
    for number in range(kills.number):
        if kills.number > _FEW:
            await asyncio.sleep(began_at + number * apart_s - time.time())
            seen = await _history_length(real)
        seen += draw.randint(1, max(_EVENTS_UNTIL_A_KILL, 2 * _EVENTS_OF_A_STORY // kills.number))
        with suppress(AssertionError):  # where little happens it is killed all the same
            await until(partial(_has_events, real, seen), max(apart_s, _PLAYS_S))
        seen = await _history_length(real)
        victim = (real.stack.worker, "temporal")[(number + kills.seed) % 2]
        os.kill(real.stack.supervisor.pids()[victim], signal.SIGKILL)
        await until(partial(_is_answered, real), _RECOVERS_WITHIN_S)


async def _is_answered(real: _Stage) -> bool:
    """Say whether a worker answers for a workflow."""
    try:
        await real.plane.catalogue()
    except Unavailable:
        return False
    return True


async def _history_length(real: _Stage) -> int:
    lengths = [found.history_length or 0 for found in (await _described(real)).values()]
    return sum(lengths)


async def _has_events(real: _Stage, number: int) -> bool:
    return await _history_length(real) >= number


async def _is_acting(real: _Stage) -> bool:
    found = await _described(real)
    return any(each.raw_description.pending_activities for each in found.values())


async def _described(real: _Stage) -> Mapping[str, Any]:
    """Describe every workflow of the story that is there; nothing while nobody answers."""
    with suppress(Unavailable, RPCError):
        catalogue = await real.plane.catalogue()
        ids = [] if catalogue is None else catalogue.workflow_ids()
        client = real.plane.client
        return {each: await client.get_workflow_handle(each).describe() for each in ids}
    return {}
