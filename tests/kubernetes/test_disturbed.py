"""The capacity loop on a real control plane that is killed, loses nodes, and has pods that hang."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import pytest
import pytest_asyncio

from tests.controllers.published import engine, gateway, node
from tests.embedded.until import until
from tests.integration.control_plane import Stack, control_plane
from tests.kubernetes.cluster import (
    GPU_TYPE,
    GPUS_EACH,
    NODES,
    Cluster,
    following,
    needs_kubernetes,
    until_pool,
    until_state,
)
from tidegate.cluster import PodPhase, PoolStatus
from tidegate.edges.kubernetes import KubernetesPools
from tidegate.edges.record import Record
from tidegate.edges.redis import Redis
from tidegate.errors import Unavailable
from tidegate.events import Event
from tidegate.readings import DemandReading
from tidegate.rules.ledger import measured_gpus, unclaimed_gpus, usable_gpus
from tidegate.settings import variable

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
    needs_kubernetes,
]

RPS: Final = 40.0
REPLICAS: Final = 10
"""At 8 requests a second each, half of which is the target."""

_POOL: Final = """
apiVersion: tidegate.dev/v1
kind: Pool
metadata: {name: NAME}
spec:
  model: image-1
  gpuType: h100
  minReplicas: 1
  maxReplicas: 64
  capacityRps: 8.0
  targetUtilisation: 50%
  queueWaitTarget: 1s
  coldStart: {p50: 1s, p90: 2s}
  requiredReadings: [queue_wait, demand]
  readingLimit: 5s
  actuationLag: 1s
  scaleDownWindow: 5s
  safeShare: 20%
