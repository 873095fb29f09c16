"""Temporal in skipped time, and a Redis, for one rehearsal."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rehearsal.world import Servers
from tests.real_redis import real_redis
from tests.workflows.world import KEYS, skipping_time
from tidegate.edges.temporal import ControlPlane


@asynccontextmanager
async def servers(folder: Path) -> AsyncIterator[Servers]:
    """Start both servers; time moves only as the driver skips it."""
    async with skipping_time() as env, real_redis(folder) as (_, redis):
        # Else whoever waits for an answer would move it too.
        with env.auto_time_skipping_disabled():
            yield Servers(time=env, plane=ControlPlane(env.client, KEYS), redis=redis)
