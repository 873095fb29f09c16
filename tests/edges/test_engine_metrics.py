import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from embedded.ports import LOOPBACK, free_ports
from tidegate.edges.engine_metrics import EngineMetrics, EngineTarget, load_engines
from tidegate.errors import Unavailable
from tidegate.readings import EngineReading


@dataclass
class Engine:
    """A server that answers with the text it is given, as an engine of another make might."""

    address: str
    text: str = ""
    status: int = 200
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    metrics: EngineMetrics = field(default_factory=EngineMetrics)

    async def answer(self, _: web.Request) -> web.Response:
        await self.may_answer.wait()
        return web.Response(text=self.text, status=self.status)

    async def scrape(self, *lines: str, replica: str = "image-1") -> EngineReading:
        (reading,) = await self.scrape_all(*lines, replica=replica)
        return reading

    async def scrape_all(self, *lines: str, replica: str = "image-1") -> tuple[EngineReading, ...]:
        self.text = "\n".join([*lines, ""])
        return await self.metrics.scrape(EngineTarget("image", replica, self.address, gpu=2))

    async def scrape_waits(self, sum_s: float, count: int) -> float | None:
        name = "vllm:request_queue_time_seconds"
        reading = await self.scrape(
            f"# TYPE {name} histogram",
            f'{name}_bucket{{le="+Inf",model_name="image"}} {count}',
            f'{name}_sum{{model_name="image"}} {sum_s}',
            f'{name}_count{{model_name="image"}} {count}',
        )
        return reading.queue_wait_s


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    (port,) = free_ports(1)
    engine = Engine(f"http://{LOOPBACK}:{port}")
    engine.may_answer.set()
    app = web.Application()
    app.router.add_get("/metrics", engine.answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, port).start()
    async with engine.metrics:
        yield engine
    engine.may_answer.set()
    await runner.cleanup()


async def test_vllm_s_series_are_read_summed_over_labels(engine: Engine) -> None:
    reading = await engine.scrape(
        "# TYPE vllm:num_requests_running gauge",
        'vllm:num_requests_running{engine="0",model_name="image"} 3.0',
        'vllm:num_requests_running{engine="1",model_name="image"} 2.0',
        'vllm:num_requests_waiting{engine="0",model_name="image"} 7.0',
        'vllm:kv_cache_usage_perc{engine="0",model_name="image"} 0.5',
        'vllm:kv_cache_usage_perc{engine="1",model_name="image"} 0.25',
        "# TYPE vllm:request_success counter",
        'vllm:request_success_total{finished_reason="stop",model_name="image"} 10.0',
        'vllm:request_success_total{finished_reason="length",model_name="image"} 5.0',
        "# TYPE vllm:generation_tokens counter",
        'vllm:generation_tokens_total{model_name="image"} 4096.0',
    )
    assert reading == EngineReading(
        pool="image",
        replica="image-1",
        gpu=2,
        model="image",
        running=5.0,
        waiting=7.0,
        kv_cache_use=0.5,
        requests_total=15.0,
        tokens_total=4096.0,
        queue_wait_s=None,
    )


async def test_a_series_that_is_missing_or_not_a_number_is_none_and_never_zero(
    engine: Engine,
) -> None:
    reading = await engine.scrape('vllm:num_requests_running{model_name="image"} NaN')
    assert reading == EngineReading(pool="image", replica="image-1", gpu=2)


async def test_the_name_of_the_cache_s_use_before_vllm_0_10_is_known(engine: Engine) -> None:
    reading = await engine.scrape('vllm:gpu_cache_usage_perc{model_name="image"} 0.75')
    assert reading.kv_cache_use == 0.75


async def test_the_wait_is_the_mean_of_what_happened_since_the_last_scrape(engine: Engine) -> None:
    assert await engine.scrape_waits(100.0, 50) is None
    assert await engine.scrape_waits(106.0, 54) == 1.5
    assert await engine.scrape_waits(106.0, 54) is None
    assert await engine.scrape_waits(106.0, 55) == 0.0


