"""A control plane with GPU nodes, for tests: real but for what nodes and pods run."""

import itertools
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest

from embedded.kubernetes.objects import gpu_node, pool_deployment
from embedded.kubernetes.programs import built_programs
from embedded.kubernetes.servers import KubernetesServers, kubernetes_under, start_kubernetes
from embedded.processes import Supervisor
from tests.embedded.until import until
from tidegate.cluster import ClusterState, PoolStatus
from tidegate.edges.kubernetes import KubernetesApi, KubernetesPools
from tidegate.edges.kubernetes.api import Conflict
from tidegate.errors import Refused, Unavailable
from tidegate.settings import cache_folder

NODES: Final = 20
GPUS_EACH: Final = 8
GPU_TYPE: Final = "h100"

PROGRAMS: Final = built_programs(cache_folder(os.environ))
needs_kubernetes: Final = pytest.mark.skipif(
    PROGRAMS is None,
    reason="Kubernetes is not built: run `python -m embedded.kubernetes.programs` (ten minutes)",
)

Manifest = Mapping[str, Any]


@dataclass(slots=True)
class Cluster:
    """The control plane, and its administrator."""

    servers: KubernetesServers
    supervisor: Supervisor
    api: KubernetesApi
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def namespace(self) -> str:
        """Make a namespace of a test's own."""
        name = f"pools-{next(self._numbers)}"
        await self.make_namespace(name)
        return name

    async def make_namespace(self, name: str) -> None:
        """Make a namespace, unless it is there."""
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        with suppress(Conflict):
            await self.api.post("/api/v1/namespaces", namespace)

    async def deploy(self, namespace: str, pool: str, **terms: Any) -> None:  # noqa: ANN401
        """Create the Deployment of a pool."""
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        await self.api.post(path, pool_deployment(pool, **terms))

    async def annotate(self, path: str, **annotations: str | None) -> None:
        """Set annotations of ours on an object, or take them away with None."""
        told = {
            f"tidegate.dev/{key.replace('_', '-')}": value for key, value in annotations.items()
        }
        # Not as a whole: those who play nodes and judge them write to them all the time.
        await self.api.merge(path, {"metadata": {"annotations": told}})


@asynccontextmanager
async def running_cluster(folder: Path, *, hpa_period_s: float = 15.0) -> AsyncIterator[Cluster]:
    """Start a control plane with its nodes, and end it."""
    assert PROGRAMS is not None
    servers = replace(kubernetes_under(folder, PROGRAMS), hpa_period_s=hpa_period_s)
    async with Supervisor(folder) as supervisor:
        await start_kubernetes(supervisor, servers)
        async with await KubernetesApi.connect(str(servers.kubeconfig)) as api:
            for number in range(NODES):
                node = gpu_node(f"gpu-{number}", GPUS_EACH, GPU_TYPE)
                await api.post("/api/v1/nodes", node)
            yield Cluster(servers, supervisor, api)


@asynccontextmanager
async def following(
    cluster: Cluster, namespace: str, discover_every_s: float = 30.0
) -> AsyncIterator[KubernetesPools]:
    """Follow the pools of a namespace."""
    async with KubernetesPools(cluster.api, namespace, discover_every_s) as pools:
        yield pools


async def until_pool(
    pools: KubernetesPools,
    name: str,
    holds: Callable[[PoolStatus], bool],
    *,
    within_s: float = 20.0,
) -> PoolStatus:
    """Wait until a pool is as it should be."""
    seen: list[PoolStatus] = []

    async def is_so() -> bool:
        pool = (await pools.observe()).pools.get(name)
        if pool is not None:
            seen.append(pool)
        return pool is not None and holds(pool)

    await until(is_so, within_s)
    return seen[-1]


async def until_state(
    pools: KubernetesPools, holds: Callable[[ClusterState], bool], *, within_s: float = 20.0
) -> None:
    """Wait until the cluster is as it should be."""

    async def is_so() -> bool:
        try:
            return holds(await pools.observe())
        except Unavailable:
            return False

    await until(is_so, within_s)


async def is_scaled(pools: KubernetesPools, pool: str, replicas: int) -> bool:
    """Say whether a pool may be scaled, by doing it."""
    try:
        await pools.scale(pool, replicas)
    except Refused:
        return False
    return True


async def until_scaled(pools: KubernetesPools, pool: str, replicas: int) -> None:
    """Scale once the server has heard of what decides on it, which takes it a moment."""
    await until(lambda: is_scaled(pools, pool, replicas), 20.0)


async def refused(pools: KubernetesPools, pool: str, replicas: int) -> Refused:
    """Return why a pool is not scaled."""
    with pytest.raises(Refused) as raised:
        await pools.scale(pool, replicas)
    return raised.value