---"""
PLAN: Final = f"""
apiVersion: tidegate.dev/v1
kind: Budget
metadata: {{name: h100}}
spec: {{}}
---
apiVersion: tidegate.dev/v1
kind: Model
metadata: {{name: image-1}}
spec: {{}}
---
{_POOL.replace("NAME", "image")}
{_POOL.replace("NAME", "stuck")}
apiVersion: tidegate.dev/v1
kind: Feature
metadata: {{name: image}}
spec: {{pool: image, surfaces: [app]}}
"""


@dataclass
class House:
    """Everything that the capacity loop lives between; what is asked for is told by the test."""

    cluster: Cluster
    stack: Stack
    redis: Redis
    pools: KubernetesPools
    namespace: str
    rps: dict[str, float] = field(default_factory=lambda: {"image": RPS, "stuck": 0.0})
    published: int = 0

    async def publish(self) -> None:
        """Have gateways and agents say once a half second how things are."""
        while True:
            now = time.time()
            told = [gateway(now, rps).demand["image"] for rps in self.rps.values()]
            demand = dict(zip(self.rps, told, strict=True))
            await self.redis.publish_reading(DemandReading(gateway="one", at=now, demand=demand))
            engines = [msgspec.structs.replace(engine(), pool=pool) for pool in self.rps]
            await self.redis.publish_reading(node(now, *engines))
            self.published += 1
            await asyncio.sleep(0.5)

    async def goes_on_for(self, readings: int) -> None:
        """Wait until so many more readings were published, and so were acted on."""
        seen = self.published
        await until(lambda: self.published >= seen + readings, 60.0)

    async def start(self, loop: str) -> None:
        """Start a capacity loop."""
        environment = {
            **self.stack.environment,
            "KUBECONFIG": str(self.cluster.servers.kubeconfig),
            variable("pools"): f"kubernetes://{self.namespace}",
            variable("node"): loop,
            variable("state"): str(self.stack.folder / loop),
        }
        argv = [sys.executable, "-m", "controllers", "capacity"]
        await self.stack.supervisor.start(loop, argv, env=environment, restarts=True)

    async def is_settled(self) -> PoolStatus:
        """Wait until the pool is as the demand wants it."""

        def is_so(pool: PoolStatus) -> bool:
            ready = pool.count(PodPhase.READY)
            return (pool.replicas, ready, len(pool.pods)) == (REPLICAS, REPLICAS, REPLICAS)

        return await until_pool(self.pools, "image", is_so, within_s=60.0)

    async def adds_up(self) -> None:
        """Wait until the budget counts what is there, and no claim is left over."""

        async def does() -> bool:
            with suppress(Unavailable):
                budget = await self.stack.plane.budget(GPU_TYPE)
                assert budget is not None
                ledger = budget.ledger
                if measured_gpus(ledger, "image") != REPLICAS:
                    return False
                usable = usable_gpus(ledger)
                return usable == NODES * GPUS_EACH == REPLICAS + unclaimed_gpus(ledger)
            return False

        await until(does, 60.0)

    async def sizes_since(self, instant: float) -> list[int]:
        """Return the sizes of the pool that were told since then."""
        async with Record(self.stack.record_url) as record:
            events: list[Event] = await record.events(subject="pool/image")
        return [int(str(e.data["after"])) for e in events if e.at.timestamp() >= instant]

    async def nodes(self) -> set[str]:
        """Return the nodes that pods are on."""
        found = await self.cluster.api.get(f"/api/v1/namespaces/{self.namespace}/pods")
        return {pod["spec"].get("nodeName", "") for pod in found["items"]}

    async def holder(self) -> str:
        """Say who leads."""
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases/tidegate-capacity"
        lease = await self.cluster.api.get(path)
        return str(lease["spec"]["holderIdentity"])

    def signal(self, process: str, number: signal.Signals) -> None:
        os.kill(self.stack.supervisor.pids()[process], number)

    def log_of(self, process: str) -> str:
        return self.stack.supervisor.log_of(process).read_text()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """A pool that serves, two capacity loops of which one leads, and the control plane."""
    namespace = await cluster.namespace()
    folder = tmp_path_factory.mktemp("house")
    async with (
        control_plane(folder) as stack,
        stack.publishing(),
        Redis(stack.environment[variable("redis")]) as redis,
        following(cluster, namespace) as pools,
    ):
        await cluster.deploy(namespace, "image", annotations={"tidegate.dev/cold-start": "1s"})
        never: dict[str, Any] = {"annotations": {"tidegate.dev/never-ready": "true"}}
        await cluster.deploy(namespace, "stuck", replicas=0, **never)
        code, said = await stack.applies(PLAN)
        assert code == 0, said
        it = House(cluster, stack, redis, pools, namespace)
        publishing = asyncio.create_task(it.publish())
        for loop in ("capacity-a", "capacity-b"):
            await it.start(loop)
        await it.is_settled()
        yield it
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)


async def test_an_api_server_that_is_killed_costs_no_replica(house: House) -> None:
    before = await house.is_settled()
    killed_at = time.time()
    pids = house.cluster.supervisor.pids
    killed = pids()["kube-apiserver"]
    os.kill(killed, signal.SIGKILL)
    # A quick machine serves again before either loop has looked: the successor waits for that.
    await until(lambda: pids().get("kube-apiserver", killed) != killed, 30.0)
    successor = pids()["kube-apiserver"]
    os.kill(successor, signal.SIGSTOP)
    try:
        await until(
            lambda: "loop.held" in house.log_of("capacity-a") + house.log_of("capacity-b"), 30.0
        )
    finally:
        os.kill(successor, signal.SIGCONT)
    await until_state(house.pools, lambda state: "image" in state.pools, within_s=60.0)
    await house.goes_on_for(6)
    after = await house.is_settled()
    assert {pod.name for pod in after.pods} == {pod.name for pod in before.pods}
    assert all(size >= REPLICAS for size in await house.sizes_since(killed_at))
    await house.adds_up()


async def test_lost_nodes_cost_no_replica_and_are_counted_out_until_they_are_back(
    house: House,
) -> None:
    await house.is_settled()
    lost_at = time.time()
    serving = sorted(await house.nodes())
    others = [f"gpu-{n}" for n in range(NODES) if f"gpu-{n}" not in serving]
    lost = [*serving, *others][:5]
    for name in lost:
        await house.cluster.annotate(f"/api/v1/nodes/{name}", lost="true")
    fewer = (NODES - len(lost)) * GPUS_EACH
    await until_state(house.pools, lambda state: state.gpus[GPU_TYPE] == fewer)

    async def have_moved() -> bool:
        return not await house.nodes() & set(lost)

    await until(have_moved, 60.0)
    await house.is_settled()
    for name in lost:
        await house.cluster.annotate(f"/api/v1/nodes/{name}", lost=None)
    await house.is_settled()
    assert all(size >= REPLICAS for size in await house.sizes_since(lost_at))
    await house.adds_up()


async def test_pods_that_never_become_ready_do_not_make_a_pool_grow_and_grow(
    house: House,
) -> None:
    await house.is_settled()
    house.rps["stuck"] = RPS
    hangs = await until_pool(
        house.pools, "stuck", lambda pool: pool.count(PodPhase.LOADING) == REPLICAS
    )
    assert hangs.replicas == REPLICAS
    await house.goes_on_for(20)
    still = (await house.pools.observe()).pools["stuck"]
    assert (still.replicas, still.ready_gpus) == (REPLICAS, 0)
    house.rps["stuck"] = 0.0
    await until_pool(house.pools, "stuck", lambda pool: len(pool.pods) == 1, within_s=60.0)
    await house.is_settled()


async def test_a_leader_that_was_paused_finds_another_in_its_place_and_stops(
    house: House,
) -> None:
    before = await house.is_settled()
    paused_at = time.time()
    first = await house.holder()
    pid = house.stack.supervisor.pids()[first]
    house.signal(first, signal.SIGSTOP)
    try:

        async def is_another() -> bool:
            return await house.holder() not in {"", first}

        await until(is_another, 40.0)
    finally:
        house.signal(first, signal.SIGCONT)
    # It is started anew, as one that waits.
    await until(lambda: house.stack.supervisor.pids().get(first) not in {None, pid}, 30.0)
    await house.goes_on_for(6)
    assert await house.holder() != first
    after = await house.is_settled()
    assert {pod.name for pod in after.pods} == {pod.name for pod in before.pods}
    assert all(size >= REPLICAS for size in await house.sizes_since(paused_at))
    await house.adds_up()
