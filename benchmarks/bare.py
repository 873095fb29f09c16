"""The barest workflow with one update, and its worker: `python -m benchmarks.bare ADDRESS`."""

import asyncio
import sys
from datetime import timedelta
from typing import Final

from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import Worker

QUEUE: Final = "bare"


@workflow.defn(name="Bare")
class Bare:
    """Remembers the last thing it was told."""

    def __init__(self) -> None:
        self.told = ""

    @workflow.run
    async def run(self) -> None:
        """Live until a thousand years have passed."""
        await workflow.wait_condition(lambda: self.told == "end")

    @workflow.update
    def tell(self, told: str) -> None:
        """Remember it."""
        self.told = told


async def _host(address: str) -> None:
    client = await Client.connect(address)
    async with Worker(
        client,
        task_queue=QUEUE,
        workflows=[Bare],
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
    ):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_host(sys.argv[1]))
