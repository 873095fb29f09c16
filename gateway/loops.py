"""The gateway's loops beside its requests: a fault of one ends neither it nor the process."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

_log = structlog.get_logger(__name__)

AGAIN_IN_S: Final = 1.0


async def keep_running(
    name: str, run: Callable[[], Awaitable[None]], *, again_in_s: float = AGAIN_IN_S
) -> None:
    """Run a loop until cancelled; after a fault, told once, it begins again `again_in_s` later.

    Requests are answered from memory, so none of them needs a loop that is at fault.
    """
    told = ""
    while True:
        try:
            await run()
        except Exception as error:  # noqa: BLE001 - whatever it is, requests are answered
            if repr(error) != told:
                _log.exception("loop.broken", loop=name, then="requests are answered")
            told = repr(error)
        # A fault in the last act of a loop that is cancelled stands in the cancellation's place.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            return
        await asyncio.sleep(again_in_s)
