"""An API server that refuses with 429 and Retry-After, or is slow: the capacity loop holds."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from structlog.testing import capture_logs

from controllers.capacity import CapacityLoop
from controllers.loop import run
from embedded.ports import LOOPBACK
from tests.controllers.published import POOL, Budgets, engine, gateway, node, publish_intent, told
from tests.embedded.until import until
from tests.kubernetes.cluster import Cluster, Manifest, needs_kubernetes
from tests.kubernetes.relay import Relay
from tests.real_redis import real_redis
from tidegate.edges.kubernetes import KubernetesApi, KubernetesPools
from tidegate.edges.outbox import Outbox
from tidegate.edges.redis import Redis
from tidegate.errors import Unavailable

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="module"),
    needs_kubernetes,
]

_FLOWS: Final = "/apis/flowcontrol.apiserver.k8s.io/v1"
_ACCOUNT: Final = "crowded"


@dataclass
class House:
    """The capacity loop as its process runs it, as a user that the server may throttle."""

    cluster: Cluster
    namespace: str
    token: str
    api: KubernetesApi
    redis: Redis
    logs: list[Any]
    rps: float = 10.0
    published: int = 0
    sizes: list[int] = field(default_factory=list)
    """That the pool had, as the administrator saw, one after the other."""

    async def publish(self) -> None:
        """Have a gateway and an agent say how things are, more often than the loop looks."""
        while True:
            now = time.time()
            await self.redis.publish_reading(gateway(now, self.rps))
            await self.redis.publish_reading(node(now, engine()))
            self.published += 1
            await asyncio.sleep(0.3)

    async def asks_for(self, rps: float) -> None:
        """Have so much asked for, and wait until that was told."""
        self.rps, before = rps, self.published
        await until(lambda: self.published >= before + 2)

    async def replicas(self) -> int:
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/image"
        found = int((await self.cluster.api.get(path))["spec"]["replicas"])
        if self.sizes[-1:] != [found]:
            self.sizes.append(found)
        return found

    async def until_sized(self, replicas: int) -> None:
        async def is_so() -> bool:
            return await self.replicas() == replicas

        await until(is_so, 60.0)

    def said(self, event: str) -> list[Any]:
        return [log for log in self.logs if log["event"] == event]

    async def until_held(self) -> str:
        """Wait until the loop says that it holds; returns why."""
        await until(lambda: bool(self.said("loop.held")), 60.0)
        return str(self.said("loop.held")[-1]["reason"])


async def _user(cluster: Cluster, namespace: str) -> str:
    """Create an account that may do everything, and return its token."""
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    meta = {"name": _ACCOUNT, "namespace": namespace}
    await cluster.api.post(
        accounts, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}
    )
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"{_ACCOUNT}-{namespace}"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "cluster-admin",
        },
        "subjects": [{"kind": "ServiceAccount", **meta}],
    }
    await cluster.api.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    asked = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 3600, "audiences": []},
    }
    answer = await cluster.api.post(f"{accounts}/{_ACCOUNT}/token", asked)
    return str(answer["status"]["token"])


@asynccontextmanager
async def living(
    cluster: Cluster, folder: Path, through: Relay | None = None
) -> AsyncIterator[House]:
    """Run the loop on a pool of two replicas, which is what is asked for."""
    namespace = await cluster.namespace()
    await cluster.deploy(namespace, "image", replicas=1)
    token = await _user(cluster, namespace)
    kubeconfig = cluster.servers.write_kubeconfig(f"{_ACCOUNT}-{namespace}", token)
    if through is not None:
        direct, distant = f":{cluster.servers.port}", f":{through.port}"
        kubeconfig.write_text(kubeconfig.read_text().replace(direct, distant))
    stopping = asyncio.Event()
    async with (
        real_redis(folder) as (_, redis),
        Outbox(folder / "capacity.outbox", "/controllers/capacity", redis) as outbox,
        await KubernetesApi.connect(str(kubeconfig)) as api,
        KubernetesPools(api, namespace) as pools,
    ):
        await publish_intent(redis, POOL.model_copy(update={"scale_down_window_s": 1.0}))
        loop = CapacityLoop(redis, pools, Budgets(), outbox)
        with capture_logs() as logs:
            house = House(cluster, namespace, token, api, redis, logs)
            publishing = asyncio.create_task(house.publish())
            running = run("capacity", loop, period_s=0.5, wake=loop.wake, stopping=stopping)
            looping = asyncio.create_task(running)
            try:
                await house.until_sized(2)
                house.sizes.clear()
                logs.clear()
                yield house
            finally:
                stopping.set()
                await looping
                publishing.cancel()
                await asyncio.gather(publishing, return_exceptions=True)


def _no_seats() -> Manifest:
    limited = {
        "nominalConcurrencyShares": 0,
        "lendablePercent": 0,
        "borrowingLimitPercent": 0,
        "limitResponse": {"type": "Reject"},
    }
    return {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "PriorityLevelConfiguration",
        "metadata": {"name": _ACCOUNT},
        "spec": {"type": "Limited", "limited": limited},
    }


def _all_that_it_asks(namespace: str) -> Manifest:
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    who = {"name": _ACCOUNT, "namespace": namespace}
    rule = {
        "subjects": [{"kind": "ServiceAccount", "serviceAccount": who}],
        "resourceRules": [{**everything, "namespaces": ["*"], "clusterScope": True}],
    }
    return {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": _ACCOUNT},
        "spec": {
            "priorityLevelConfiguration": {"name": _ACCOUNT},
            "matchingPrecedence": 50,
            "rules": [rule],
        },
    }


@asynccontextmanager
async def throttling(house: House) -> AsyncIterator[None]:
    """Have the server's own priority and fairness refuse whatever the loop asks."""
    api = house.cluster.api
    await api.post(f"{_FLOWS}/prioritylevelconfigurations", _no_seats())
    await api.post(f"{_FLOWS}/flowschemas", _all_that_it_asks(house.namespace))
    occupying: list[asyncio.StreamWriter] = []

    async def is_throttled() -> bool:
        # Where there are no seats one request is served all the same, while no other is: this one,
        # whose body never ends.
        occupying.append(await _begin_a_request(house))
        try:
            for _ in range(5):
                await house.api.get(f"/api/v1/namespaces/{house.namespace}/pods")
        except Unavailable as error:
            return error.code == "kubernetes-throttled"
        return False

    await until(is_throttled, 30.0)
    try:
        yield
    finally:
        for each in occupying:
            each.close()
        await api.delete(f"{_FLOWS}/flowschemas/{_ACCOUNT}")
        await api.delete(f"{_FLOWS}/prioritylevelconfigurations/{_ACCOUNT}")


