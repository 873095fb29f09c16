"""What an agent knows of a real control plane: the pods of its own node, and no others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.charts.test_chart import LEAST, render
from tests.embedded.until import until
from tests.kubernetes.cluster import GPUS_EACH, Cluster, needs_kubernetes
from tests.kubernetes.relay import Relay
from tidegate.cluster import PodPhase
from tidegate.edges.kubernetes import KubernetesApi
from tidegate.edges.kubernetes.node import NodePods
from tidegate.errors import Refused, Unavailable

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
    needs_kubernetes,
]

_ACCOUNT: Final = "launch-tidegate-agent"
_RIGHTS: Final = "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/{kind}s"


async def _pods(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    found = await cluster.api.get(f"/api/v1/namespaces/{namespace}/pods")
    return [dict(each) for each in found["items"]]


async def agent_token(cluster: Cluster, namespace: str) -> str:
    """Return an agent's token, with the rights that the chart gives it and no more."""
    release = await cluster.namespace()
    rendered = render({**LEAST, "pools": {"namespace": namespace}})
    for each in yaml.safe_load_all(rendered["tidegate/templates/agent.yaml"]):
        match each["kind"]:
            case "ServiceAccount":
                path = f"/api/v1/namespaces/{release}/serviceaccounts"
                await cluster.api.post(path, each)
            case "Role" | "RoleBinding" as kind:
                for subject in each.get("subjects", ()):
                    subject["namespace"] = release
                path = _RIGHTS.format(namespace=namespace, kind=kind.lower())
                await cluster.api.post(path, each)
    asked = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 3600, "audiences": []},
    }
    path = f"/api/v1/namespaces/{release}/serviceaccounts/{_ACCOUNT}/token"
    return str((await cluster.api.post(path, asked))["status"]["token"])


async def _kubeconfig(cluster: Cluster, namespace: str) -> Path:
    token = await agent_token(cluster, namespace)
    return cluster.servers.write_kubeconfig(f"agent-{namespace}", token)


@asynccontextmanager
async def _following(kubeconfig: Path, namespace: str, node: str | None) -> AsyncIterator[NodePods]:
    async with (
        await KubernetesApi.connect(str(kubeconfig)) as api,
        NodePods(api, namespace, node) as pods,
    ):
        yield pods


async def names_of(pods: NodePods) -> set[str]:
    return {pod.name for pod in (await pods.pods()).get("chat", ())}


async def test_an_agent_follows_the_pods_of_its_own_node_alone(cluster: Cluster) -> None:
    namespace = await cluster.namespace()
    await cluster.deploy(namespace, "chat", gpus=GPUS_EACH // 2, replicas=3)

    async def are_ready() -> bool:
        found = await _pods(cluster, namespace)
        return len(found) == 3 and all(each["status"].get("podIP") for each in found)

    await until(are_ready, 30.0)
    of_node: dict[str, set[str]] = {}
    for each in await _pods(cluster, namespace):
        of_node.setdefault(each["spec"]["nodeName"], set()).add(each["metadata"]["name"])
    assert len(of_node) > 1
    node, own = of_node.popitem()
    kubeconfig = await _kubeconfig(cluster, namespace)
    async with _following(kubeconfig, namespace, node) as pods:

        async def are_followed() -> bool:
            found = (await pods.pods()).get("chat", ())
            return {each.name for each in found if each.phase is PodPhase.READY} == own

        await until(are_followed, 20.0)
        gone = own.pop()
        await cluster.api.delete(f"/api/v1/namespaces/{namespace}/pods/{gone}")

        async def has_gone() -> bool:
            return gone not in await names_of(pods)

        await until(has_gone, 20.0)
        assert not await names_of(pods) & set().union(*of_node.values())


async def test_without_a_node_every_pod_of_a_pool_is_followed(cluster: Cluster) -> None:
    namespace = await cluster.namespace()
    await cluster.deploy(namespace, "chat", replicas=4)
    kubeconfig = await _kubeconfig(cluster, namespace)
    async with _following(kubeconfig, namespace, None) as pods:

        async def are_followed() -> bool:
            return len(await names_of(pods)) == 4

        await until(are_followed, 30.0)


async def test_where_an_agent_may_not_look_it_says_so_and_ends(cluster: Cluster) -> None:
    namespace, other = await cluster.namespace(), await cluster.namespace()
    kubeconfig = await _kubeconfig(cluster, namespace)
    async with _following(kubeconfig, other, "gpu-0") as pods:
        with pytest.raises(Refused, match="pods is forbidden"):
            await pods.pods()


async def test_while_its_server_is_away_an_agent_is_told_so_at_once(cluster: Cluster) -> None:
    namespace = await cluster.namespace()
    kubeconfig = await _kubeconfig(cluster, namespace)
    async with AsyncExitStack() as stack:
        async with Relay(cluster.servers.port) as relay:
            told = kubeconfig.read_text().replace(f":{cluster.servers.port}", f":{relay.port}")
            kubeconfig.write_text(told)
            pods = await stack.enter_async_context(_following(kubeconfig, namespace, "gpu-0"))
            assert not await pods.pods()

        async def is_known() -> bool:
            with suppress(Unavailable):
                await pods.pods()
                return False
            return True

        await until(is_known, 20.0)
        async with asyncio.timeout(1.0):
            with pytest.raises(Unavailable):
                await pods.pods()
