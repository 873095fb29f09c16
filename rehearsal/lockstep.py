"""Lockstep: time moves one step, then world, loops and workflows catch up with it, in turn."""

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from activities.measure import Measure
from controllers.capacity import CapacityLoop
from controllers.gate import GateLoop
from controllers.publisher import Publisher
from controllers.recorder import Recorder
from controllers.surges import Surges
from controllers.worker import make_worker
from rehearsal.quiet import Quiet
from rehearsal.telling import AdmissionTeller
from rehearsal.world import Servers, World
from tidegate.cli.applying import Applicant, apply_file
from tidegate.edges.files import load_manifests
from tidegate.edges.outbox import Outbox
from tidegate.edges.preview_keys import PreviewKeys
from tidegate.edges.prometheus import Prometheus
from tidegate.edges.record import Gap, Record
from tidegate.events import Event
from tidegate.manifests import Manifests
from tidegate.messages.catalogue import CATALOGUE_ID

STEP_S: Final = 29.0
"""Plans are written in whole minutes. A step that divides none of them keeps their instants
between two steps: one that fell on a step would come before it in one run, and after it in the
next.
"""

_RECORDED_WITHIN_S: Final = 10.0
_RECORD_EVERY_S: Final = 0.01


class Lockstep:
    """One rehearsal; `now` is in seconds since the epoch and moves in `step` alone.

    Outboxes and record live in `folder`, and the worker in this process. Raises Broken from any
    step after which the workflows do not come to rest.
    """

    def __init__(
        self, servers: Servers, world: World, folder: Path, *, now: float, step_s: float = STEP_S
    ) -> None:
        self.now = now
        self.world = world
        self.plane = servers.plane
        self._step_s = step_s
        self._folder = folder
        self._time = servers.time
        self._redis = servers.redis
        self._running = AsyncExitStack()
        self._ids = [CATALOGUE_ID]
        self._previews = PreviewKeys(folder / "previews")
        self._record = Record(f"sqlite:///{folder / 'record.db'}")
        self._running.callback(self._record.close)
        sources = ("/controllers/gate", "/controllers/capacity", f"/gateways/{world.gateway.name}")
        self._outboxes = tuple(map(self._open_outbox, sources))
        gate, capacity, gateway = self._outboxes
        self._gate = GateLoop(self._redis, gate)
        self._capacity = CapacityLoop(self._redis, world.pools, self.plane, capacity)
        self._surges = Surges(self._redis, self.plane)
        self._teller = AdmissionTeller(world.gateway, gateway)
        self._publisher = Publisher(self._redis, self.plane, self._previews)
        self._read_at = self.now
        # Readings are made at the steps, so what looks at them between two must not find them old.
        self._measure = Measure(self._redis, Prometheus(None), lambda: self._read_at)
        self._recorder = Recorder(self._redis, self._record)
        self._quiet = Quiet(self.plane, lambda: self._recorder.tick(self.now))

    async def __aenter__(self) -> Self:
        await self._running.enter_async_context(
            make_worker(
                self.plane, self._redis, self._previews, linger_s=0.0, measure=self._measure
            )
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._running.aclose()

    async def apply(self, plan: Path, *, by: str) -> Manifests:
        """Apply a file of manifests at this instant, as a person would; raises PlanError."""
        await self._skip_to(self.now)
        await self._recorder.tick(self.now)
        await apply_file(self.plane, plan, Applicant(by))
        await self._come_to_rest()
        return load_manifests(plan)

    async def act(self, deed: Awaitable[object]) -> None:
        """Let a person do something at this instant; returns when all that follows is done."""
        await self._skip_to(self.now)
        acting = asyncio.ensure_future(deed)
        while not acting.done():  # what is done may wait until something told is recorded
            await self._recorder.tick(self.now)
            await asyncio.wait({acting}, timeout=_RECORD_EVERY_S)
        await acting
        await self._come_to_rest()

    async def play_until(self, at: float) -> None:
        """Step until an instant, in seconds since the epoch, has come."""
        while self.now < at:
            await self.step()

    async def step(self) -> None:
        """Move time by one step, and let everything catch up in one fixed order.

        Timers of workflows that are due within the step have fired before the loops look; what
        the loops tell the workflows has had its effect before the intent is published; and what
        is published holds for the requests of the next step.
        """
        self.now += self._step_s
        await self._skip_to(self.now)
        await self._quiet.until(self._ids)
        self.world.pass_time(self.now, self._step_s)
        self._read_at = self.now
        for node in self.world.pools.readings():
            await self._redis.publish_reading(node)
        await self._redis.publish_reading(self.world.gateway.reading(self.now))
        await self._gate.tick(self.now)
        await self._surges.tick(self.now)
        await self._capacity.tick(self.now)
        await self._teller.tick(self.now)
        await self._quiet.until(self._ids)
        await self._publisher.tick(self.now)
        self.world.gateway.take(await self._redis.snapshot())

    async def recorded(self) -> Sequence[Event]:
        """Return all that is recorded by now."""
        await self._recorder.tick(self.now)
        return await self._record.events()

    async def finish(self) -> tuple[Sequence[Event], Sequence[Gap]]:
        """Tell what is left to tell, and return all that was recorded, and what is missing in it.

        Raises TimeoutError where something told is never recorded.
        """
        await self._teller.tick(self.now, at_once=True)
        async with asyncio.timeout(_RECORDED_WITHIN_S):
            while await self._waiting():
                await self._recorder.tick(self.now)
        return await self._record.events(), await self._record.gaps()

    async def _come_to_rest(self) -> None:
        """Wait for every workflow that is known by now."""
        catalogue = await self.plane.catalogue()
        if catalogue is not None:
            # A hold that was released is forgotten there, and may still be at work.
            self._ids = list(dict.fromkeys([*catalogue.workflow_ids(), *self._ids]))
        await self._quiet.until(self._ids)

    async def _waiting(self) -> int:
        """Count what loops and gateway have told and nobody has recorded yet."""
        at = datetime.fromtimestamp(self.now, UTC)
        return sum([await outbox.tick(at) for outbox in self._outboxes])

    async def _skip_to(self, at: float) -> None:
        # The server's clock also runs while it waits for us: to an instant, not by a length.
        left_s = at - (await self._time.get_current_time()).timestamp()
        if left_s <= 0.0:
            return
        sleeping = asyncio.ensure_future(self._time.sleep(left_s))
        try:
            # A timer on the way may have a workflow tell something, and time waits until that is
            # recorded: so the recorder goes on meanwhile.
            while not (await asyncio.wait({sleeping}, timeout=_RECORD_EVERY_S))[0]:
                await self._recorder.tick(self.now)
            await sleeping
        finally:
            sleeping.cancel()

    def _open_outbox(self, source: str) -> Outbox:
        path = self._folder / f"{source.rpartition('/')[2]}.outbox"
        outbox = Outbox(path, source, self._redis)
        self._running.callback(outbox.close)
        return outbox
