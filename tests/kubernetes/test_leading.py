"""Who leads on a real control plane: one at a time, and whoever led before writes no more."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest
import yaml

from tests.charts.test_chart import LEAST, render
from tests.embedded.until import until
from tests.kubernetes.cluster import (
    Cluster,
    following,
    is_scaled,
    needs_kubernetes,
    until_pool,
    until_scaled,
)
from tests.kubernetes.relay import Relay
from tidegate.cluster import PodPhase
from tidegate.edges.kubernetes import KubernetesApi, KubernetesPools
from tidegate.edges.kubernetes.lease import LASTS_S, Lease
from tidegate.errors import Refused

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
    needs_kubernetes,
]

_RELEASE_NAMESPACE: Final = "serving"
_ACCOUNT: Final = "launch-tidegate-capacity"
_LEASE: Final = "tidegate-capacity"
_ADMISSION: Final = "/apis/admissionregistration.k8s.io/v1"
_COLLECTIONS: Final = {
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "ValidatingAdmissionPolicy": f"{_ADMISSION}/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": f"{_ADMISSION}/validatingadmissionpolicybindings",
}


@dataclass(slots=True)
class _Candidate:
    """A pod of the capacity loop, with the rights that the chart gives it and no more."""

    name: str
    api: KubernetesApi
    namespace: str

    async def through(self, cluster: Cluster, port: int) -> KubernetesApi:
        """Connect by way of another port."""
        told = cluster.servers.kubeconfig_of(self.name).read_text()
        distant = cluster.servers.kubeconfig_of(f"{self.name}-distant")
        distant.write_text(told.replace(f":{cluster.servers.port}", f":{port}"))
        return await KubernetesApi.connect(str(distant))

    def lease(self) -> Lease:
        return Lease(self.api, self.namespace, _LEASE, self.name)


async def _install(cluster: Cluster, namespace: str) -> None:
    """Create what the chart gives the capacity loop for the pools of a namespace."""
    rendered = render({**LEAST, "pools": {"namespace": namespace}})
    text = rendered["tidegate/templates/capacity.yaml"]
    for each in yaml.safe_load_all(text):
        if each["kind"] in _COLLECTIONS:
            where = each["metadata"].get("namespace", _RELEASE_NAMESPACE)
            path = _COLLECTIONS[each["kind"]].format(namespace=where)
            await cluster.api.post(path, each)


async def _uninstall(cluster: Cluster) -> None:
    for kind in ("ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"):
        name = f"{_RELEASE_NAMESPACE}-{_ACCOUNT}"
        await cluster.api.delete(f"{_COLLECTIONS[kind]}/{name}")
    for kind in ("ClusterRoleBinding", "ClusterRole"):
        await cluster.api.delete(f"{_COLLECTIONS[kind]}/{_RELEASE_NAMESPACE}-{_ACCOUNT}")
    path = _COLLECTIONS["ServiceAccount"].format(namespace=_RELEASE_NAMESPACE)
    await cluster.api.delete(f"{path}/{_ACCOUNT}")


async def _token_of(cluster: Cluster, pod: str) -> str:
    """Create a pod of the capacity loop, and return the token that it would be given."""
    path = f"/api/v1/namespaces/{_RELEASE_NAMESPACE}"
    container = {"name": "capacity", "image": "tidegate"}
    body: Mapping[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod},
        "spec": {"serviceAccountName": _ACCOUNT, "containers": [container]},
    }
    made = await cluster.api.post(f"{path}/pods", body)
    bound = {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": made["metadata"]["uid"]}
    asked = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"boundObjectRef": bound, "expirationSeconds": 3600, "audiences": []},
    }
    answer = await cluster.api.post(f"{path}/serviceaccounts/{_ACCOUNT}/token", asked)
    return str(answer["status"]["token"])


@asynccontextmanager
async def candidates(cluster: Cluster, *names: str) -> AsyncIterator[list[_Candidate]]:
    """Install the chart's rights, and yield a candidate for each pod."""
    namespace = await cluster.namespace()
    await cluster.make_namespace(_RELEASE_NAMESPACE)
    await _install(cluster, namespace)
    found: list[_Candidate] = []
    for name in names:
        token = await _token_of(cluster, f"{name}-{namespace}")
        config = cluster.servers.write_kubeconfig(f"{name}-{namespace}", token)
        api = await KubernetesApi.connect(str(config))
        found.append(_Candidate(f"{name}-{namespace}", api, namespace))
    try:
        yield found
    finally:
        for each in found:
            await each.api.close()
        await _uninstall(cluster)


