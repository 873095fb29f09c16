"""Everything that a story is played on: real servers, the loops, a gateway, local pools."""

import asyncio
import ctypes.util
import dataclasses
import hashlib
import json
import os
import secrets
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from embedded.nvml.build import STATE_SETTING, build
from embedded.ports import free_ports
from embedded.processes import Supervisor
from embedded.readiness import serves_http
from embedded.redis import RedisServer, find_redis, start_redis
from embedded.temporal import TemporalDevServer, start_temporal
from scenarios.ground import Ground
from tidegate.readings import Absent
from tidegate.settings import cache_folder, variable

_LOOPS: Final = ("worker", "recorder", "publisher", "capacity", "gate", "agent")

_READY_WITHIN_S: Final = 45.0
"""Seconds are enough, but not on a machine that does much else."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where people and programs find what was started."""

    temporal: str
    temporal_ui: str
    redis: str
    record: str
    pools: str
    gateway: str
    console: str


_CALLERS: Final = "callers.json"


class Stack:
    """Starts what a story needs under one folder, and ends all of it."""

    def __init__(self, folder: Path, ground: Ground, *, redis: Path | None = None) -> None:
        self.ground = ground
        self.folder = folder.resolve()
        self.supervisor = Supervisor(self.folder)
        self._nvml = _stand_in()
        self.api_key = secrets.token_urlsafe()
        """What those who ask the gateway in the story's name vouch for tiers with."""
        ports = free_ports(5)
        self._temporal = TemporalDevServer(ports[0], ports[1], self.folder / "temporal.db")
        self._redis = RedisServer(redis or find_redis(), ports[2])
        self._ports = dict(zip(("gateway", "console"), ports[3:], strict=True))
        self.addresses = Addresses(
            temporal=self._temporal.address,
            temporal_ui=self._temporal.ui_url,
            redis=self._redis.url,
            record=f"sqlite:///{self.folder / 'record.db'}",
            pools=ground.pools,
            gateway=self._url("gateway"),
            console=self._url("console"),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.supervisor.stop_all()

    async def start(self) -> None:
        """Start the servers, then what runs on them; raises Unavailable when one does not come."""
        # For whoever wants to look, or to disturb, from outside.
        found = json.dumps(dataclasses.asdict(self.addresses), indent=2)
        (self.folder / "addresses.json").write_text(found, encoding="utf-8")
        digest = hashlib.sha256(self.api_key.encode()).hexdigest()
        callers = {"apiKeys": [{"name": "story", "sha256": digest}]}
        (self.folder / _CALLERS).write_text(json.dumps(callers), encoding="utf-8")
        async with asyncio.TaskGroup() as starting:
            starting.create_task(start_temporal(self.supervisor, self._temporal))
            starting.create_task(start_redis(self.supervisor, self._redis, self.folder))
            starting.create_task(self.ground.start(self.supervisor, self._settings()))
        async with asyncio.TaskGroup() as starting:
            for loop in _LOOPS:
                starting.create_task(self._python(loop, "controllers", loop))
            gateway, console = self.addresses.gateway, self.addresses.console
            port = str(self._ports["gateway"])
            starting.create_task(
                self._python("gateway", "gateway", "--port", port, ready=f"{gateway}/healthz")
            )
            starting.create_task(self._python("console", "console", ready=console))

    async def start_crowd(self, order: Path) -> None:
        """Let the crowd in."""
        await self._python("crowd", "scenarios.crowd", str(order))

    def environment(self) -> dict[str, str]:
        """Return the settings that every process of the story gets."""
        return {**self._settings(), **self.ground.environment()}

    def _settings(self) -> dict[str, str]:
        given = {name: getattr(self.addresses, name) for name in Addresses.__slots__}
        settings = {variable(name): value for name, value in given.items()}
        settings[variable("state")] = str(self.folder)
        settings[variable("callers")] = str(self.folder / _CALLERS)
        settings[variable("api_key")] = self.api_key
        if self._nvml is not None:
            settings[variable("nvml")] = str(self._nvml)
            settings[STATE_SETTING] = str(self.folder / "gpus")
        return settings

    async def _python(self, name: str, module: str, *arguments: str, ready: str = "") -> None:
        await self.supervisor.start(
            name,
            [sys.executable, "-m", module, *arguments],
            env=self.environment(),
            ready=_serves(ready) if ready else None,
            ready_within_s=_READY_WITHIN_S,
            restarts=name != "crowd",
        )

    def _url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}"


def _stand_in() -> Path | None:
    """Return the library that stands in for a GPU's; None where a card's own is there."""
    if ctypes.util.find_library("nvidia-ml"):
        return None
    built = build(cache_folder(os.environ))
    return None if isinstance(built, Absent) else built


def _serves(url: str) -> Callable[[], Awaitable[bool]]:
    async def ready() -> bool:
        return await serves_http(url)

    return ready
