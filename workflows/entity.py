"""How an entity lives: for years, run after run, with nothing lost or reset in between."""

import asyncio
from collections.abc import Awaitable, Callable

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.outbox import Outbox


async def live(outbox: Outbox, *, work: Callable[[], Awaitable[None]] | None = None) -> None:
    """Deliver events and work in the background until this run's history is long enough.

    Returns when every handler has finished; the caller then continues as new with its state.
    """
    tasks = [asyncio.create_task(outbox.deliver())]
    if work is not None:
        tasks.append(asyncio.ensure_future(work()))
    await workflow.wait_condition(lambda: workflow.info().is_continue_as_new_suggested())
    await workflow.wait_condition(workflow.all_handlers_finished)
    for task in tasks:
        task.cancel()
