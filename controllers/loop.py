"""How a loop runs: tick, then wait for an event, with a period as the backstop."""

import asyncio
import contextlib
import gc
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from tidegate.errors import Unavailable

log = structlog.get_logger()


def collect_rarely() -> None:
    """Have Python look for cycles less often in this process.

    A tick reads a whole fleet anew, and drops it without a cycle in it: by default the collector
    would look at all of it several times a tick, and take half of the time.
    """
    gc.set_threshold(50_000, 20, 20)


class Controller(Protocol):
    """A loop: observe, decide, act, at an instant that is given."""

    async def tick(self, now: float) -> object:
        """Do one round at `now`, in seconds since the epoch; raises Unavailable."""
        ...


async def run(
    name: str,
    controller: Controller,
    *,
    period_s: float,
    wake: Callable[[float], Awaitable[object]] | None = None,
    stopping: asyncio.Event | None = None,
) -> None:
    """Tick until told to stop; `wake(wait_s)` returns early when something has happened.

    Loops that share a process share `stopping`; alone, a loop stops on SIGTERM and SIGINT.
    What cannot be reached is logged when it goes and when it comes back, and tried again.
    """
    stopping = stopping or stops_on_signals()
    reachable = True
    while not stopping.is_set():
        began = time.monotonic()
        try:
            await controller.tick(time.time())
            if not reachable:
                log.info("loop.recovered", loop=name)
            reachable = True
        except Unavailable as error:
            if reachable:
                log.warning("loop.held", loop=name, code=error.code, reason=str(error))
            reachable = False
        left_s = max(0.01, period_s - (time.monotonic() - began))
        await _either(stopping, left_s, wake if reachable else None)


async def run_beside(
    name: str, controller: Controller, *, period_s: float, stopping: asyncio.Event
) -> None:
    """Run a loop that shares its process with one that must not end by a fault of this one."""
    while not stopping.is_set():
        try:
            await run(name, controller, period_s=period_s, stopping=stopping)
        except Exception:
            log.exception("loop.broken", loop=name, then="it begins again")
            await _either(stopping, 10.0 * period_s, None)


async def _either(
    stopping: asyncio.Event, wait_s: float, wake: Callable[[float], Awaitable[object]] | None
) -> None:
    waits: set[asyncio.Task[object]] = {asyncio.create_task(stopping.wait())}
    if wake is not None:
        waits.add(asyncio.create_task(_woken(wake, wait_s)))
    _, pending = await asyncio.wait(waits, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    for task in waits:
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _woken(wake: Callable[[float], Awaitable[object]], wait_s: float) -> None:
    try:
        await wake(wait_s)
    except Unavailable:
        # The tick says so; an end at once would have it ask without a pause.
        await asyncio.sleep(wait_s)


async def until_stopped() -> None:
    """Wait for SIGTERM or SIGINT."""
    await stops_on_signals().wait()


def stops_on_signals() -> asyncio.Event:
    """Return what is set when SIGTERM or SIGINT comes."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping
