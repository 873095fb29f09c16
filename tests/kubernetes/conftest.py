"""One control plane for each file of tests."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.kubernetes.cluster import Cluster, running_cluster


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """Start a control plane with 20 nodes of 8 GPUs."""
    async with running_cluster(tmp_path_factory.mktemp("kubernetes")) as running:
        yield running
