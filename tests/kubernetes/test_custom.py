"""Custom resources of others on a real API server: KEDA's ScaledObjects, and LeaderWorkerSets."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from tests.embedded.until import until
from tests.kubernetes.cluster import (
    Cluster,
    following,
    is_scaled,
    needs_kubernetes,
    refused,
    until_pool,
    until_scaled,
    until_state,
)
from tests.kubernetes.custom import (
    LEADER_WORKER_SET,
    SCALED_OBJECT,
    group_pod,
    install,
    leader_worker_set,
    scaled_object,
    uninstall,
)
from tests.kubernetes.test_leading import candidates
from tidegate.cluster import PodPhase
from tidegate.edges.kubernetes import KubernetesPools
from tidegate.edges.kubernetes.reading import MANAGER

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
    needs_kubernetes,
]

_KEDA: Final = "/apis/keda.sh/v1alpha1/namespaces/{}/scaledobjects"
_SETS: Final = "/apis/leaderworkerset.x-k8s.io/v1/namespaces/{}/leaderworkersets"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def defined(cluster: Cluster) -> AsyncIterator[Cluster]:
    """A cluster that both are installed in."""
    await install(cluster, SCALED_OBJECT, LEADER_WORKER_SET)
    yield cluster
    await uninstall(cluster, LEADER_WORKER_SET)


@pytest.mark.parametrize(
    "target",
    [{"name": "chat"}, {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat"}],
    ids=["kind left out", "kind given"],
)
async def test_a_pool_that_a_scaled_object_owns_is_refused_with_its_name_until_it_is_gone(
    defined: Cluster, target: Mapping[str, str]
) -> None:
    namespace = await defined.namespace()
    await defined.deploy(namespace, "chat")
    path = _KEDA.format(namespace)
    async with following(defined, namespace) as pools:
        await until_scaled(pools, "chat", 2)
        await defined.api.post(path, scaled_object("chat-queue", **target))
        owned = await until_pool(pools, "chat", lambda pool: pool.scaled_by != MANAGER)
        assert owned.scaled_by == "ScaledObject chat-queue"
        refusal = await refused(pools, "chat", 4)
        assert refusal.code == "scaled_by_another"
        assert str(refusal) == (
            'pool "chat": ScaledObject chat-queue already scales Deployment chat, '
            'not "tidegate". Delete that object or drop the pool.'
        )
        assert (await pools.observe()).pools["chat"].replicas == 2
        await defined.api.delete(f"{path}/chat-queue")
        await until_scaled(pools, "chat", 4)


async def test_a_scaled_object_of_another_workload_is_nothing_to_a_pool(defined: Cluster) -> None:
    namespace = await defined.namespace()
    await defined.deploy(namespace, "chat")
    others = [
        scaled_object("web", name="web"),
        scaled_object("set", kind="StatefulSet", name="chat"),
    ]
    for each in others:
        await defined.api.post(_KEDA.format(namespace), each)
    async with following(defined, namespace) as pools:
        await until_scaled(pools, "chat", 3)
        assert (await pools.observe()).pools["chat"].scaled_by == MANAGER


async def test_a_leader_worker_set_is_scaled_through_its_scale_and_its_group_is_one_replica(
    defined: Cluster,
) -> None:
    namespace = await defined.namespace()
    path = _SETS.format(namespace)
    await defined.api.post(path, leader_worker_set("big", size=3, gpus=4))
    for worker in range(3):
        pods = f"/api/v1/namespaces/{namespace}/pods"
        await defined.api.post(pods, group_pod("big", worker, 4))
    before = await defined.api.get(f"{path}/big")
    async with following(defined, namespace) as pools:
        seen = await until_pool(pools, "big", lambda pool: pool.count(PodPhase.READY) == 1)
        assert (seen.replicas, seen.gpus_per_replica, seen.ready_gpus) == (1, 12, 12)
        assert [pod.name for pod in seen.pods] == ["big-0"], "the leader stands for its group"
        await pools.scale("big", 5)
        await until_pool(pools, "big", lambda pool: pool.replicas == 5)
        await pools.scale("big", 2)
    after = await defined.api.get(f"{path}/big")
    assert after["spec"] == {**before["spec"], "replicas": 2}
    (ours,) = [each for each in after["metadata"]["managedFields"] if each["manager"] == MANAGER]
    assert (ours["operation"], ours["subresource"]) == ("Update", "scale")
    assert ours["fieldsV1"] == {"f:spec": {"f:replicas": {}}}


async def test_a_leader_worker_set_that_a_scaled_object_owns_is_refused(defined: Cluster) -> None:
    namespace = await defined.namespace()
    await defined.api.post(_SETS.format(namespace), leader_worker_set("big", size=2, gpus=1))
    kind = {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet"}
    owner = scaled_object("big-queue", name="big", **kind)
    await defined.api.post(_KEDA.format(namespace), owner)
    async with following(defined, namespace) as pools:
        await until_pool(pools, "big", lambda pool: pool.scaled_by == "ScaledObject big-queue")
        assert "already scales LeaderWorkerSet big" in str(await refused(pools, "big", 2))


async def test_the_charts_rights_scale_a_leader_worker_set_and_an_old_leader_does_not(
    defined: Cluster,
) -> None:
    async with candidates(defined, "old", "new") as (old, new):
        path = _SETS.format(old.namespace)
        await defined.api.post(path, leader_worker_set("big", size=2, gpus=1))
        async with (
            KubernetesPools(old.api, old.namespace) as its_pools,
            KubernetesPools(new.api, new.namespace) as pools,
        ):
            async with old.lease().led(asyncio.Event()):
                await until_scaled(its_pools, "big", 2)
            async with new.lease().led(asyncio.Event()):
                await pools.observe()

                async def is_refused() -> bool:
                    # The server hears of a new holder a moment later.
                    return not await is_scaled(its_pools, "big", 7)

                await until(is_refused, 10.0)
                refusal = await refused(its_pools, "big", 7)
                assert f"only the leader scales: {new.name}, not {old.name}" in str(refusal)
                await until_scaled(pools, "big", 3)
                assert (await defined.api.get(f"{path}/big"))["spec"]["replicas"] == 3


async def test_a_size_of_a_leader_worker_set_that_a_person_set_is_respected(
    defined: Cluster,
) -> None:
    namespace = await defined.namespace()
    path = _SETS.format(namespace)
    await defined.api.post(path, leader_worker_set("big", size=2, gpus=1))
    scale = {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {"name": "big", "namespace": namespace},
        "spec": {"replicas": 3},
    }
    async with following(defined, namespace) as pools:
        await until_scaled(pools, "big", 2)
        await defined.api.update(f"{path}/big/scale", scale, manager="kubectl")
        await until_pool(pools, "big", lambda pool: pool.replicas == 3)
        refusal = await refused(pools, "big", 2)
        assert str(refusal).startswith('pool "big": kubectl set LeaderWorkerSet big to 3 replicas')


async def test_a_kind_that_is_installed_while_the_loop_runs_is_followed(defined: Cluster) -> None:
    namespace = await defined.namespace()
    await defined.deploy(namespace, "chat")
    await uninstall(defined, LEADER_WORKER_SET)
    async with following(defined, namespace, discover_every_s=0.2) as pools:
        await until_scaled(pools, "chat", 2)
        await install(defined, LEADER_WORKER_SET)
        await defined.api.post(_SETS.format(namespace), leader_worker_set("big", size=2, gpus=1))
        # A server that has just heard of a kind asks to be left alone with it for a second.
        await until_state(pools, lambda seen: "big" in seen.pools)
        await until_scaled(pools, "big", 3)
        await until_scaled(pools, "chat", 3)


async def test_pools_live_on_when_keda_is_taken_away(defined: Cluster) -> None:
    namespace = await defined.namespace()
    await defined.deploy(namespace, "chat")
    await defined.api.post(_KEDA.format(namespace), scaled_object("chat-queue", name="chat"))
    with capture_logs() as logs:
        async with following(defined, namespace, discover_every_s=0.2) as pools:
            await until_pool(pools, "chat", lambda pool: pool.scaled_by != MANAGER)
            await uninstall(defined, SCALED_OBJECT)

            def is_noticed() -> bool:
                # The watch on them lasts for some seconds more.
                return "kubernetes.not_followed" in [log["event"] for log in logs]

            await until(is_noticed, 30.0)
            await until_scaled(pools, "chat", 3)
            assert (await pools.observe()).pools["chat"].scaled_by == MANAGER
            await install(defined, SCALED_OBJECT)
            again = scaled_object("chat-queue", name="chat")
            await defined.api.post(_KEDA.format(namespace), again)
            await until_state(pools, lambda seen: seen.pools["chat"].scaled_by != MANAGER)
