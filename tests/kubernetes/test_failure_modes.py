"""How others have failed on Kubernetes, by public report: the capacity loop on a real one.

Each has its namesake in tests/controllers/test_failure_modes.py.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from controllers.capacity import CapacityLoop
from tests.controllers.published import (
    NOW,
    POOL,
    Budgets,
    engine,
    gateway,
    node,
    publish_intent,
    told,
)
from tests.embedded.until import until
from tests.kubernetes.cluster import Cluster, following, needs_kubernetes, until_pool
from tests.kubernetes.relay import Relay
from tests.real_redis import real_redis
from tidegate.cluster import PodPhase, PoolStatus
from tidegate.edges.kubernetes import KubernetesApi, KubernetesPools
from tidegate.edges.outbox import Outbox
from tidegate.edges.redis import Redis
from tidegate.errors import Unavailable
from tidegate.events import Event

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
    needs_kubernetes,
]

WIDE: Final = POOL.model_copy(update={"ceiling_gpus": 64})


@dataclass
class House:
    """The capacity loop on a pool of a namespace's own; what is asked for is told by the test."""

    cluster: Cluster
    namespace: str
    redis: Redis
    pools: KubernetesPools
    loop: CapacityLoop
    budgets: Budgets
    at: float = NOW

    @property
    def deployment(self) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/deployments/image"

    async def tick(self, rps: float, *, waiting: float = 0.0, step_s: float = 1.0) -> PoolStatus:
        """Tick on fresh readings, and return what the pool was then."""
        self.at += step_s
        await self.redis.publish_reading(gateway(self.at, rps))
        await self.redis.publish_reading(node(self.at, engine(waiting=waiting)))
        await self.loop.tick(self.at)
        return (await self.pools.observe()).pools["image"]

    async def sizings(self) -> list[Event]:
        return [event for event in await told(self.redis) if event.type == "pool.sized"]

    async def pods(self) -> list[str]:
        found = await self.cluster.api.get(f"/api/v1/namespaces/{self.namespace}/pods")
        return [str(pod["metadata"]["name"]) for pod in found["items"]]


@asynccontextmanager
async def living(
    cluster: Cluster,
    folder: Path,
    api: KubernetesApi | None = None,
    **terms: Any,  # noqa: ANN401 - as Cluster.deploy has it
) -> AsyncIterator[House]:
    """Deploy the pool, and yield the loop that sizes it, by way of `api` where it is given."""
    namespace = await cluster.namespace()
    await cluster.deploy(namespace, "image", **terms)
    async with (
        real_redis(folder) as (_, redis),
        Outbox(folder / "capacity.outbox", "/controllers/capacity", redis) as outbox,
        KubernetesPools(api or cluster.api, namespace) as pools,
    ):
        await publish_intent(redis, WIDE)
        await until_pool(pools, "image", lambda pool: len(pool.pods) == pool.replicas)
        budgets = Budgets()
        loop = CapacityLoop(redis, pools, budgets, outbox)
        yield House(cluster, namespace, redis, pools, loop, budgets)


async def test_pods_that_load_do_not_cascade_a_scale_up(cluster: Cluster, tmp_path: Path) -> None:
    """While pods load the queue grows, and each look books for it anew: 2→4→8→16 (aibrix #2670)."""
    slow = {"tidegate.dev/cold-start": "280s"}
    async with living(cluster, tmp_path, annotations=slow, replicas=2) as house:
        changed = {"cold_start_p50_s": 280.0, "cold_start_p90_s": 280.0}
        await publish_intent(house.redis, WIDE.model_copy(update=changed))
        sizes = set()
        for n in range(56):
            # Two serve 20 a second of 40.
            pool = await house.tick(40.0, waiting=100.0 * n, step_s=5.0)
            sizes.add(pool.replicas)
        loads = await until_pool(
            house.pools, "image", lambda pool: pool.count(PodPhase.LOADING) == 8
        )
        assert (sizes, len(loads.pods)) == ({8}, 8)