async def _begin_a_request(house: House) -> asyncio.StreamWriter:
    trusted = ssl.create_default_context(cafile=str(house.cluster.servers.authority))
    port = house.cluster.servers.port
    _, writer = await asyncio.open_connection(LOOPBACK, port, ssl=trusted)
    head = (
        f"POST /api/v1/namespaces/{house.namespace}/configmaps HTTP/1.1",
        f"Host: {LOOPBACK}:{port}",
        f"Authorization: Bearer {house.token}",
        "Content-Type: application/json",
        "Content-Length: 1000",
    )
    writer.write("\r\n".join([*head, "", "{"]).encode())
    await writer.drain()
    return writer


async def test_a_server_that_throttles_is_answered_by_holding_and_saying_so(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with living(cluster, tmp_path) as house:
        async with throttling(house):
            headers = {"authorization": f"Bearer {house.token}"}
            url = f"{cluster.servers.url}/api/v1/namespaces/{house.namespace}/pods"
            async with (
                aiohttp.ClientSession(headers=headers) as session,
                session.get(url, ssl=False) as answer,
            ):
                assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
            await house.asks_for(40.0)
            reason = await house.until_held()
            assert reason.endswith("It has too much to do: nothing changes until it answers again.")
            assert house.said("loop.held")[-1]["code"] == "kubernetes-throttled"

            def are_watches_refused() -> bool:
                return len(house.said("kubernetes.not_followed")) >= 3

            await until(are_watches_refused, 60.0)
            await house.asks_for(1.0)
            assert await house.replicas() == 2
            assert len(house.said("loop.held")) == 1, "said once, and not each second"
            await house.asks_for(40.0)
        await house.until_sized(8)
        await until(lambda: bool(house.said("loop.recovered")), 30.0)
        assert house.sizes == sorted(house.sizes), "it never shrank on what it could not see"


async def test_a_slow_server_is_waited_for_and_a_pool_is_booked_once(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with Relay(cluster.servers.port) as relay, living(cluster, tmp_path, relay) as house:
        relay.slow_by(0.5)
        await house.asks_for(40.0)
        await house.until_sized(8)
        await house.asks_for(40.0)
        assert await house.replicas() == 8
        assert house.sizes == sorted(house.sizes)
        assert not house.said("loop.held")


async def test_a_server_too_slow_to_answer_in_time_is_answered_by_holding_and_saying_so(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with Relay(cluster.servers.port) as relay, living(cluster, tmp_path, relay) as house:
        relay.slow_by(6.0)
        await house.asks_for(40.0)
        assert "no answer" in await house.until_held()
        assert house.said("loop.held")[-1]["code"] == "kubernetes-unavailable"
        relay.slow_by(0.0)
        await house.until_sized(8)
        await until(lambda: bool(house.said("loop.recovered")), 30.0)
        assert house.sizes == sorted(house.sizes), "a write that came late was meant all the same"

        async def is_told() -> bool:
            sized = [e for e in await told(house.redis) if e.type == "pool.sized"]
            return sized[-1].data["booked_gpus"] == 8

        await until(is_told, 30.0)
