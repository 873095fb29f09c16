import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from embedded.ports import LOOPBACK, free_ports
from embedded.processes import Supervisor
from embedded.readiness import serves_http
from tests.embedded.until import is_alive, until
from tidegate.cluster import ClusterState, PodPhase, PoolStatus
from tidegate.edges.local_pools import LocalPools, LocalPoolSpec
from tidegate.errors import Refused

pytestmark = pytest.mark.integration

QUICK = LocalPoolSpec(service_s=0.1, cold_start_p50_s=0.1, cold_start_p90_s=0.2)


@dataclass(frozen=True)
class Local:
    """A runner of local pools, and its client."""

    url: str
    state_dir: Path
    pools: LocalPools
    supervisor: Supervisor

    async def seen(self, holds: Callable[[PoolStatus], bool], *, pool: str = "image") -> PoolStatus:
        """Follow the state, as controllers do, until a pool's status `holds`."""
        state: ClusterState = await self.pools.observe()

        async def is_so() -> bool:
            nonlocal state
            if not holds(state.pools[pool]):
                state = await self.pools.observe(after=state.revision, wait_s=1)
            return holds(state.pools[pool])

        await until(is_so, within_s=10)
        return state.pools[pool]


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Local]:
    (port,) = free_ports(1)
    url, state_dir = f"http://{LOOPBACK}:{port}", tmp_path / "pools"
    argv = [sys.executable, "-m", "embedded.pools", "--port", str(port)]
    argv += ["--state-dir", str(state_dir)]

    async def is_ready() -> bool:
        return await serves_http(f"{url}/health")

    async with Supervisor(tmp_path) as supervisor, LocalPools(url) as pools:
        await supervisor.start("pools", argv, ready=is_ready, restarts=True)
        yield Local(url, state_dir, pools, supervisor)


def phases(pool: PoolStatus) -> list[str]:
    return [pod.phase.value for pod in pool.pods]


def pids(local: Local) -> set[int]:
    """Read from the GPUs' files which replicas run on them."""
    lines = [path.read_text() for path in (local.state_dir / "gpus").glob("gpu-[0-9]*")]
    return {int(line.rpartition("pid=")[2]) for line in lines} - {0}


async def test_a_pool_becomes_ready_serves_and_scales_down(local: Local) -> None:
    await local.pools.install_gpus(4)
    await local.pools.declare("image", QUICK)
    await local.pools.scale("image", 2)
    pool = await local.seen(lambda pool: phases(pool) == ["ready", "ready"])
    assert [pod.gpu for pod in pool.pods] == [0, 1]
    assert pool.ready_gpus == 2
    assert all(pod.ready_at is not None and pod.ready_at > pod.created_at for pod in pool.pods)
    for pod in pool.pods:
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{pod.address}/v1/images/generations", json={}) as answer,
        ):
            assert (await answer.json())["replica"] == pod.name
    await local.pools.scale("image", 1)
    pool = await local.seen(lambda pool: len(pool.pods) == 1)
    assert [pod.name for pod in pool.pods] == ["image-1"]
    assert (local.state_dir / "gpus" / "gpu-1").read_text().endswith("pid=0\n")


async def test_a_replica_without_a_gpu_waits_until_a_node_arrives(local: Local) -> None:
    await local.pools.install_gpus(1)
    await local.pools.declare("image", QUICK.model_copy(update={"replicas": 2}))
    pool = await local.seen(lambda pool: phases(pool) == ["ready", "pending"])
    assert (pool.pods[1].gpu, pool.pods[1].address) == (None, None)
    await local.pools.install_gpus(2)
    await local.seen(lambda pool: phases(pool) == ["ready", "ready"])
    assert (await local.pools.observe()).gpus == {"local": 2}


