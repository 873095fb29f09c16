"""The agent's metrics: what is absent has no series, and what is stale is not shown."""

import time
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from controllers.agent_metrics import AgentCollector, serve_metrics
from controllers.gpu_agent import GpuAgent, Node
from embedded.ports import LOOPBACK, free_ports
from tests.controllers.published import NOW, MemoryCluster, node
from tests.real_redis import real_redis
from tidegate.cluster import EveryPod
from tidegate.edges.engine_metrics import EngineMetrics
from tidegate.edges.nvml import NvmlReader
from tidegate.errors import Unavailable
from tidegate.readings import GpuReading, InstanceReading, NodeReading

BUSY = GpuReading(
    index=0, uuid="GPU-0", utilisation=0.5, sm_clock_mhz=1980, xids=(79,), pods=("chat-1",)
)
LOST = GpuReading(index=1, fault="GPU_IS_LOST")


def text_of(reading: NodeReading | None, *, at: float = NOW) -> str:
    registry = CollectorRegistry()
    registry.register(AgentCollector(lambda: reading, lambda: at))
    return generate_latest(registry).decode()


def test_every_figure_that_was_read_has_a_series_and_no_other_has() -> None:
    text = text_of(node(NOW, gpus=(BUSY, LOST)))
    assert 'tidegate_gpu_utilisation_ratio{gpu="0",uuid="GPU-0"} 0.5' in text
    assert 'tidegate_gpu_sm_clock_hertz{gpu="0",uuid="GPU-0"} 1.98e+09' in text
    assert 'tidegate_gpu_xid{gpu="0",uuid="GPU-0",xid="79"} 1.0' in text
    assert 'tidegate_gpu_pod{gpu="0",pod="chat-1",uuid="GPU-0"} 1.0' in text
    assert 'tidegate_gpu_sick{gpu="1",uuid=""} 1.0' in text
    assert "tidegate_gpu_power_watts{" not in text
    assert 'utilisation_ratio{gpu="1"' not in text
    assert 'tidegate_agent_gpus{state="fresh"} 1.0' in text


def test_a_mig_instance_has_the_series_that_gpm_told() -> None:
    parts = (InstanceReading(uuid="MIG-1", utilisation=0.9), InstanceReading(uuid="MIG-2"))
    text = text_of(node(NOW, gpus=(GpuReading(index=3, instances=parts),)))
    assert 'tidegate_gpu_instance_utilisation_ratio{gpu="3",uuid="MIG-1"} 0.9' in text
    assert "MIG-2" not in text


@pytest.mark.parametrize(
    ("reading", "age_s", "state"),
    [
        (node(NOW, gpus=(BUSY,)), 9.0, "stale"),
        (NodeReading(node="n", at=NOW, gpus_absent_because="no driver"), 0.0, "absent"),
        (None, 0.0, "absent"),
    ],
)
def test_what_is_stale_or_absent_shows_its_state_and_no_gpu(
    reading: NodeReading | None, age_s: float, state: str
) -> None:
    text = text_of(reading, at=NOW + age_s)
    assert f'tidegate_agent_gpus{{state="{state}"}} 1.0' in text
    assert 'tidegate_agent_gpus{state="fresh"} 0.0' in text
    assert "tidegate_gpu_" not in text


async def test_they_are_served_over_http_and_a_taken_port_is_told(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    address = f"{LOOPBACK}:{port}"
    async with real_redis(tmp_path) as (_, redis), EngineMetrics() as engines:
        nvml = NvmlReader(Path("/no/such.so"))
        agent = GpuAgent(Node("n"), redis, EveryPod(MemoryCluster()), nvml, engines)
        await agent.tick(time.time())
        async with serve_metrics(agent, address), aiohttp.ClientSession() as session:
            async with session.get(f"http://{address}/metrics") as answer:
                assert 'tidegate_agent_gpus{state="absent"} 1.0' in await answer.text()
            with pytest.raises(Unavailable, match="TIDEGATE_METRICS"):
                async with serve_metrics(agent, address):
                    pass
