"""Where replicas run, as `TIDEGATE_POOLS` says, and who leads there."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

from controllers.loop import stops_on_signals
from tidegate.cluster import Beside, Cluster, EveryPod
from tidegate.settings import Settings

_KUBERNETES: Final = "kubernetes"

# Each way imports what it needs and no more: an agent must stay small.


@asynccontextmanager
async def cluster_of(settings: Settings) -> AsyncIterator[Cluster]:
    """Yield the cluster: Kubernetes for `kubernetes://NAMESPACE`, and else the local pools' API."""
    namespace = _namespace_of(settings)
    if namespace is None:
        from tidegate.edges.local_pools import LocalPools  # noqa: PLC0415

        async with LocalPools(settings.pools) as local:
            yield local
        return
    from tidegate.edges.kubernetes import KubernetesApi, KubernetesPools  # noqa: PLC0415

    async with (
        await KubernetesApi.connect(os.environ.get("KUBECONFIG")) as api,
        KubernetesPools(api, namespace) as pools,
    ):
        yield pools


@asynccontextmanager
async def beside(settings: Settings) -> AsyncIterator[Beside]:
    """Yield what knows the pods beside an agent: on Kubernetes those of the node TIDEGATE_NODE."""
    namespace = _namespace_of(settings)
    if namespace is None:
        async with cluster_of(settings) as cluster:
            yield EveryPod(cluster)
        return
    from tidegate.edges.kubernetes import KubernetesApi  # noqa: PLC0415
    from tidegate.edges.kubernetes.node import NodePods  # noqa: PLC0415

    async with (
        await KubernetesApi.connect(os.environ.get("KUBECONFIG")) as api,
        NodePods(api, namespace, settings.own_node) as pods,
    ):
        yield pods


@asynccontextmanager
async def leading(settings: Settings, loop: str) -> AsyncIterator[asyncio.Event]:
    """Wait until this process leads, where several could; yields what says when it must stop.

    On Kubernetes there is a Lease for each loop, in the namespace of the pools, held in the name of
    TIDEGATE_NODE. A leader that lost it stops, and begins anew as one that waits.
    """
    stopping = stops_on_signals()
    namespace = _namespace_of(settings)
    if namespace is None:
        yield stopping
        return
    from tidegate.edges.kubernetes import KubernetesApi  # noqa: PLC0415
    from tidegate.edges.kubernetes.lease import Lease  # noqa: PLC0415

    async with (
        await KubernetesApi.connect(os.environ.get("KUBECONFIG")) as api,
        Lease(api, namespace, f"tidegate-{loop}", settings.node).led(stopping),
    ):
        yield stopping


def _namespace_of(settings: Settings) -> str | None:
    where = urlsplit(settings.pools)
    return where.netloc if where.scheme == _KUBERNETES else None