async def test_an_engine_that_began_anew_never_shows_a_negative_wait(engine: Engine) -> None:
    await engine.scrape_waits(100.0, 50)
    assert await engine.scrape_waits(3.0, 2) == 1.5
    await engine.scrape_waits(100.0, 50)
    assert await engine.scrape_waits(30.0, 60) == 0.5


async def test_an_engine_that_does_not_answer_in_time_is_unavailable(engine: Engine) -> None:
    engine.may_answer.clear()
    with pytest.raises(Unavailable, match=r'replica "image-1": .* no answer within 0\.8 s'):
        await engine.scrape()


async def test_an_engine_that_is_not_there_is_unavailable(engine: Engine) -> None:
    (port,) = free_ports(1)
    target = EngineTarget("image", "image-9", f"http://{LOOPBACK}:{port}")
    with pytest.raises(Unavailable, match=r'replica "image-9": .*Check that pod\.') as raised:
        await engine.metrics.scrape(target)
    assert raised.value.code == "engine_unavailable"


async def test_an_engine_that_refuses_is_unavailable(engine: Engine) -> None:
    engine.status = 503
    with pytest.raises(Unavailable, match="answered 503, expected 200"):
        await engine.scrape()


async def test_a_page_that_is_no_metrics_is_unavailable(engine: Engine) -> None:
    with pytest.raises(Unavailable, match="not in Prometheus' text format"):
        await engine.scrape("<html><body>Welcome!</body></html>")


RECORDED = Path(__file__).with_name("engines")
"""What each engine tells, written after its documentation: names, labels and types are its own."""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "vllm",
            {
                "model": "chat",
                "running": 12.0,
                "waiting": 3.0,
                "kv_cache_use": 0.61,
                "requests_total": 940.0,
                "tokens_total": 51200.0,
            },
        ),
        (
            "sglang",
            {
                "model": "chat",
                "running": 7.0,
                "waiting": 2.0,
                "kv_cache_use": 0.28,
                "requests_total": 310.0,
                "tokens_total": 7557.0,
            },
        ),
        (
            "tgi",
            {"running": 4.0, "waiting": 1.0, "requests_total": 88.0, "tokens_total": 9000.0},
        ),
    ],
)
async def test_each_engine_s_own_names_are_known(
    engine: Engine, name: str, expected: dict[str, object]
) -> None:
    text = (RECORDED / f"{name}.txt").read_text()
    first = await engine.scrape(*text.splitlines())
    assert first == msgspec.convert(
        {"pool": "image", "replica": "image-1", "gpu": 2, **expected}, EngineReading
    )
    # Four more requests, that waited 6 s together.
    later = text.replace("_sum 20.0", "_sum 26.0").replace("_count 40", "_count 44")
    later = later.replace('_sum{model_name="chat"} 20.0', '_sum{model_name="chat"} 26.0')
    later = later.replace('_count{model_name="chat"} 40', '_count{model_name="chat"} 44')
    assert (await engine.scrape(*later.splitlines())).queue_wait_s == 1.5


async def test_versions_side_by_side_are_read_each_by_itself(engine: Engine) -> None:
    text = (RECORDED / "triton.txt").read_text()
    await engine.scrape_all(*text.splitlines())
    busier = text.replace(
        'us{model="chat",version="2"} 4000000', 'us{model="chat",version="2"} 9000000'
    )
    busier = busier.replace(
        'success{model="chat",version="2"} 20', 'success{model="chat",version="2"} 22'
    )
    one, two = await engine.scrape_all(*busier.splitlines())
    assert (one.version, one.waiting, one.requests_total) == ("1", 0.0, 100.0)
    assert (two.version, two.waiting, two.requests_total) == ("2", 5.0, 22.0)
    assert (one.queue_wait_s, two.queue_wait_s) == (None, 2.5)
    assert two.running is None, "Triton does not tell"


def test_no_series_belongs_to_two_engines() -> None:
    names = [name for series in load_engines().values() for name in series.names]
    assert len(names) == len(set(names))
