"""A story in skipped time: its commands typed at the real CLI, real servers, simulated pools."""

import asyncio
import base64
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from typer.testing import CliRunner

from rehearsal.lockstep import STEP_S, Lockstep
from rehearsal.pools import SimulatedPools
from rehearsal.traffic import SimulatedGateway
from rehearsal.world import Delivery, World
from scenarios.assertions import Evidence, Finding, examine
from scenarios.mapping import forecast_gpus, map_plan
from scenarios.playing import play_demand
from scenarios.scenario import ScenarioSpec, load_scenario
from tests.rehearsal.skipped_time import servers
from tests.workflows.world import SECRET
from tidegate.cli.main import app
from tidegate.edges.temporal import ControlPlane
from tidegate.manifests import Manifests, parse_manifests
from tidegate.settings import variable

_STEPS_AT_MOST: Final = 700
_ASK_A_GATEWAY: Final = frozenset({"why"})
"""A gateway lives in real time, and is not there."""


@dataclass(frozen=True, slots=True)
class Played:
    """What is left of a story: what was recorded, and what was typed and said."""

    evidence: Evidence
    said: Sequence[str]
    scenario: ScenarioSpec

    def findings(self) -> list[Finding]:
        return examine(self.evidence, self.scenario.holds)


async def play_skipped(name: str, folder: Path) -> Played:
    """Live through a story at its own speed; raises AssertionError where a command fails."""
    written = load_scenario(name)
    scenario = written.model_copy(update={"clock": written.clock.model_copy(update={"speed": 1.0})})
    demand = play_demand(scenario, None).demand
    gpus = forecast_gpus(scenario, demand.forecast_rps)
    async with servers(folder) as given:
        now = (await given.time.get_current_time()).timestamp() // 1.0 + 1.0
        plan = map_plan(scenario, gpus, datetime.fromtimestamp(now, UTC))
        (folder / "plan.yaml").write_text(plan, encoding="utf-8")
        declared = parse_manifests(plan, where="plan", before=Manifests())
        gpu_type = declared.pools[scenario.pool.name].gpu_type
        world = World(
            pools=SimulatedPools(
                declared.pools, {gpu_type: gpus(scenario.supply.installed)}, seed=7, now=now
            ),
            gateway=SimulatedGateway("story", {scenario.feature: demand}, started_at=now),
            deliveries=tuple(
                Delivery(now + scenario.clock.real_s(a.at), gpu_type, gpus(a.gpus))
                for a in scenario.supply.arrivals
            ),
        )
        step_s = max(STEP_S, scenario.clock.length_s / _STEPS_AT_MOST)
        said: list[str] = []
        async with Lockstep(given, world, folder, now=now, step_s=step_s) as lockstep:
            shell = _Shell(given.plane, folder)
            for command in scenario.commands:
                await lockstep.play_until(now + scenario.clock.real_s(command.at))
                if command.run.split()[0] not in _ASK_A_GATEWAY:
                    await lockstep.act(shell.type(command.run))
                    said += shell.said
            await lockstep.play_until(now + scenario.clock.length_s)
            events, gaps = await lockstep.finish()
    return Played(Evidence(events, [str(gap) for gap in gaps], declared), said, scenario)


class _Shell:
    """Types commands as a person would who has the worker's keys."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        keys = {"keys": [{"kid": "test", "secret": base64.b64encode(SECRET).decode()}]}
        (folder / "keys.json").write_text(json.dumps(keys))
        self._plan = folder / "plan.yaml"
        self._environment = {
            variable("temporal"): plane.client.service_client.config.target_host,
            variable("state"): str(folder),
        }
        self.said: list[str] = []

    async def type(self, command: str) -> None:
        words = [str(self._plan) if word == "PLAN" else word for word in shlex.split(command)]
        # In a thread, as a command runs a loop of its own.
        done = await asyncio.to_thread(CliRunner().invoke, app, words, env=self._environment)
        self.said = [f"$ {command}", *done.output.splitlines()]
        assert done.exit_code == 0, "\n".join(self.said)
