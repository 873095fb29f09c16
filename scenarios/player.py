"""The player: does in the story what people and data centres would do, each at its instant."""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from scenarios.mapping import forecast_gpus, map_plans
from scenarios.playing import CrowdOrder, play_demand
from scenarios.scenario import ScenarioSpec, StoryClock
from scenarios.stack import Stack
from tidegate.edges.local_pools import LocalPoolSpec
from tidegate.errors import Broken
from tidegate.manifests import Manifests, parse_manifests

_COMMAND_WITHIN_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Story:
    """A scenario with the demand it is played on."""

    name: str
    scenario: ScenarioSpec
    trace: Path | None


class Player:
    """Plays one story on one stack; `say` is told each thing that a person or a centre does."""

    def __init__(
        self, story: Story, stack: Stack, clock: StoryClock, say: Callable[[str], None]
    ) -> None:
        self._story = story
        self._stack = stack
        self._clock = clock
        self._say = say
        self._played = play_demand(story.scenario, story.trace)
        self._gpus = forecast_gpus(story.scenario, self._played.demand.forecast_rps)

    async def prepare(self) -> None:
        """Install the GPUs of the first hour and declare the pools."""
        scenario = self._story.scenario
        installed = self._gpus(scenario.supply.installed)
        await self._stack.ground.install(installed, self._gpu_type)
        pools = self._declared().pools
        for pool in scenario.pools:
            told = pools[pool.name]
            spec = LocalPoolSpec(
                gpus_per_replica=told.gpus_per_replica,
                slots=pool.slots,
                service_s=pool.service.total_seconds(),
                cold_start_p50_s=told.cold_start.p50.total_seconds(),
                cold_start_p90_s=told.cold_start.p90.total_seconds(),
            )
            await self._stack.ground.declare(pool.name, spec)
        self._say(f"demand: {self._played.told}")
        self._say(f"GPUs: the forecast needs {self._gpus(1.0)}, {installed} are installed")

    async def play(self, *, crowd_until_s: float) -> None:
        """Play every command and arrival at its instant; raises Broken when a command fails."""
        self._clock.started_at = time.time()
        for name, text in self._mapped().items():
            (self._stack.folder / name).write_text(text, encoding="utf-8")
        await self._stack.start_crowd(self._crowd_order(crowd_until_s))
        async with asyncio.TaskGroup() as acts:
            acts.create_task(self._type_commands())
            acts.create_task(self._let_gpus_arrive())

    async def _type_commands(self) -> None:
        for command in self._story.scenario.commands:
            await self._until(command.at)
            words = self._story.scenario.words(command, self._stack.folder)
            await self._type(words, command.run.replace("PLAN", self._story.scenario.plan))

    async def _type(self, words: list[str], shown: str) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tidegate",
            *words,
            env={**os.environ, **self._stack.environment()},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), _COMMAND_WITHIN_S)
        except TimeoutError as error:
            message = f"tidegate {shown}: did not end within {_COMMAND_WITHIN_S:g} s"
            raise Broken(message, code="command-failed") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        self._say(f"$ tidegate {shown}")
        for line in output.decode().splitlines():
            self._say(f"  {line}")
        if process.returncode != 0:
            message = f"tidegate {shown}: ended with exit code {process.returncode}"
            raise Broken(message, code="command-failed")

    async def _let_gpus_arrive(self) -> None:
        installed = self._gpus(self._story.scenario.supply.installed)
        for arrival in self._story.scenario.supply.arrivals:
            await self._until(arrival.at)
            gpus = self._gpus(arrival.gpus)
            installed += gpus
            await self._stack.ground.install(installed, self._gpu_type)
            self._say(f"{gpus} GPUs arrive, {installed} are installed")

    async def _until(self, at: datetime) -> None:
        due_at = self._clock.started_at + self._story.scenario.clock.real_s(at)
        await asyncio.sleep(max(0.0, due_at - time.time()))

    def _mapped(self) -> dict[str, str]:
        started_at = datetime.fromtimestamp(self._clock.started_at or time.time(), UTC)
        return map_plans(self._story.scenario, self._gpus, started_at)

    @property
    def _gpu_type(self) -> str:
        return self._declared().pools[self._story.scenario.pools[0].name].gpu_type

    def _declared(self) -> Manifests:
        plan = self._story.scenario.plan
        return parse_manifests(self._mapped()[plan], where=plan)

    def _crowd_order(self, until_s: float) -> Path:
        asked = self._declared().features[self._story.scenario.feature]
        order = CrowdOrder(
            scenario=self._story.name,
            trace=self._story.trace,
            gateway=self._stack.addresses.gateway,
            pool=asked.pool,
            feature=self._story.scenario.feature,
            surface=asked.surfaces[0],
            started_at=self._clock.started_at,
            until_s=until_s,
            tally=self._stack.folder / "tally.json",
        )
        path = self._stack.folder / "crowd.json"
        path.write_text(order.model_dump_json(), encoding="utf-8")
        return path
