"""The processes of one embedded installation, started in order and ended in reverse."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog

from embedded.children import Child
from tidegate.errors import Broken, Unavailable

_log = structlog.get_logger(__name__)

Ready = Callable[[], Awaitable[bool]]
"""Says whether a process serves yet; a refused connection or a time-out counts as no."""

_POLL_S: Final = 0.05
_ONE_CHECK_S: Final = 2.0
_BACK_OFF_FIRST_S: Final = 0.1
_BACK_OFF_MOST_S: Final = 2.0
_HEALTHY_AFTER_S: Final = 10.0
"""A process that lived this long is started again at once when it dies."""


@dataclass(slots=True)
class _Supervised:
    name: str
    argv: tuple[str | Path, ...]
    env: Mapping[str, str]
    restarts: bool
    child: Child
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a child is started or ended, so that a restart never races a stop."""
    keeper: asyncio.Task[None] | None = None


class Supervisor:
    """Starts processes by name, restarts those that should not die, and leaves none behind.

    `state_dir/logs/NAME.log` holds what each wrote, `state_dir/processes.json` the process id of
    each one that runs. Even when this process is killed, on Linux its children die with it.
    """

    def __init__(self, state_dir: Path, *, grace_s: float = 5.0) -> None:
        state_dir.mkdir(parents=True, exist_ok=True)
        self._state_dir = state_dir
        self._grace_s = grace_s
        self._processes: dict[str, _Supervised] = {}

    async def __aenter__(self) -> Self:
        """Return the supervisor itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop everything, however the block ended."""
        await self.stop_all()

    async def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        ready: Ready | None = None,
        ready_within_s: float = 15.0,
        restarts: bool = False,
    ) -> None:
        """Start `argv` with `env` added to this environment, and wait until it is ready.

        With `restarts`, a process that dies is started again: at once, then after 0.1 s doubling
        to 2 s. Raises Unavailable, with the end of its log, when it ends or is not ready in time.
        """
        if name in self._processes:
            raise Broken(f'process "{name}" is started already. Stop it first.', code="started")
        variables = dict(env or {})
        child = await Child.spawn(argv, env=variables, log=self.log_of(name))
        process = _Supervised(name, tuple(argv), variables, restarts, child)
        self._processes[name] = process
        self._write_pids()
        if ready is not None:
            try:
                await _until_ready(process, ready, ready_within_s)
            except Unavailable:
                await self.stop(name)
                raise
        process.keeper = asyncio.create_task(self._keep(process), name=f"keep {name}")

    async def stop(self, name: str) -> None:
        """End one process: SIGTERM, and SIGKILL for its group after the grace; unknown is fine."""
        process = self._processes.get(name)
        if process is None:
            return
        process.stopping.set()
        async with process.changing:
            await process.child.end(grace_s=self._grace_s)
        if process.keeper is not None:
            await process.keeper
        self._processes.pop(name, None)
        self._write_pids()

    async def stop_all(self) -> None:
        """End every process, the last started first."""
        for name in reversed(tuple(self._processes)):
            await self.stop(name)

    def pids(self) -> dict[str, int]:
        """Return the process id of each one that runs."""
        return {
            name: process.child.pid
            for name, process in self._processes.items()
            if process.child.exit_code is None
        }

    def log_of(self, name: str) -> Path:
        """Say where a process's output goes."""
        return self._state_dir / "logs" / f"{name}.log"

    async def _keep(self, process: _Supervised) -> None:
        back_off_s = 0.0
        while True:
            began_at = asyncio.get_running_loop().time()
            exit_code = await process.child.wait()
            self._write_pids()
            if process.stopping.is_set():
                return
            _log.warning("process.ended", process=process.name, exit_code=exit_code)
            if not process.restarts:
                return
            if asyncio.get_running_loop().time() - began_at >= _HEALTHY_AFTER_S:
                back_off_s = 0.0
            if not await self._started_again(process, back_off_s):
                return
            back_off_s = min(max(_BACK_OFF_FIRST_S, back_off_s * 2), _BACK_OFF_MOST_S)

    async def _started_again(self, process: _Supervised, after_s: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(process.stopping.wait(), after_s)
        async with process.changing:
            if process.stopping.is_set():
                return False
            process.child = await Child.spawn(process.argv, env=process.env, log=process.child.log)
        self._write_pids()
        _log.info("process.restarted", process=process.name, pid=process.child.pid)
        return True

    def _write_pids(self) -> None:
        """Write the table in one step, so that whoever reads it sees a whole one."""
        target = self._state_dir / "processes.json"
        partial = target.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps(self.pids(), indent=2) + "\n")
        partial.replace(target)


async def _until_ready(process: _Supervised, ready: Ready, within_s: float) -> None:
    deadline_at = asyncio.get_running_loop().time() + within_s
    child = process.child
    is_ready = False
    while not is_ready:
        is_ready = await _answers(ready)
        # Even after a yes: it may have come from somebody else, on the port that ours found busy.
        if child.exit_code is not None:
            raise Unavailable(
                f'process "{process.name}" ended with exit code {child.exit_code} while starting. '
                f"Its log {child.log} ends:\n{child.log_tail()}",
                code="process_ended",
            )
        if not is_ready and asyncio.get_running_loop().time() >= deadline_at:
            raise Unavailable(
                f'process "{process.name}" was not ready within {within_s:g} s. '
                f"Its log {child.log} ends:\n{child.log_tail()}",
                code="process_not_ready",
            )
        if not is_ready:
            await asyncio.sleep(_POLL_S)


async def _answers(ready: Ready) -> bool:
    try:
        return await asyncio.wait_for(ready(), _ONE_CHECK_S)
    except (OSError, TimeoutError, Unavailable):
        return False
