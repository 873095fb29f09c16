"""The replay's model of an HPA beside the real controller: the same readings, the same replicas."""

import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.kubernetes.autoscaled import TERMS, Load, autoscaled
from tests.kubernetes.cluster import Cluster, needs_kubernetes, running_cluster
from tests.kubernetes.metrics_api import MetricsApi, serving

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
    needs_kubernetes,
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """Start a control plane whose HPAs look often."""
    async with running_cluster(tmp_path_factory.mktemp("cluster"), hpa_period_s=0.25) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def metrics(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[MetricsApi]:
    async with serving(cluster, tmp_path_factory.mktemp("metrics")) as served:
        yield served


async def test_the_model_writes_at_each_sync_what_the_controller_writes_through_a_rush(
    cluster: Cluster, metrics: MetricsApi
) -> None:
    async with autoscaled(cluster, metrics, "utilisation", "waiting", replicas=4) as it:
        # Kubernetes rounds up to thousandths, and so the third is beyond the tolerance.
        calm = [await it.sync(Load(use, 0.1)) for use in (0.3, 0.54, 0.5501)]
        rise = [await it.sync(Load(0.7, 0.2)), await it.sync(Load(0.7, 0.2, still_loading=True))]
        rush = await it.sync_until(
            Load(0.95, 15.0, still_loading=True), lambda size: size == TERMS.most
        )
        loads = [await it.sync(Load(0.6, 1.2, still_loading=True)) for _ in range(8)]
        plateau = [await it.sync(Load(0.5, 1.0)), await it.sync(Load(0.46, 0.92))]
        fall = await it.sync_until(Load(0.2, 0.1), lambda size: size < TERMS.most)
        again = await it.sync_until(Load(0.8, 0.1), lambda size: size == 16)
        half = await it.sync_until(Load(0.2, 0.1, still_loading=True), lambda size: size < 16)
        end = await it.sync_until(Load(0.0, 0.0), lambda size: size == 1)
    assert it.differences() == []
    assert calm + rise == [4, 4, 5, 7, 7]
    assert rush[0] <= 14
    assert {*loads, *plateau} == {TERMS.most}
    assert fall[-1] == 10
    assert min(len(fall), len(half), len(end)) > 1
    assert (again[-1], half[-1]) == (16, 10)


async def test_the_model_does_without_a_metric_what_the_controller_does(
    cluster: Cluster, metrics: MetricsApi
) -> None:
    async with autoscaled(cluster, metrics, "utilisation", "waiting", replicas=4) as it:
        none = [await it.sync(Load(0.9, 3.0, still_loading=True)), await it.sync(Load())]
        up = [await it.sync(Load(None, 1.5)), await it.sync(Load(0.8, None, still_loading=True))]
        down = [await it.sync(load) for load in (Load(None, 0.2), Load(0.2, None)) * 5]
        same = await it.sync(Load(0.5, None))
        fall = await it.sync_until(Load(0.2, 0.1), lambda size: size < 6)
    assert it.differences() == []
    assert (none, up, set(down), same) == ([4, 4], [6, 6], {6}, 6)
    assert fall[-1] == 3


@pytest.mark.parametrize("names", [("utilisation",), ("utilisation", "waiting")])
async def test_the_model_writes_what_the_controller_writes_whatever_is_read(
    cluster: Cluster, metrics: MetricsApi, names: tuple[str, ...]
) -> None:
    drawn = random.Random(len(names))
    async with autoscaled(cluster, metrics, *names, replicas=5) as it:
        for _ in range(14):
            load = Load(
                drawn.choice([None, *(drawn.triangular(0.0, 1.0, 0.5) for _ in range(9))]),
                drawn.choice([None, *(drawn.triangular(0.0, 3.0, 1.0) for _ in range(9))]),
                still_loading=drawn.random() < 0.5,
            )
            await it.sync(load)
    assert it.differences() == []
    assert len({each.written for each in it.course}) > 2


async def test_the_model_of_requests_writes_what_the_controller_writes(
    cluster: Cluster, metrics: MetricsApi
) -> None:
    async with autoscaled(cluster, metrics, "requests", replicas=2) as it:
        for total in (7.6, 10.0, 40.0, *(100.0,) * 6, *(80.0,) * 5, 0.0, 60.0):
            # It divides by the pods that the Deployment tells of, which come a moment later.
            await it.sync(Load(still_loading=True))
            await it.sync(Load(requests=total, still_loading=True))
        fall = await it.sync_until(Load(requests=20.0), lambda size: size == 6)
    assert it.differences() == []
    assert len(fall) > 1
