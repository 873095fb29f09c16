"""Decisions over HTTP, beside servers that only answer a constant: `python -m benchmarks.http`.

wrk asks each in turn, round after round, from a core of its own; each server has the other core.
The gateway is the real process with its loops, following a real Redis, and OFREP and admission are
asked for users drawn from 1,000,000 in four tiers, one of which is exposed to 20 %.
"""

import argparse
import asyncio
import hashlib
import json
import os
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import envoy

from benchmarks.deciding import the_snapshot
from embedded.ports import LOOPBACK, free_ports
from embedded.redis import RedisServer, find_redis
from tidegate.edges.redis import Redis

_HERE: Final = Path(__file__).parent
_READY_WITHIN_S: Final = 20.0
_KEY: Final = "benchmark-key"
_CONNECTIONS: Final = (1, 64)
_RPS: Final = re.compile(r"Requests/sec:\s+([\d.]+)")
_P99: Final = re.compile(r"99%\s+([\d.]+)(us|ms|s)\b")
_UNIT_MS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0}
_OFREP: Final = "/ofrep/v1/evaluate/flags/image"


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of wrk."""

    rps: float
    p99_ms: float


@asynccontextmanager
async def running(argv: list[str], port: int, env: Mapping[str, str]) -> AsyncIterator[int]:
    """Run a server on the first core until it is no longer needed."""
    process = await asyncio.create_subprocess_exec(
        *_pinned(0, argv),
        env={**os.environ, **env},
        start_new_session=True,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_READY_WITHIN_S):
            while not await _listens(port):
                await asyncio.sleep(0.05)
        yield port
    finally:
        # Granian's worker is a child of its own, and would outlive it.
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@asynccontextmanager
async def contestants(folder: Path) -> AsyncIterator[dict[str, tuple[int, str, str]]]:
    """Start everybody; yields port, path and what is asked, by name."""
    python = sys.executable
    raw, uvicorn, granian, envoy, redis_port, gateway = free_ports(6)
    bootstrap = folder / "envoy.yaml"
    bootstrap.write_text((_HERE / "envoy.yaml").read_text().replace("PORT", str(envoy)))
    redis = RedisServer(find_redis(), redis_port)
    url = f"redis://{LOOPBACK}:{redis_port}/0"
    constants = [python, "-m", "benchmarks.constants"]
    serve = ["--interface", "rsgi", "--port", str(granian), "--no-ws", "--log-level", "critical"]
    servers: list[tuple[list[str], int, dict[str, str]]] = [
        ([*constants, "raw", str(raw)], raw, {}),
        ([*constants, "uvicorn", str(uvicorn)], uvicorn, {}),
        ([python, "-m", "granian", *serve, "benchmarks.constants:granian_app"], granian, {}),
        (_envoy(bootstrap), envoy, {}),
        ([str(word) for word in redis.argv(folder)], redis_port, {}),
        (
            [python, "-m", "gateway", "--port", str(gateway)],
            gateway,
            {"TIDEGATE_REDIS": url, "TIDEGATE_STATE": str(folder), **_callers(folder)},
        ),
    ]
    async with AsyncExitStack() as stack:
        for argv, port, env in servers:
            await stack.enter_async_context(running(argv, port, env))
        await stack.enter_async_context(_published(url))
        yield {
            "raw": (raw, _OFREP, "ofrep"),
            "ofrep": (gateway, _OFREP, "ofrep"),
            "granian": (granian, _OFREP, "ofrep"),
            "uvicorn": (uvicorn, _OFREP, "ofrep"),
            "admit": (gateway, "/v1/admit", "admit"),
            "envoy": (envoy, "/v1/admit", "admit"),
        }


async def measure(rounds: int, seconds: int) -> dict[str, dict[int, list[Measured]]]:
    """Ask all in turn; the order is the same in each round, and none runs beside another."""
    measured: dict[str, dict[int, list[Measured]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        async with contestants(Path(folder)) as asked:
            for _ in range(rounds):
                for connections in _CONNECTIONS:
                    for name, (port, path, what) in asked.items():
                        run = await _wrk(port, path, what, connections, seconds)
                        measured.setdefault(name, {}).setdefault(connections, []).append(run)
                        _tell(f"{name} at {connections}: {run.rps:.0f} rps, {run.p99_ms:.2f} ms")
    return measured


def summary(measured: Mapping[str, Mapping[int, list[Measured]]]) -> dict[str, object]:
    """Return medians and spread at 64 connections, the ratios, and medians at one."""
    rps = {name: _median(run.rps for run in runs[64]) for name, runs in measured.items()}
    p99 = {name: _median(run.p99_ms for run in runs[64]) for name, runs in measured.items()}
    return {
        **{f"{name}_rps": round(value) for name, value in rps.items()},
        **{f"{name}_p99_ms": round(value, 3) for name, value in p99.items()},
        "ratio_to_raw": round(rps["ofrep"] / rps["raw"], 3),
        "admit_ratio_to_raw": round(rps["admit"] / rps["raw"], 3),
        "ratio_to_granian": round(rps["ofrep"] / rps["granian"], 3),
        "ratio_to_envoy": round(rps["admit"] / rps["envoy"], 3),
        "p99_ratio": round(p99["ofrep"] / p99["raw"], 3),
        "spread_rps": {
            name: [round(min(r.rps for r in runs[64])), round(max(r.rps for r in runs[64]))]
            for name, runs in measured.items()
        },
        "spread_p99_ms": {
            name: [
                round(min(r.p99_ms for r in runs[64]), 3),
                round(max(r.p99_ms for r in runs[64]), 3),
            ]
            for name, runs in measured.items()
        },
        "one_connection_rps": {
            name: round(_median(run.rps for run in runs[1])) for name, runs in measured.items()
        },
    }


def main() -> None:
    """Measure and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the last line only")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each run")
    arguments = parser.parse_args()
    found = summary(asyncio.run(measure(arguments.rounds, arguments.seconds)))
    if not arguments.json:
        for key, value in found.items():
            print(f"{key:24} {value}")  # noqa: T201 - what a benchmark is for
    print(json.dumps(found))  # noqa: T201


