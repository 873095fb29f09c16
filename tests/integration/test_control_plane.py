"""What a person types, against a real Temporal and a real worker, in processes of their own."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest_asyncio

from embedded.ports import free_ports
from embedded.processes import Supervisor
from embedded.redis import RedisServer, find_redis, start_redis
from embedded.temporal import TemporalDevServer, start_temporal
from tests.embedded.until import until
from tidegate.settings import variable

NO_PLAN_IS_DECLARED: Final = "nothing is declared yet"

PLAN: Final = """
apiVersion: tidegate.dev/v1
kind: Tier
metadata: {name: pro}
spec: {rank: 0, gated: false}
---
apiVersion: tidegate.dev/v1
kind: Model
metadata: {name: image-2}
spec: {}
---
apiVersion: tidegate.dev/v1
kind: Budget
metadata: {name: local}
spec: {}
---
apiVersion: tidegate.dev/v1
kind: Pool
metadata: {name: image}
spec:
  model: image-2
  gpuType: local
  maxReplicas: 4
  capacityRps: 8.0
  queueWaitTarget: 1s
  coldStart: {p50: 2s, p90: 4s}
  readingLimit: 5s
  actuationLag: 1s
  scaleDownWindow: 20s
---
apiVersion: tidegate.dev/v1
kind: Feature
metadata: {name: image}
spec: {pool: image}
---
apiVersion: tidegate.dev/v1
kind: Rollout
metadata: {name: launch}
spec:
  feature: image
  owner: ada
  stages:
    - {name: pro, tiers: [pro], approval: product, bake: 1h}
"""

FIVE_MISTAKES: Final = """
apiVersion: tidegate.dev/v1
kind: Tier
metadata: {name: pro}
spec: {rank: -1}
---
apiVersion: tidegate.dev/v1
kind: Rollout
metadata: {name: launch}
spec:
  feature: imagine
  stages:
    - {name: pro, tiers: [pro], exposure: 120%, bake: 30 minutes}
"""


@dataclass
class Plane:
    """Temporal, Redis, a worker and a recorder, and a shell to type in."""

    supervisor: Supervisor
    environment: Mapping[str, str]
    folder: Path

    async def types(self, *words: str) -> tuple[int, str]:
        """Type a command; returns its exit code and what it printed."""
        return await run_python(["-m", "tidegate", *words], self.environment)

    async def applies(self, text: str) -> tuple[int, str]:
        path = self.folder / "plan.yaml"
        path.write_text(text, encoding="utf-8")
        return await self.types("apply", "-f", str(path), "--by", "ada")


async def run_python(words: list[str], environment: Mapping[str, str]) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *words,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30.0)
    assert process.returncode is not None
    return process.returncode, output.decode()


@pytest_asyncio.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    temporal_port, ui_port, redis_port = free_ports(3)
    temporal = TemporalDevServer(temporal_port, ui_port, tmp_path / "temporal.db")
    redis = RedisServer(find_redis(), redis_port)
    environment = {
        variable("temporal"): temporal.address,
        variable("redis"): redis.url,
        variable("record"): f"sqlite:///{tmp_path / 'record.db'}",
        variable("state"): str(tmp_path),
    }
    async with Supervisor(tmp_path) as supervisor:
        await start_temporal(supervisor, temporal)
        await start_redis(supervisor, redis, tmp_path)
        for loop in ("worker", "recorder"):
            argv = [sys.executable, "-m", "controllers", loop]
            await supervisor.start(loop, argv, env=environment, restarts=True)
        yield Plane(supervisor, environment, tmp_path)


async def test_a_plan_is_applied_refused_approved_and_goes_on_after_a_killed_worker(
    plane: Plane,
) -> None:
    code, said = await plane.applies(FIVE_MISTAKES)
    assert (code, len(said.splitlines())) == (2, 5), said
    assert NO_PLAN_IS_DECLARED in (await plane.types("status"))[1]

    code, said = await plane.applies(PLAN)
    assert code == 0, said
    assert "rollout/launch started" in said
    assert "rollout/launch runs already, unchanged" in (await plane.applies(PLAN))[1]

    code, said = await plane.types("approve", "launch", "pro", "--role", "legal")
    assert (code, said.strip()) == (3, 'stage "pro": product approves it, not legal.')

    os.kill(plane.supervisor.pids()["worker"], signal.SIGKILL)
    code, said = await plane.types("approve", "launch", "pro", "--role", "product")
    assert code == 0, said

    async def is_open() -> bool:
        return "exposed to pro 100%" in (await plane.types("status"))[1]

    await until(is_open, within_s=15.0)
    code, said = await plane.types("approve", "launch", "pro", "--role", "product")
    assert code == 3, "approved once, and a killed worker has not forgotten it"

    code, said = await plane.types("hold", "launch", "--role", "legal", "--reason", "a review")
    assert code == 0, said
    code, said = await plane.types("release", "launch", "--role", "safety")
    assert code == 3, said
    assert "legal" in said


async def test_a_dead_temporal_gives_one_clear_line() -> None:
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    code, said = await run_python(["-m", "tidegate", "status"], {variable("temporal"): address})
    assert code == 4
    assert said.splitlines() == [
        f"temporal: no answer from {address}. Start it, or set TIDEGATE_TEMPORAL to where it is."
    ]


async def test_a_missing_redis_gives_one_clear_line() -> None:
    (port,) = free_ports(1)
    url = f"redis://127.0.0.1:{port}/0"
    code, said = await run_python(["-m", "controllers", "gate"], {variable("redis"): url})
    assert code == 1
    (line,) = said.splitlines()
    assert line.startswith("redis: no answer from")
    assert "TIDEGATE_REDIS" in line