async def test_one_leads_and_the_other_begins_when_it_lets_go(cluster: Cluster) -> None:
    async with candidates(cluster, "first", "second") as (first, second):
        stopping, waiting = asyncio.Event(), asyncio.Event()
        async with first.lease().led(stopping):
            other = second.lease().led(waiting)
            entering = asyncio.create_task(other.__aenter__())
            done, _ = await asyncio.wait({entering}, timeout=3.0)
            assert not done, "two lead"
            assert not stopping.is_set()
        async with asyncio.timeout(LASTS_S / 2):
            await entering
        assert not waiting.is_set()
        await other.__aexit__(None, None, None)


async def test_one_that_says_nothing_stops_before_another_begins(cluster: Cluster) -> None:
    loop = asyncio.get_running_loop()
    stopping, waiting = asyncio.Event(), asyncio.Event()
    async with (
        candidates(cluster, "first", "second") as (first, second),
        Relay(cluster.servers.port) as relay,
        await first.through(cluster, relay.port) as distant,
        Lease(distant, first.namespace, _LEASE, first.name).led(stopping),
    ):
        relay.hold()  # nothing of what it says arrives any more
        other = second.lease().led(waiting)
        entering = asyncio.create_task(other.__aenter__())
        async with asyncio.timeout(2 * LASTS_S):
            await stopping.wait()
        stopped_at = loop.time()
        assert not entering.done(), "two lead"
        async with asyncio.timeout(2 * LASTS_S):
            await entering
        assert loop.time() > stopped_at
        await _until_renewed(second, times=2)
        assert not waiting.is_set(), "it stopped at once"
        await other.__aexit__(None, None, None)


async def _until_renewed(candidate: _Candidate, *, times: int) -> None:
    """Wait until a Lease was renewed so often."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{candidate.namespace}/leases/{_LEASE}"
    seen: set[str] = set()

    async def is_so() -> bool:
        seen.add((await candidate.api.get(path))["spec"]["renewTime"])
        return len(seen) > times

    await until(is_so, 20.0)


async def test_a_late_write_of_an_old_leader_is_refused_by_the_server(cluster: Cluster) -> None:
    async with candidates(cluster, "old", "new") as (old, new):
        await cluster.deploy(old.namespace, "chat")
        async with (
            KubernetesPools(old.api, old.namespace) as its_pools,
            KubernetesPools(new.api, new.namespace) as pools,
        ):
            async with old.lease().led(asyncio.Event()):
                await its_pools.observe()
                await until_scaled(its_pools, "chat", 2)
            async with new.lease().led(asyncio.Event()):
                await pools.observe()
                await until(lambda: _is_refused(its_pools, 7), 10.0)
                with pytest.raises(
                    Refused, match=f"only the leader scales: {new.name}, not {old.name}"
                ):
                    await its_pools.scale("chat", 7)
                await until_scaled(pools, "chat", 4)
            await until_pool(pools, "chat", lambda pool: pool.replicas == 4)


async def _is_refused(pools: KubernetesPools, replicas: int) -> bool:
    return not await is_scaled(pools, "chat", replicas)


async def test_the_charts_rights_are_enough_to_follow_and_to_scale(cluster: Cluster) -> None:
    async with candidates(cluster, "only") as (only,):
        await cluster.deploy(only.namespace, "chat")
        async with (
            only.lease().led(asyncio.Event()),
            KubernetesPools(only.api, only.namespace) as pools,
        ):
            await until_pool(pools, "chat", lambda pool: pool.count(PodPhase.READY) == 1)
            await until_scaled(pools, "chat", 3)
            await until_pool(pools, "chat", lambda pool: pool.count(PodPhase.READY) == 3)
        async with following(cluster, only.namespace) as everything:
            assert (await everything.observe()).pools["chat"].replicas == 3