async def test_surge_pods_of_a_rollout_do_not_ratchet(cluster: Cluster, tmp_path: Path) -> None:
    """Pods of the old and the new version count together, and the size grows (k8s #72775)."""
    async with living(cluster, tmp_path, replicas=4) as house:
        await house.tick(20.0)
        await until_pool(house.pools, "image", lambda pool: pool.ready_gpus == 4)
        surge = {"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}}
        loads = {"metadata": {"annotations": {"tidegate.dev/cold-start": "2s"}}}
        rolled = {"spec": {"strategy": surge, "template": loads}}
        before = set(await house.pods())
        await house.cluster.api.merge(house.deployment, rolled)
        sizes, together = set(), set()

        async def is_rolled() -> bool:
            pool = await house.tick(20.0)
            sizes.add(pool.replicas)
            together.add(len(pool.pods))
            new = {pod.name for pod in pool.pods if pod.phase is PodPhase.READY} - before
            return len(new) == len(pool.pods) == 4

        await until(is_rolled, 60.0)
        assert max(together) == 8, "the old and the new were there together"
        assert sizes == {4}
        assert max(seen.ready_gpus["image"] for seen in house.budgets.heard) == 4


async def test_dead_pods_are_not_served_from_a_cache(cluster: Cluster, tmp_path: Path) -> None:
    """A cache told of dead pods for 15 minutes (kube-metrics-adapter #97)."""
    kubeconfig = cluster.servers.write_kubeconfig("distant", cluster.servers.token)
    told_at = kubeconfig.read_text()
    async with Relay(cluster.servers.port) as relay:
        kubeconfig.write_text(told_at.replace(f":{cluster.servers.port}", f":{relay.port}"))
        async with (
            await KubernetesApi.connect(str(kubeconfig)) as distant,
            living(cluster, tmp_path, distant, replicas=4) as house,
        ):
            await house.tick(20.0)
            dead = await house.pods()
            relay.hold()  # the watches stay open, and nothing comes of them
            for pod in dead:
                path = f"/api/v1/namespaces/{house.namespace}/pods/{pod}"
                await cluster.api.delete(path, {"gracePeriodSeconds": 0})

            async def is_said() -> bool:
                try:
                    await house.tick(20.0)
                except Unavailable as error:
                    return "no answer" in str(error)
                return False

            await until(is_said, 20.0)
            relay.let_go()

            async def are_others() -> bool:
                try:
                    pool = await house.tick(20.0)
                except Unavailable:
                    return False
                assert not {pod.name for pod in pool.pods} & set(dead)
                return pool.ready_gpus == 4

            await until(are_others, 30.0)


async def test_a_pod_that_died_is_gone_from_what_is_seen_within_a_second(
    cluster: Cluster, tmp_path: Path
) -> None:
    """The same, where the watches work."""
    async with living(cluster, tmp_path, replicas=2) as house:
        await until_pool(house.pools, "image", lambda pool: pool.ready_gpus == 2)
        dead, other = await house.pods()
        path = f"/api/v1/namespaces/{house.namespace}/pods/{dead}"
        await cluster.api.delete(path, {"gracePeriodSeconds": 0})

        def is_gone(pool: PoolStatus) -> bool:
            names = {pod.name for pod in pool.pods}
            return dead not in names and other in names

        await until_pool(house.pools, "image", is_gone, within_s=1.0)


async def test_somebody_elses_replicas_are_respected_and_reported(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Two write `replicas`, each against the other, and nobody hears of it (dynamo #4420)."""
    async with living(cluster, tmp_path, replicas=1) as house:
        await house.tick(10.0)
        await until_pool(house.pools, "image", lambda pool: pool.replicas == 2)
        scale = {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {"name": "image", "namespace": house.namespace},
            "spec": {"replicas": 6},
        }
        await cluster.api.apply(f"{house.deployment}/scale", scale, manager="kubectl", force=True)
        await until_pool(house.pools, "image", lambda pool: pool.replicas == 6)
        house.at += WIDE.cold_start_p90_s + WIDE.scale_down_window_s
        sizes = {(await house.tick(10.0)).replicas for _ in range(40)}
        assert sizes == {6}
        sized = (await house.sizings())[-1]
        assert str(sized.data["reason"]).startswith(
            'pool "image": kubectl set Deployment image to 6 replicas at '
        )
        assert (sized.data["booked_gpus"], sized.data["needed_gpus"]) == (6, 2)
        managers = {
            each["manager"]
            for each in (await cluster.api.get(house.deployment))["metadata"]["managedFields"]
            if "f:replicas" in each["fieldsV1"].get("f:spec", {})
        }
        assert "kubectl" in managers
        async with following(cluster, house.namespace) as anew:
            await until_pool(anew, "image", lambda pool: pool.replicas == 6)
