"""From a pod into a real control plane, without a kubeconfig."""

import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.embedded.until import until
from tests.kubernetes.cluster import Cluster, needs_kubernetes, until_pool, until_scaled
from tests.kubernetes.test_agent import agent_token, names_of
from tidegate.edges.kubernetes import KubernetesApi, KubernetesPools
from tidegate.edges.kubernetes.access import PodAccess
from tidegate.edges.kubernetes.node import NodePods
from tidegate.errors import PlanError, Refused, Unavailable

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
    needs_kubernetes,
]


def pod_access(
    cluster: Cluster, folder: Path, token: str, clock: Callable[[], float] = time.monotonic
) -> PodAccess:
    """Return the way in of a pod whose kubelet has written this token."""
    (folder / "ca.crt").write_bytes(cluster.servers.authority.read_bytes())
    (folder / "token").write_text(f"{token}\n")
    return PodAccess(cluster.servers.url, folder, clock)


async def test_a_pool_is_followed_and_scaled_from_a_pod(cluster: Cluster, tmp_path: Path) -> None:
    namespace = await cluster.namespace()
    await cluster.deploy(namespace, "chat")
    access = pod_access(cluster, tmp_path, cluster.servers.token)
    async with KubernetesApi(access) as api, KubernetesPools(api, namespace) as pools:
        await until_pool(pools, "chat", lambda pool: pool.ready_gpus == 1)
        await until_scaled(pools, "chat", 3)
        await until_pool(pools, "chat", lambda pool: pool.ready_gpus == 3)


async def test_in_a_pod_it_gets_in_with_the_token_that_is_there_by_now(
    cluster: Cluster, tmp_path: Path
) -> None:
    namespace = await cluster.namespace()
    await cluster.deploy(namespace, "chat", replicas=2)
    clock = [0.0]
    access = pod_access(cluster, tmp_path, "of another cluster", lambda: clock[-1])
    pods_path = f"/api/v1/namespaces/{namespace}/pods"
    async with KubernetesApi(access) as api:
        with pytest.raises(Unavailable, match="Unauthorized"):
            await api.get(pods_path)
        (tmp_path / "token").write_text(await agent_token(cluster, namespace))
        clock.append(59.0)
        with pytest.raises(Unavailable):
            await api.get(pods_path)
        clock.append(60.0)
        async with NodePods(api, namespace, None) as pods:

            async def are_followed() -> bool:
                return len(await names_of(pods)) == 2

            await until(are_followed, 30.0)
        with pytest.raises(Refused, match="forbidden"):
            await api.post(pods_path, {"kind": "Pod", "apiVersion": "v1"})
        (tmp_path / "token").unlink()
        clock.append(120.0)
        with pytest.raises(Unavailable, match="no token"):
            await api.get(pods_path)


async def test_a_pod_does_not_take_another_server_for_its_own(
    cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("secret")
    (tmp_path / "ca.crt").write_text(
        ssl.get_server_certificate(("127.0.0.1", cluster.servers.port))
    )
    async with KubernetesApi(PodAccess(cluster.servers.url, tmp_path)) as api:
        with pytest.raises(Unavailable, match="certificate"):
            await api.get("/version")


async def test_a_pod_without_an_authority_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="run in a pod with a service account"):
        PodAccess("https://10.0.0.1:443", tmp_path)
