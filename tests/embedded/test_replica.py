import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from embedded.ports import LOOPBACK, free_ports
from embedded.processes import Supervisor
from embedded.readiness import serves_http
from tests.embedded.until import until
from tidegate.edges.engine_metrics import EngineMetrics, EngineTarget
from tidegate.errors import Unavailable

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Running:
    url: str
    pid: int
    state: Path
    http: aiohttp.ClientSession

    @property
    def target(self) -> EngineTarget:
        return EngineTarget("image", "image-1", self.url)

    async def is_ready(self) -> bool:
        return await serves_http(f"{self.url}/health")

    async def ask(self, body: object) -> tuple[int, dict[str, Any]]:
        async with self.http.post(f"{self.url}/v1/images/generations", json=body) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def replica(tmp_path: Path) -> AsyncIterator[Running]:
    """One replica with two slots, whose cold start takes a third of a second."""
    (port,) = free_ports(1)
    url = f"http://{LOOPBACK}:{port}"
    argv = [sys.executable, "-m", "embedded.replica", "--pool", "image", "--name", "image-1"]
    argv += ["--port", str(port), "--gpu", "0,1", "--gpu-dir", str(tmp_path), "--slots", "2"]
    argv += ["--cold-start-s", "0.3", "--service-s", "0.2"]

    async def answers() -> bool:
        async with http.get(f"{url}/health") as answer:
            return answer.status in {200, 503}

    async with Supervisor(tmp_path / "state") as supervisor, aiohttp.ClientSession() as http:
        await supervisor.start("replica", argv, ready=answers)
        yield Running(url, supervisor.pids()["replica"], tmp_path, http)


async def test_a_loading_replica_refuses_and_shows_no_metrics(replica: Running) -> None:
    status, answer = await replica.ask({})
    assert (status, answer) == (503, {"message": "image-1 is loading."})
    async with EngineMetrics() as metrics:
        with pytest.raises(Unavailable, match="answered 503"):
            await metrics.scrape(replica.target)


async def test_requests_beyond_the_slots_queue_and_every_metric_tells_it(replica: Running) -> None:
    await until(replica.is_ready)
    async with EngineMetrics() as metrics, asyncio.TaskGroup() as asking:

        async def shows(running: int, waiting: int, kv_cache_use: float) -> bool:
            (reading,) = await metrics.scrape(replica.target)
            assert reading.kv_cache_use is not None
            is_as_full = abs(reading.kv_cache_use - kv_cache_use) < 1e-9
            return (reading.running, reading.waiting, is_as_full) == (running, waiting, True)

        assert await shows(0, 0, 0.0)
        requests = [asking.create_task(replica.ask({"work": 4})) for _ in range(2)]
        await until(lambda: shows(2, 0, 1.0))
        requests += [asking.create_task(replica.ask({"work": 1})) for _ in range(2)]
        await until(lambda: shows(2, 2, 1.0))
        answers = [(await request)[1] for request in requests]
        (after,) = await metrics.scrape(replica.target)
    assert {answer["replica"] for answer in answers} == {"image-1"}
    assert [answer["queue_wait_s"] > 0 for answer in answers] == [False, False, True, True]
    assert {answer["service_s"] for answer in answers[:2]} == {0.8, 0.84}
    assert after.queue_wait_s is not None
    assert after.queue_wait_s > 0
    assert after.requests_total == 4
    assert after.tokens_total == pytest.approx(10 * 0.4 * 65_536, rel=0.01)


async def test_all_gpus_of_a_replica_show_that_it_is_busy(replica: Running) -> None:
    await until(replica.is_ready)
    async with asyncio.TaskGroup() as asking:
        request = asking.create_task(replica.ask({"work": 100}))
        for gpu in ("gpu-0", "gpu-1"):
            await until(lambda path=replica.state / gpu: "utilisation_pct=100" in path.read_text())
        request.cancel()
    assert f"pid={replica.pid}" in (replica.state / "gpu-0").read_text()


async def test_work_that_is_no_positive_number_is_named(replica: Running) -> None:
    await until(replica.is_ready)
    for work in (0, -1, "much", True, None, float("nan")):
        status, answer = await replica.ask({"work": work})
        assert status == 400
        assert answer["message"].startswith("work: got {'work': ")


async def test_a_client_that_leaves_gives_its_place_to_the_next(replica: Running) -> None:
    await until(replica.is_ready)
    async with EngineMetrics() as metrics, asyncio.TaskGroup() as asking:
        leaving = [asking.create_task(replica.ask({"work": 100})) for _ in range(3)]

        async def counts(running: int, waiting: int) -> bool:
            (reading,) = await metrics.scrape(replica.target)
            return (reading.running, reading.waiting) == (running, waiting)

        await until(lambda: counts(2, 1))
        for request in leaving:
            request.cancel()
        await until(lambda: counts(0, 0))
        assert (await replica.ask({}))[0] == 200


async def test_a_replica_told_to_end_finishes_what_runs_and_refuses_what_waits(
    replica: Running,
) -> None:
    await until(replica.is_ready)
    async with EngineMetrics() as metrics, asyncio.TaskGroup() as asking:
        requests = [asking.create_task(replica.ask({"work": 5})) for _ in range(3)]

        async def one_waits() -> bool:
            (reading,) = await metrics.scrape(replica.target)
            return reading.waiting == 1

        await until(one_waits)
        os.kill(replica.pid, signal.SIGTERM)
        status = sorted([(await request)[0] for request in requests])
    assert status == [200, 200, 503]