async def test_a_replica_of_two_gpus_needs_both_and_a_smaller_one_may_pass_it(
    local: Local,
) -> None:
    await local.pools.install_gpus(1)
    await local.pools.declare("chat", QUICK.model_copy(update={"gpus_per_replica": 2}))
    await local.pools.declare("image", QUICK)
    await local.pools.scale("chat", 1)
    await local.pools.scale("image", 1)
    await local.seen(lambda pool: phases(pool) == ["ready"])
    assert phases(await local.seen(lambda _: True, pool="chat")) == ["pending"]
    await local.pools.install_gpus(3)
    pool = await local.seen(lambda pool: phases(pool) == ["ready"], pool="chat")
    assert pool.ready_gpus == 2


async def test_scaling_down_drops_the_waiting_before_the_serving(local: Local) -> None:
    await local.pools.install_gpus(2)
    await local.pools.declare("image", QUICK.model_copy(update={"replicas": 3}))
    await local.seen(lambda pool: phases(pool) == ["ready", "ready", "pending"])
    await local.pools.scale("image", 2)
    pool = (await local.pools.observe()).pools["image"]
    assert [pod.name for pod in pool.pods] == ["image-1", "image-2"]
    assert phases(pool) == ["ready", "ready"]


async def test_a_dead_replica_is_replaced_by_another(local: Local) -> None:
    await local.pools.install_gpus(1)
    await local.pools.declare("image", QUICK.model_copy(update={"replicas": 1}))
    await local.seen(lambda pool: phases(pool) == ["ready"])
    (pid,) = pids(local)
    os.kill(pid, signal.SIGKILL)
    pool = await local.seen(
        lambda pool: phases(pool) == ["ready"] and pool.pods[0].name == "image-2"
    )
    assert pool.count(PodPhase.READY) == 1


async def test_another_manager_s_pool_is_refused_and_the_manager_named(local: Local) -> None:
    theirs = QUICK.model_copy(update={"scaled_by": "HorizontalPodAutoscaler inference/image"})
    await local.pools.declare("image", theirs)
    with pytest.raises(Refused) as raised:
        await local.pools.scale("image", 3)
    assert str(raised.value) == (
        'pool "image": "HorizontalPodAutoscaler inference/image" already scales it, '
        'not "tidegate". Delete that object or drop the pool.'
    )
    assert raised.value.code == "scaled_by_another"
    pool = (await local.pools.observe()).pools["image"]
    assert (pool.replicas, pool.scaled_by) == (0, "HorizontalPodAutoscaler inference/image")


async def test_a_wrong_request_is_refused_with_each_mistake_named(local: Local) -> None:
    with pytest.raises(Refused, match='pool "chat" is not declared, known are: none'):
        await local.pools.scale("chat", 1)
    await local.pools.install_gpus(2)
    with pytest.raises(Refused, match="installed: got 1, expected at least 2"):
        await local.pools.install_gpus(1)
    with pytest.raises(Refused, match='got "No Name"'):
        await local.pools.declare("No Name", QUICK)
    async with (
        aiohttp.ClientSession() as http,
        http.put(f"{local.url}/v1/pools/image/scale", json={"replicas": -1}) as answer,
    ):
        message = (await answer.json())["message"]
    assert answer.status == 400
    assert [line.partition(":")[0] for line in message.splitlines()] == [
        "replicas",
        "field_manager",
    ]


async def test_replicas_die_with_their_runner_and_its_successor_takes_up_what_was_asked_for(
    local: Local,
) -> None:
    await local.pools.install_gpus(2)
    await local.pools.declare("image", QUICK.model_copy(update={"replicas": 1}))
    await local.seen(lambda pool: phases(pool) == ["ready"])
    revision = (await local.pools.observe()).revision
    replicas = pids(local)
    os.kill(local.supervisor.pids()["pools"], signal.SIGKILL)
    await until(lambda: not any(is_alive(pid) for pid in replicas))
    await until(lambda: serves_http(f"{local.url}/health"))
    pool = await local.seen(lambda pool: phases(pool) == ["ready"])
    assert pool.pods[0].name == "image-2"
    assert (await local.pools.observe()).revision > revision


async def test_declaring_twice_changes_nothing(local: Local) -> None:
    await local.pools.declare("image", QUICK)
    before = await local.pools.observe()
    await local.pools.declare("image", QUICK)
    assert await local.pools.observe() == before
