"""The GPU agent: what cannot be read is absent in its reading, and says why where it can."""

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from aiohttp import web

from controllers.gpu_agent import GpuAgent, Node, Owners
from embedded.ports import LOOPBACK, free_ports
from tests.controllers.published import NOW, MemoryCluster
from tests.real_redis import real_redis
from tidegate.cluster import ClusterState, EveryPod, Pod, PodPhase, PoolStatus
from tidegate.edges.engine_metrics import EngineMetrics
from tidegate.edges.nvml import NvmlReader
from tidegate.edges.redis import Redis
from tidegate.errors import Unavailable
from tidegate.readings import Absent, GpuReading, InstanceReading, NodeReading

NO_LIBRARY = Path("/no/such/libnvidia-ml.so")
NODE = Node("node-1", "h100")
CARDS = (GpuReading(index=0, utilisation=0.5), GpuReading(index=1, fault="GPU_IS_LOST"))


class Cards(NvmlReader):
    """The cards below the library."""

    def __init__(self, cards: Iterable[GpuReading] = CARDS) -> None:
        self._told = tuple(cards)

    async def read(self) -> tuple[GpuReading, ...] | Absent:
        return self._told


@dataclass
class Engines:
    """Engines on one server, each at a path of its own; they note who was asked."""

    address: str
    asked: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.asked.append(name)
        if name == "broken":
            return web.Response(status=500)
        text = "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 3.0\n"
        return web.Response(text=text)

    def pod(self, name: str, phase: PodPhase = PodPhase.READY, gpu: int = 0) -> Pod:
        return Pod(name, phase, f"{self.address}/{name}", NOW, gpu=gpu)


@pytest.fixture
async def engines() -> AsyncIterator[Engines]:
    (port,) = free_ports(1)
    engines = Engines(f"http://{LOOPBACK}:{port}")
    app = web.Application()
    app.router.add_get("/{name}/metrics", engines.answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, port).start()
    yield engines
    await runner.cleanup()


@dataclass
class House:
    redis: Redis
    metrics: EngineMetrics
    cluster: MemoryCluster = field(default_factory=MemoryCluster)
    nvml: NvmlReader = field(default_factory=Cards)
    kubelet: Owners | None = None

    def agent(self) -> GpuAgent:
        node = replace(NODE, kubelet=self.kubelet)
        return GpuAgent(node, self.redis, EveryPod(self.cluster), self.nvml, self.metrics)

    async def read(self, *pods: Pod) -> NodeReading:
        """Tick once over these pods; returns what was published."""
        pools = {"image": PoolStatus("image", len(pods), 1, pods)}
        self.cluster.state = ClusterState(revision=2, gpus={"h100": 2}, pools=pools)
        await self.agent().tick(NOW)
        ((reading,), _) = await self.redis.readings()
        return reading


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with real_redis(tmp_path) as (_, redis), EngineMetrics() as metrics:
        yield House(redis, metrics)


async def test_gpus_and_the_engines_beside_them_are_published(
    house: House, engines: Engines
) -> None:
    reading = await house.read(engines.pod("image-1", gpu=1))
    assert (reading.node, reading.at, reading.gpu_type) == ("node-1", NOW, "h100")
    assert (reading.gpus, reading.gpus_absent_because) == (CARDS, None)
    (engine,) = reading.engines
    assert (engine.pool, engine.replica, engine.gpu) == ("image", "image-1", 1)
    assert engine.running == 3.0
    assert engine.waiting is None, "what an engine does not tell is absent, not zero"


@dataclass
class Kubelet:
    """Knows who has the first card, unless it is mute."""

    told: Mapping[str, tuple[str, ...]] | Absent

    async def owners(self) -> Mapping[str, tuple[str, ...]] | Absent:
        return self.told


async def test_an_engine_s_gpu_is_found_by_the_kubelet(house: House, engines: Engines) -> None:
    house.nvml = Cards([GpuReading(index=0, uuid="GPU-0"), GpuReading(index=1, uuid="GPU-1")])
    house.kubelet = Kubelet({"GPU-1": ("image-1",)})
    pod = replace(engines.pod("image-1"), gpu=None)
    reading = await house.read(pod)
    assert [gpu.pods for gpu in reading.gpus or ()] == [(), ("image-1",)]
    assert [engine.gpu for engine in reading.engines] == [1]


async def test_an_engine_s_mig_instance_is_found_by_the_kubelet(
    house: House, engines: Engines
) -> None:
    parts = (InstanceReading(uuid="MIG-1"), InstanceReading(uuid="MIG-2", utilisation=0.9))
    parted = GpuReading(index=1, uuid="GPU-1", pods=("some-uid",), instances=parts)
    house.nvml = Cards([GpuReading(index=0, uuid="GPU-0"), parted])
    house.kubelet = Kubelet({"MIG-1": ("other",), "MIG-2": ("image-1",)})
    reading = await house.read(replace(engines.pod("image-1"), gpu=None))
    _, card = reading.gpus or ()
    assert card.pods == ("other", "image-1")
    assert [part.pods for part in card.instances or ()] == [("other",), ("image-1",)]
    assert [(e.gpu, e.instance) for e in reading.engines] == [(1, "MIG-2")]


async def test_an_engine_s_gpu_is_found_by_its_processes_where_the_kubelet_is_mute(
    house: House, engines: Engines
) -> None:
    house.nvml = Cards([GpuReading(index=0, uuid="GPU-0", pods=("some-uid",))])
    house.kubelet = Kubelet(Absent("away"))
    reading = await house.read(replace(engines.pod("image-1"), gpu=None, uid="some-uid"))
    assert [engine.gpu for engine in reading.engines] == [0]
    reading = await house.read(replace(engines.pod("image-1"), gpu=None, uid="other"))
    assert [engine.gpu for engine in reading.engines] == [None], "nobody knows"


async def test_an_absent_nvml_is_published_as_absent_with_its_reason(
    house: House, engines: Engines
) -> None:
    house.nvml = NvmlReader(NO_LIBRARY)
    reading = await house.read(engines.pod("image-1"))
    assert reading.gpus is None
    assert str(NO_LIBRARY) in str(reading.gpus_absent_because)
    assert len(reading.engines) == 1


async def test_engines_that_do_not_answer_are_left_out(house: House, engines: Engines) -> None:
    gone = Pod("gone", PodPhase.READY, f"http://{LOOPBACK}:1", NOW)
    nowhere = Pod("nowhere", PodPhase.READY, None, NOW)
    reading = await house.read(gone, nowhere, engines.pod("broken"), engines.pod("image-1"))
    assert [engine.replica for engine in reading.engines] == ["image-1"]
    assert sorted(engines.asked) == ["broken", "image-1"]


async def test_only_pods_that_serve_are_asked(house: House, engines: Engines) -> None:
    pods = [engines.pod(phase.value, phase) for phase in PodPhase]
    reading = await house.read(*pods)
    assert engines.asked == ["ready"]
    assert [engine.replica for engine in reading.engines] == ["ready"]


async def test_a_cluster_that_is_away_publishes_nothing_in_place_of_what_is_unknown(
    house: House,
) -> None:
    before = await house.read()
    house.cluster.is_away = True
    with pytest.raises(Unavailable):
        await house.agent().tick(NOW + 9)
    ((after,), _) = await house.redis.readings()
    assert after == before, "so that it grows old"
