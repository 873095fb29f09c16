"""Temporal in skipped time, and a Redis, for one rehearsal."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from embedded.temporal import SEARCH_ATTRIBUTES
from rehearsal.world import Servers
from tests.real_redis import real_redis
from tidegate.edges.temporal import ControlPlane

_PROGRAM = Path(sys.executable).with_name("temporal-test-server")


@asynccontextmanager
async def servers(folder: Path) -> AsyncIterator[Servers]:
    """Start both servers; time stands still but for what the driver skips."""
    async with (
        await WorkflowEnvironment.start_time_skipping(
            test_server_existing_path=str(_PROGRAM), data_converter=pydantic_data_converter
        ) as env,
        real_redis(folder) as (_, redis),
    ):
        # A workflow that sets an unregistered attribute retries its first task for ever.
        await env.client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace=env.client.namespace,
                search_attributes=dict.fromkeys(
                    SEARCH_ATTRIBUTES, IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
                ),
            )
        )
        with env.auto_time_skipping_disabled():
            yield Servers(time=env, plane=ControlPlane(env.client), redis=redis)
