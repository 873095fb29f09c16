"""How an entity lives: for years, run after run, with nothing lost or reset in between."""

import asyncio
from collections.abc import Callable, Coroutine
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
    # Kept, so that nothing collects them; and never cancelled, because cancelling a signal in the
    # task that brings its answer fails that task for ever. The next run does what is under way.
    tasks = [asyncio.create_task(outbox.deliver())]
    if work is not None:
        tasks.append(asyncio.create_task(work()))
    await workflow.wait_condition(lambda: workflow.info().is_continue_as_new_suggested())
    await workflow.wait_condition(workflow.all_handlers_finished)
