"""How an entity lives: for years, run after run, with nothing lost or reset in between."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.outbox import Outbox


async def live(
    outbox: Outbox, *, work: Callable[[], Coroutine[Any, Any, None]] | None = None
) -> None:
    """Deliver events and work in the background until this run's history is long enough.

    Returns when every handler has finished; the caller then continues as new with its state.
    """
    tasks = [asyncio.create_task(outbox.deliver())]
    if work is not None:
        tasks.append(asyncio.create_task(work()))
    await workflow.wait_condition(lambda: workflow.info().is_continue_as_new_suggested())
    await stop(tasks)
    await workflow.wait_condition(workflow.all_handlers_finished)


async def stop(tasks: Sequence[asyncio.Task[None]]) -> None:
    """End background work; what it had under way is done again by whoever goes on."""
    for task in tasks:
        task.cancel()
    # Waited for, because a cancelled act ends in an error that nobody would fetch.
    await asyncio.gather(*tasks, return_exceptions=True)
