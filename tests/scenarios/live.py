"""A demo as a user starts it, watched and disturbed from outside."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from tests.embedded.until import is_alive
from tidegate.edges.record import Record
from tidegate.errors import Unavailable
from tidegate.events import Event

ROOT: Final = Path(__file__).parents[2]
ENDS_WITHIN_S: Final = 180.0


class LiveDemo:
    """One run of the demo in a folder of its own; use it with `async with`."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder / "demo"
        self.log = folder / "demo.log"
        self._environment = {**os.environ, "HEADLESS": "1", **environment}
        self._process: asyncio.subprocess.Process | None = None
        self.pids_seen: set[int] = set()

    async def __aenter__(self) -> Self:
        arguments = ["-m", "scenarios.demo", "--folder", str(self.folder)]
        with self.log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *arguments, env=self._environment, cwd=ROOT, stdout=log, stderr=log
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGINT)
            await asyncio.wait_for(self._process.wait(), 60.0)

    async def ends(self) -> int:
        """Wait for the end and return the exit code."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), ENDS_WITHIN_S)

    def send(self, number: signal.Signals) -> None:
        """Send the demo itself a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def pids(self) -> dict[str, int]:
        """Return what runs now, by name; empty before anything does."""
        try:
            found: dict[str, int] = json.loads((self.folder / "processes.json").read_text())
        except FileNotFoundError:
            return {}
        self.pids_seen |= set(found.values())
        return found

    def addresses(self) -> dict[str, str]:
        """Return where everything listens."""
        found: dict[str, str] = json.loads((self.folder / "addresses.json").read_text())
        return found

    def kill(self, name: str) -> int:
        """Kill a process, as a lost machine would; returns its id."""
        pid = self.pids()[name]
        os.kill(pid, signal.SIGKILL)
        return pid

    async def until_recorded(
        self, event_type: str, matches: Callable[[Event], bool] = lambda _: True
    ) -> Event:
        """Wait until an event is in the record."""
        deadline = time.monotonic() + ENDS_WITHIN_S
        while time.monotonic() < deadline:
            self.pids()
            for event in await self.recorded(event_type):
                if matches(event):
                    return event
            assert self._process is not None
            assert self._process.returncode is None, f"the demo ended early:\n{self.output()}"
            await asyncio.sleep(0.1)
        raise AssertionError(f"{event_type} was not recorded in time:\n{self.output()}")

    async def recorded(self, *types: str) -> list[Event]:
        """Return the events recorded so far."""
        if not (self.folder / "record.db").exists():
            return []
        async with Record(f"sqlite:///{self.folder / 'record.db'}") as record:
            try:
                return await record.events(types=types)
            except Unavailable:  # its tables are being made
                return []

    def output(self) -> str:
        """Return what the demo printed."""
        return self.log.read_text()

    def left_behind(self, addresses: Mapping[str, str]) -> list[str]:
        """Name every process that still runs and every port that still listens."""
        alive = [f"process {pid}" for pid in sorted(self.pids_seen) if is_alive(pid)]
        listening = [
            f"port {port}"
            for address in addresses.values()
            if (port := urlsplit(address if "//" in address else f"//{address}").port)
            and _listens(port)
        ]
        return alive + listening


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
