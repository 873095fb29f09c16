"""One local inference replica: a process of its own that loads, serves and tells its metrics.

`python -m embedded.replica --pool image --name image-3 --port 24001 --gpu 3 --gpu-dir DIR`
"""

import argparse
import asyncio
import json
import math
import os
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from embedded.engine import Engine
from embedded.engine_metrics import EngineMetrics
from embedded.gpu_state import GpuState, write_gpu
from embedded.ports import LOOPBACK
from embedded.serving import GracefulServer
from tidegate.errors import Unavailable

_DRAIN_WITHIN_S: Final = 3.0
_GPU_PERIOD_S: Final = 0.25
_WEIGHTS_SHARE: Final = 0.5
_KV_SHARE: Final = 0.4
"""Of a GPU's memory: what the weights take once loaded, and the KV cache at its fullest."""
_MOST_BODY_BYTES: Final = 64 * 1024

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    body: bytes
    kind: bytes = b"application/json"
    retry_after_s: int | None = None


def _problem(status: HTTPStatus, message: str, *, retry_after_s: int | None = None) -> _Answer:
    return _Answer(status, json.dumps({"message": message}).encode(), retry_after_s=retry_after_s)


class Replica:
    """The ASGI application: `/health`, `/metrics` and `/v1/images/generations`."""

    def __init__(self, name: str, engine: Engine, metrics: EngineMetrics) -> None:
        self._name = name
        self._engine = engine
        self._metrics = metrics
        self._is_loaded = False
        self._is_draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        match scope["method"], scope["path"]:
            case "GET", "/health":
                answer = self._unready() or _Answer(HTTPStatus.OK, b'{"status":"ready"}')
            case "GET", "/metrics":
                answer = self._show_metrics()
            case "POST", "/v1/images/generations":
                answer = self._unready() or await self._generate(receive)
            case _:
                answer = _problem(HTTPStatus.NOT_FOUND, f"{scope['path']}: no such path")
        headers = [(b"content-type", answer.kind), (b"content-length", b"%d" % len(answer.body))]
        if answer.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % answer.retry_after_s))
        await send(
            {"type": "http.response.start", "status": answer.status.value, "headers": headers}
        )
        await send({"type": "http.response.body", "body": answer.body})

    async def load(self, cold_start_s: float) -> None:
        """Take the cold start, then be ready."""
        await asyncio.sleep(cold_start_s)
        self._is_loaded = True

    async def wind_down(self) -> None:
        """Refuse what is new or waits, and finish what runs."""
        self._is_draining = True
        await self._engine.drain(_DRAIN_WITHIN_S)

    def _unready(self) -> _Answer | None:
        if self._is_draining:
            return _problem(
                HTTPStatus.SERVICE_UNAVAILABLE, f"{self._name} is going away.", retry_after_s=1
            )
        if not self._is_loaded:
            return _problem(
                HTTPStatus.SERVICE_UNAVAILABLE, f"{self._name} is loading.", retry_after_s=1
            )
        return None

    def _show_metrics(self) -> _Answer:
        # As vLLM, which opens its port when the model is loaded: an engine that is not there yet
        # must be absent, and not a row of zeros.
        if not self._is_loaded:
            return _problem(HTTPStatus.SERVICE_UNAVAILABLE, f"{self._name} is loading.")
        return _Answer(HTTPStatus.OK, self._metrics.text(), b"text/plain; version=0.0.4")

    async def _generate(self, receive: Receive) -> _Answer:
        try:
            work = _work_of(await _read(receive))
        except ValueError as error:
            return _problem(HTTPStatus.BAD_REQUEST, str(error))
        running = asyncio.ensure_future(self._engine.generate(work))
        leaving = asyncio.ensure_future(_until_client_left(receive))
        await asyncio.wait({running, leaving}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if not running.done():
            # Nobody waits for the answer any more, so the slot goes to somebody who does.
            running.cancel()
            return _problem(HTTPStatus.SERVICE_UNAVAILABLE, "the client left")
        try:
            served = running.result()
        except Unavailable as error:
            return _problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), retry_after_s=1)
        body = {
            "replica": self._name,
            "queue_wait_s": round(served.queue_wait_s, 4),
            "service_s": round(served.service_s, 4),
        }
        return _Answer(HTTPStatus.OK, json.dumps(body).encode())


async def _read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if len(body) > _MOST_BODY_BYTES:
            raise ValueError(f"body: got more than {_MOST_BODY_BYTES} bytes")
        if not message.get("more_body", False):
            return body


async def _until_client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _work_of(body: bytes) -> float:
    """Read `work`, 1.0 unless given; raises ValueError naming what is wrong."""
    try:
        asked = json.loads(body or b"{}")
    except ValueError as error:
        raise ValueError(f"body: expected JSON, {error}") from error
    match asked.get("work", 1.0) if isinstance(asked, dict) else asked:
        case bool():
            pass
        case int() | float() as work if math.isfinite(work) and work > 0:
            return float(work)
    raise ValueError(f'work: got {asked!r}, expected a number above 0, such as {{"work": 1.0}}')


async def _show_gpus(engine: Engine, gpus: list[int], folder: Path, cold_start_s: float) -> None:
    """Keep the state files of this replica's GPUs true, until cancelled."""
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    while True:
        now = loop.time()
        loaded = min(1.0, (now - began_at) / cold_start_s) if cold_start_s else 1.0
        memory_share = _WEIGHTS_SHARE * loaded + _KV_SHARE * engine.kv_cache_use
        state = GpuState.under(engine.duty(now), memory_share=memory_share, pid=os.getpid())
        for gpu in gpus:
            write_gpu(folder, gpu, state)
        await asyncio.sleep(_GPU_PERIOD_S)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="embedded.replica", description=__doc__)
    parser.add_argument("--pool", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--host", default=LOOPBACK, help="an address of the loopback")
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--gpu", required=True, help="its GPUs' numbers, such as 3 or 3,4")
    parser.add_argument("--gpu-dir", required=True, type=Path)
    parser.add_argument("--cold-start-s", type=float, default=2.0)
    parser.add_argument("--slots", type=int, default=4, help="the largest batch")
    parser.add_argument(
        "--service-s", type=float, default=0.4, help="of a request of work 1, alone"
    )
    parser.add_argument("--kv-tokens", type=int, default=65_536)
    return parser.parse_args()


async def _run(asked: argparse.Namespace) -> None:
    metrics = EngineMetrics(asked.pool)
    engine = Engine(
        slots=asked.slots,
        service_s=asked.service_s,
        kv_tokens=asked.kv_tokens,
        metrics=metrics,
    )
    replica = Replica(asked.name, engine, metrics)
    gpus = [int(gpu) for gpu in asked.gpu.split(",")]
    loading = asyncio.create_task(replica.load(asked.cold_start_s))
    showing = asyncio.create_task(_show_gpus(engine, gpus, asked.gpu_dir, asked.cold_start_s))
    server = GracefulServer(replica, asked.port, wind_down=replica.wind_down, host=asked.host)
    await server.serve_until_told()
    for task in (loading, showing):
        task.cancel()


if __name__ == "__main__":
    asyncio.run(_run(_arguments()))
