"""What an agent read last, in Prometheus' text format."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from controllers.gpu_agent import GpuAgent
from tidegate.errors import Unavailable
from tidegate.readings import Freshness, GpuReading, InstanceReading, NodeReading, Reading
from tidegate.rules.health import sickness

_FRESH_FOR_S: Final = 5.0
_MHZ: Final = 1e6

_FIGURES: Final[dict[str, Callable[[GpuReading], float | None]]] = {
    "utilisation_ratio": lambda gpu: gpu.utilisation,
    "sm_utilisation_ratio": lambda gpu: gpu.sm_utilisation,
    "memory_bandwidth_utilisation_ratio": lambda gpu: gpu.memory_bandwidth_utilisation,
    "memory_used_bytes": lambda gpu: gpu.memory_used_bytes,
    "memory_total_bytes": lambda gpu: gpu.memory_total_bytes,
    "power_watts": lambda gpu: gpu.power_w,
    "temperature_celsius": lambda gpu: gpu.temperature_c,
    "sm_clock_hertz": lambda gpu: _scaled(gpu.sm_clock_mhz),
    "memory_clock_hertz": lambda gpu: _scaled(gpu.memory_clock_mhz),
    "uncorrected_ecc_errors": lambda gpu: gpu.ecc_errors,
    "remapped_rows": lambda gpu: gpu.remapped_rows,
    "row_remap_failed": lambda gpu: gpu.has_row_remap_failed,
    "partitioned": lambda gpu: gpu.is_partitioned,
    "hung_calls": lambda gpu: len(gpu.hung),
    "sick": lambda gpu: sickness(gpu) is not None,
}
_INSTANCE_FIGURES: Final[dict[str, Callable[[InstanceReading], float | None]]] = {
    "utilisation_ratio": lambda part: part.utilisation,
    "sm_utilisation_ratio": lambda part: part.sm_utilisation,
    "memory_bandwidth_utilisation_ratio": lambda part: part.memory_bandwidth_utilisation,
}
_LISTS: Final[dict[str, Callable[[GpuReading], tuple[object, ...] | None]]] = {
    "throttled": lambda gpu: gpu.throttled_by,
    "xid": lambda gpu: gpu.xids,
    "pod": lambda gpu: gpu.pods,
}
"""One series, always 1, for each thing in the list, which is the value of its label."""


def _scaled(clock_mhz: int | None) -> float | None:
    return None if clock_mhz is None else clock_mhz * _MHZ


class AgentCollector(Collector):
    """Tells the last reading: no series for what is absent, and none of a GPU once it is stale."""

    def __init__(self, last: Callable[[], NodeReading | None], now: Callable[[], float]) -> None:
        self._last = last
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """Yield the families, as Prometheus' client asks for them."""
        last = self._last()
        gpus = None if last is None else last.gpus
        age_s = None if last is None else self._now() - last.at
        state = Reading("gpus", None if gpus is None else len(gpus), age_s, _FRESH_FOR_S).freshness
        states = GaugeMetricFamily(
            "tidegate_agent_gpus", "1 for how what is told of the GPUs is.", labels=["state"]
        )
        for each in Freshness:
            states.add_metric([each], each is state)
        yield states
        if age_s is not None:
            text = "Seconds since the agent read."
            yield GaugeMetricFamily("tidegate_agent_reading_age_seconds", text, value=age_s)
        if gpus is not None and state is Freshness.FRESH:
            yield from _told(gpus)


def _told(gpus: tuple[GpuReading, ...]) -> Iterator[Metric]:
    for name, figure in _FIGURES.items():
        family = GaugeMetricFamily(f"tidegate_gpu_{name}", "As NVML tells.", labels=["gpu", "uuid"])
        for gpu in gpus:
            value = figure(gpu)
            if value is not None:
                family.add_metric([str(gpu.index), gpu.uuid or ""], value)
        yield family
    yield from _told_of_instances(gpus)
    for name, things in _LISTS.items():
        family = GaugeMetricFamily(
            f"tidegate_gpu_{name}", f"1 for each {name}.", labels=["gpu", "uuid", name]
        )
        for gpu in gpus:
            for thing in things(gpu) or ():
                family.add_metric([str(gpu.index), gpu.uuid or "", str(thing)], 1.0)
        yield family


def _told_of_instances(gpus: tuple[GpuReading, ...]) -> Iterator[Metric]:
    parts = [(str(gpu.index), part) for gpu in gpus for part in gpu.instances or ()]
    for name, figure in _INSTANCE_FIGURES.items():
        family = GaugeMetricFamily(
            f"tidegate_gpu_instance_{name}", "As GPM tells.", labels=["gpu", "uuid"]
        )
        for gpu, part in parts:
            value = figure(part)
            if value is not None:
                family.add_metric([gpu, part.uuid], value)
        yield family


@asynccontextmanager
async def serve_metrics(agent: GpuAgent, address: str) -> AsyncIterator[None]:
    """Serve `GET /metrics` on `address`, host:port; raises Unavailable where it is taken."""
    registry = CollectorRegistry()
    registry.register(AgentCollector(lambda: agent.last, time.time))
    ProcessCollector(registry=registry)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        host, _, port = address.rpartition(":")
        try:
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        except OSError as error:
            raise Unavailable(
                f"TIDEGATE_METRICS: {address} is not to be had ({error.strerror}). "
                "Give the agent another address.",
                code="port_busy",
            ) from error
        yield
    finally:
        await runner.cleanup()