@asynccontextmanager
async def _published(url: str) -> AsyncIterator[None]:
    async with Redis(url) as redis:
        intent, gate = the_snapshot(time.time())
        await redis.publish(intent)
        await redis.publish(gate)
        await asyncio.sleep(2.0)  # the gateway polls once a second, should it miss the telling
        yield


def _callers(folder: Path) -> dict[str, str]:
    """Let wrk vouch for tiers with an API key, as a service would."""
    digest = hashlib.sha256(_KEY.encode()).hexdigest()
    path = folder / "callers.yaml"
    path.write_text(f"apiKeys:\n  - {{name: benchmark, sha256: {digest}}}\n")
    return {"TIDEGATE_CALLERS": str(path)}


async def _wrk(port: int, path: str, what: str, connections: int, seconds: int) -> Measured:
    url = f"http://{LOOPBACK}:{port}{path}"
    script = str(_HERE / "ask.lua")
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency", "-s", script, url]
    process = await asyncio.create_subprocess_exec(
        *_pinned(1, [*argv, "--", what, _KEY]), stdout=asyncio.subprocess.PIPE
    )
    said = (await process.communicate())[0].decode()
    rps, p99 = _RPS.search(said), _P99.search(said)
    # A refused admission is no error: four in five of Free are not exposed.
    failed = "Socket errors" in said or ("Non-2xx" in said and what != "admit")
    if rps is None or p99 is None or failed:
        raise SystemExit(f"wrk could not measure {url}:\n{said}")
    return Measured(float(rps[1]), float(p99[1]) * _UNIT_MS[p99[2]])


def _envoy(bootstrap: Path) -> list[str]:
    binary = Path(envoy.__file__).parent / "_bin" / "envoy"
    return [str(binary), "-c", str(bootstrap), "--concurrency", "1", "--log-level", "off"]


def _pinned(core: int, argv: list[str]) -> list[str]:
    return ["taskset", "-c", str(core % (os.cpu_count() or 1)), *argv]


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    return True


def _median(values: Iterator[float]) -> float:
    return statistics.median(values)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - long work shows progress


if __name__ == "__main__":
    main()
