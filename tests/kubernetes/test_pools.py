"""Pools on a real control plane: what is read, what is written, and who is left alone."""

from typing import Any, Final

import pytest

from embedded.kubernetes.objects import gpu_node
from tests.kubernetes.cluster import (
    GPU_TYPE,
    GPUS_EACH,
    NODES,
    Cluster,
    following,
    needs_kubernetes,
    refused,
    until_pool,
    until_scaled,
    until_state,
)
from tidegate.cluster import PodPhase
from tidegate.edges.kubernetes.reading import MANAGER

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
    needs_kubernetes,
]

_ALL: Final = NODES * GPUS_EACH


def _deployment(namespace: str, name: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"


async def test_replicas_load_become_ready_and_go(cluster: Cluster) -> None:
    namespace = await cluster.namespace()
    await cluster.deploy(namespace, "chat", gpus=2, annotations={"tidegate.dev/cold-start": "2s"})
    async with following(cluster, namespace) as pools:
        await until_pool(pools, "chat", lambda pool: pool.ready_gpus == 2)
        await pools.scale("chat", 5)
        loading = await until_pool(pools, "chat", lambda pool: pool.count(PodPhase.LOADING) == 4)
        assert (loading.replicas, loading.gpus_per_replica, loading.ready_gpus) == (5, 2, 2)
        ready = await until_pool(pools, "chat", lambda pool: pool.ready_gpus == 10)
        assert {pod.phase for pod in ready.pods} == {PodPhase.READY}
        assert all(pod.ready_at is not None and pod.ready_at > pod.created_at for pod in ready.pods)
        assert len({pod.address for pod in ready.pods}) == 5
        await pools.scale("chat", 0)
        await until_pool(pools, "chat", lambda pool: not pool.pods)


async def test_more_than_there_are_gpus_for_stays_pending(cluster: Cluster) -> None:
    namespace = await cluster.namespace()
    await cluster.deploy(namespace, "big", gpus=GPUS_EACH)
    async with following(cluster, namespace) as pools:
        await until_pool(pools, "big", lambda pool: pool.replicas == 1)
        await pools.scale("big", NODES + 3)
        # Nodes that other tests' pods are on have no room for all of their GPUs.
        full = await until_pool(
            pools,
            "big",
            lambda pool: pool.count(PodPhase.READY) + pool.count(PodPhase.PENDING) == NODES + 3,
        )
        assert full.count(PodPhase.PENDING) >= 3
        assert full.ready_gpus <= _ALL
        assert (await pools.observe()).gpus[GPU_TYPE] == _ALL
        await pools.scale("big", 0)
        await until_pool(pools, "big", lambda pool: not pool.pods)


async def test_only_the_scale_is_written_as_the_field_manager_tidegate(cluster: Cluster) -> None:
    namespace = await cluster.namespace()
    await cluster.deploy(namespace, "chat")
    before = await cluster.api.get(_deployment(namespace, "chat"))
    async with following(cluster, namespace) as pools:
        await until_pool(pools, "chat", lambda pool: pool.ready_gpus == 1)
        await pools.scale("chat", 3)
    after = await cluster.api.get(_deployment(namespace, "chat"))
    assert after["spec"] == {**before["spec"], "replicas": 3}
    (ours,) = [each for each in after["metadata"]["managedFields"] if each["manager"] == MANAGER]
    assert (ours["operation"], ours["subresource"]) == ("Apply", "scale")
    assert ours["fieldsV1"] == {"f:spec": {"f:replicas": {}}}


async def test_a_pool_that_an_hpa_owns_is_refused_with_its_name(cluster: Cluster) -> None:
    namespace = await cluster.namespace()
    await cluster.deploy(namespace, "chat")
    hpa = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "chat-load"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat"},
            "maxReplicas": 9,
        },
    }
    path = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
    async with following(cluster, namespace) as pools:
        await cluster.api.post(path, hpa)
        await until_pool(pools, "chat", lambda pool: pool.scaled_by != MANAGER)
        refusal = await refused(pools, "chat", 4)
        assert refusal.code == "scaled_by_another"
        assert str(refusal) == (
            'pool "chat": HorizontalPodAutoscaler chat-load already scales Deployment chat, '
            'not "tidegate". Delete that object or drop the pool.'
        )
        assert (await pools.observe()).pools["chat"].replicas == 1


async def test_a_size_that_a_person_has_set_is_respected_and_said(cluster: Cluster) -> None:
    namespace = await cluster.namespace()
    await cluster.deploy(namespace, "chat")
    scale = f"{_deployment(namespace, 'chat')}/scale"
    async with following(cluster, namespace) as pools:
        await pools.observe()
        await pools.scale("chat", 2)
        asked = {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {"name": "chat", "namespace": namespace},
            "spec": {"replicas": 6},
        }
        await cluster.api.apply(scale, asked, manager="kubectl", force=True)
        await until_pool(pools, "chat", lambda pool: pool.replicas == 6)
        refusal = await refused(pools, "chat", 2)
        assert refusal.code == "changed-by-hand"
        assert str(refusal).startswith('pool "chat": kubectl set Deployment chat to 6 replicas at ')


async def test_a_size_that_the_workload_was_created_with_is_nobodys(cluster: Cluster) -> None:
    namespace = await cluster.namespace()
    await cluster.deploy(namespace, "chat")
    found = await cluster.api.get(_deployment(namespace, "chat"))
    assert found["spec"]["replicas"] == 1
    async with following(cluster, namespace) as pools:
        await pools.observe()
        await pools.scale("chat", 2)
        await until_pool(pools, "chat", lambda pool: pool.replicas == 2)


def _budget(pool: str, least: int) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": f"{pool}-serves"},
        "spec": {
            "minAvailable": least,
            "selector": {"matchLabels": {"tidegate.dev/pool": pool}},
        },
    }


async def test_no_more_replicas_are_taken_than_a_disruption_budget_spares(
    cluster: Cluster,
) -> None:
    namespace = await cluster.namespace()
    await cluster.deploy(namespace, "chat")
    async with following(cluster, namespace) as pools:
        await pools.observe()
        await pools.scale("chat", 5)
        await until_pool(pools, "chat", lambda pool: pool.ready_gpus == 5)
    path = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"
    await cluster.api.post(path, _budget("chat", 3))
    async with following(cluster, namespace) as pools:
        await pools.observe()
        # Until the budget's controller has counted, none may go.
        await until_scaled(pools, "chat", 1)
        await until_pool(pools, "chat", lambda pool: pool.replicas == 3 and len(pool.pods) == 3)
        refusal = await refused(pools, "chat", 1)
        assert refusal.code == "disruption-budget"
        assert "PodDisruptionBudget chat-serves has 3 stay" in str(refusal)


async def test_gpus_of_cordoned_and_lost_nodes_do_not_count(cluster: Cluster) -> None:
    for number in range(3):
        await cluster.api.post("/api/v1/nodes", gpu_node(f"new-{number}", 4, "b200"))
    async with following(cluster, await cluster.namespace()) as pools:
        await until_state(pools, lambda state: state.gpus.get("b200") == 12)
        await cluster.api.merge("/api/v1/nodes/new-0", {"spec": {"unschedulable": True}})
        await until_state(pools, lambda state: state.gpus["b200"] == 8)
        await cluster.annotate("/api/v1/nodes/new-1", lost="true")
        await until_state(pools, lambda state: state.gpus["b200"] == 4)
        assert (await pools.observe()).gpus[GPU_TYPE] == _ALL
    for number in range(3):
        await cluster.api.delete(f"/api/v1/nodes/new-{number}")
