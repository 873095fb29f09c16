"""The control plane in processes of its own: Temporal, Redis, a worker, a recorder, a shell."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from embedded.ports import free_ports
from embedded.processes import Supervisor
from embedded.redis import RedisServer, find_redis, start_redis
from embedded.temporal import TemporalDevServer, start_temporal
from tests.controllers.test_processes import polled_by
from tests.embedded.until import until
from tests.house.checkout import ROOT
from tidegate.edges.record import Record
from tidegate.edges.temporal import ControlPlane, connect
from tidegate.events import Event
from tidegate.settings import variable
from tidegate.signing import load_keyring


@dataclass
class Stack:
    """What runs, and what a person may type at it."""

    supervisor: Supervisor
    environment: Mapping[str, str]
    folder: Path
    record_url: str
    plane: ControlPlane
    workers: int = 0
    restarts: bool = False
    """Whether a worker that dies is started again, by itself."""

    async def types(self, *words: str, **settings: str) -> tuple[int, str]:
        """Type a command; returns its exit code and what it printed."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tidegate", *words),
            cwd=ROOT,
            env={
                **os.environ,
                **self.environment,
                **_variables(settings),
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 30.0)
        assert process.returncode is not None
        return process.returncode, output.decode().strip()

    async def applies(self, text: str) -> tuple[int, str]:
        path = self.folder / "plan.yaml"
        path.write_text(text, encoding="utf-8")
        return await self.types("apply", "-f", str(path), "--by", "ada")

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        """Run the publisher, so that gateways hear what is typed."""
        argv = [sys.executable, "-m", "controllers", "publisher"]
        await self.supervisor.start("publisher", argv, env=self.environment)
        try:
            yield
        finally:
            await self.supervisor.stop("publisher")

    async def start_worker(self, **settings: str) -> None:
        """Start a worker, and return when it asks for work."""
        self.workers += 1
        argv = [sys.executable, "-m", "controllers", "worker"]
        env = {**self.environment, **_variables(settings)}
        await self.supervisor.start(self.worker, argv, env=env, restarts=self.restarts)
        await until(polled_by(self.plane.client, self.supervisor.pids()[self.worker]), 20.0)

    def kill_worker(self) -> None:
        """End the worker as a lost node does: at once, with whatever it has in hand."""
        os.kill(self.supervisor.pids()[self.worker], signal.SIGKILL)

    async def recorded(self, *, subject: str) -> list[Event]:
        """Return the events about a subject that the recorder has written."""
        async with Record(self.record_url) as record:
            return await record.events(subject=subject)

    @property
    def worker(self) -> str:
        return f"worker-{self.workers}"


@asynccontextmanager
async def control_plane(folder: Path, *, restarts: bool = False) -> AsyncIterator[Stack]:
    """Start everything, and one worker, which is started again when it dies where it `restarts`."""
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
    async with Supervisor(folder) as supervisor:
        await start_temporal(supervisor, temporal)
        await start_redis(supervisor, redis, folder)
        argv = [sys.executable, "-m", "controllers", "recorder"]
        await supervisor.start("recorder", argv, env=environment, restarts=True)
        plane = await connect(temporal.address, "default", load_keyring(folder / "keys.json"))
        stack = Stack(supervisor, environment, folder, record_url, plane, restarts=restarts)
        await stack.start_worker()
        yield stack


def _variables(settings: Mapping[str, str]) -> dict[str, str]:
    return {variable(name): value for name, value in settings.items()}
