"""A child process that never outlives this one."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, Self

from tidegate.errors import Broken

_TETHER: Final = Path(__file__).with_name("tether.py")
_LOG_TAIL_BYTES: Final = 4096


class Child:
    """One process in a group of its own, with both its outputs in one log file."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self.log = log

    @classmethod
    async def spawn(cls, argv: Sequence[str | Path], *, env: Mapping[str, str], log: Path) -> Self:
        """Start `argv` with `env` added to this process's environment.

        Raises Broken outside the main thread: Linux ties a child to the thread that made it, so
        a child of any other thread could die in the middle of its work.
        """
        if threading.current_thread() is not threading.main_thread():
            raise Broken(
                f"{argv[0]}: started from thread {threading.current_thread().name!r}, expected "
                "the main thread. Run the event loop that starts processes there.",
                code="not_main_thread",
            )
        with _append(log) as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", _TETHER, str(os.getpid()), *argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **env},
            )
        return cls(process, log)

    @property
    def pid(self) -> int:
        """The process's id, which is its group's as well."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, minus the signal's number for a killed one, None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait for the end and return the exit code."""
        return await self._process.wait()

    async def end(self, *, grace_s: float) -> None:
        """Ask the process to end, and after `grace_s` kill it with its whole group."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.wait(), grace_s)
        # Also after a gentle end: what it may have left in its group ends with it.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        if self.exit_code is None:
            with suppress(ProcessLookupError):
                self._process.kill()
        await self.wait()

    def log_tail(self, lines: int = 5) -> str:
        """Return the last lines written, or a word saying that there are none."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
                text = log.read().decode(errors="replace")
        except OSError:
            text = ""
        return "\n".join(text.strip().splitlines()[-lines:]) or "(nothing)"


def _append(log: Path) -> BinaryIO:
    log.parent.mkdir(parents=True, exist_ok=True)
    return log.open("ab")
