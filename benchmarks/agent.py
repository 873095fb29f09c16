"""What an agent costs beside the GPUs it reads: `python -m benchmarks.agent`.

The real process, once a second, against a real Redis, the local pools' API with no pools, and the
stand-in for NVML with eight GPUs that have every figure.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Final

from embedded.gpu_state import GpuState, write_count, write_gpu
from embedded.nvml.build import STATE_SETTING, build
from embedded.ports import LOOPBACK, free_ports
from embedded.processes import Supervisor
from embedded.readiness import serves_http
from embedded.redis import RedisServer, find_redis, start_redis
from tidegate.edges.redis import Redis
from tidegate.readings import Absent, NodeReading
from tidegate.settings import cache_folder, variable

_GPUS: Final = 8
_WARM_UP_S: Final = 5.0
_MORE: Final = (
    "mig=0 sm_clock_mhz=1980 memory_clock_mhz=3201 throttle_reasons=4 ecc_errors=0"
    " remapped_rows=0 gpm_sm_pct=40 gpm_memory_pct=25"
)


def _write_gpus(folder: Path) -> None:
    folder.mkdir()
    for index in range(_GPUS):
        write_gpu(folder, index, GpuState.under(0.75, memory_share=0.5, pid=os.getpid()))
        card = folder / f"gpu-{index}"
        card.write_text(f"{card.read_text().strip()} {_MORE}\n", encoding="utf-8")
    write_count(folder, _GPUS)


def _cpu_s(pid: int) -> float:
    """Return the processor time that a process has used, in user and in kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def measure(folder: Path, seconds: float) -> dict[str, float]:
    """Run an agent for so long after its warm-up; per cent of one core, and megabytes resident."""
    library = build(cache_folder(os.environ))
    if isinstance(library, Absent):
        raise SystemExit(library.reason)
    _write_gpus(folder / "gpus")
    redis_port, pools_port = free_ports(2)
    server = RedisServer(find_redis(), redis_port)
    pools = f"http://{LOOPBACK}:{pools_port}"
    settings = {
        variable("redis"): server.url,
        variable("pools"): pools,
        variable("nvml"): str(library),
        variable("state"): str(folder),
        STATE_SETTING: str(folder / "gpus"),
    }
    environment = {**os.environ, **settings}
    async with Supervisor(folder) as supervisor:
        await start_redis(supervisor, server, folder)
        port = ["--port", str(pools_port), "--state-dir", str(folder / "pools")]
        await supervisor.start(
            "pools",
            [sys.executable, "-m", "embedded.pools", *port],
            ready=lambda: serves_http(f"{pools}/v1/state"),
        )
        await supervisor.start(
            "agent", [sys.executable, "-m", "controllers", "agent"], env=environment
        )
        pid = supervisor.pids()["agent"]
        await asyncio.sleep(_WARM_UP_S)
        began_s = _cpu_s(pid)
        await asyncio.sleep(seconds)
        used_s = _cpu_s(pid) - began_s
        rss_mb = _rss_mb(pid)
        async with Redis(server.url) as redis:
            ((reading,), _) = await redis.readings()
    return _told(reading, seconds, used_s, rss_mb)


def _told(reading: NodeReading, seconds: float, used_s: float, rss_mb: float) -> dict[str, float]:
    """Put the figures together, unless the agent did not do what it was measured at."""
    gpus = reading.gpus or ()
    if len(gpus) != _GPUS or any(gpu.sm_utilisation is None for gpu in gpus):
        raise SystemExit(f"the agent did not read its GPUs: {reading}")
    return {
        "gpus": len(gpus),
        "seconds": seconds,
        "cpu_percent": round(100 * used_s / seconds, 2),
        "rss_mb": round(rss_mb, 1),
    }


def main(arguments: list[str]) -> None:
    """Measure, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to measure")
    parser.add_argument("--json", action="store_true", help="one JSON object, and no words")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        told = asyncio.run(measure(Path(folder), given.seconds))
    if given.json:
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        sys.stdout.write("".join(f"{name}: {value}\n" for name, value in told.items()))


if __name__ == "__main__":
    main(sys.argv[1:])
