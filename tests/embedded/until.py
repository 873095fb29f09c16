"""Waiting for something to become true, with a deadline."""

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable
from pathlib import Path


async def until(
    holds: Callable[[], bool] | Callable[[], Awaitable[bool]], within_s: float = 5.0
) -> None:
    """Return once `holds`, asked every 20 ms; fails the test when it does not in time."""
    deadline_at = asyncio.get_running_loop().time() + within_s
    while True:
        answer = holds()
        if await answer if inspect.isawaitable(answer) else answer:
            return
        assert asyncio.get_running_loop().time() < deadline_at, f"not so within {within_s} s"
        await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that ended and was not yet collected does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
