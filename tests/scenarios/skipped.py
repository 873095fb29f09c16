"""A story in skipped time: its commands typed at the real CLI, real servers, simulated pools."""

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
from scenarios.mapping import forecast_gpus, map_plans
from scenarios.playing import play_demand
from scenarios.scenario import Command, ScenarioSpec, load_scenario
from tests.rehearsal.skipped_time import servers
from tests.workflows.world import SECRET
from tidegate.cli.main import app
from tidegate.edges.temporal import ControlPlane
from tidegate.events import Event
from tidegate.manifests import Manifests, parse_manifests
from tidegate.messages.budget import budget_id
from tidegate.messages.code_red import CodeRedOrder
from tidegate.messages.feature import feature_id
from tidegate.messages.preview import PreviewOrder
from tidegate.messages.retirement import RetirementOrder
from tidegate.messages.rollout import RolloutOrder
from tidegate.messages.steered import PlanOrder
from tidegate.messages.supply import SupplyOrder
from tidegate.rules.ledger import ClaimKind
from tidegate.settings import variable

_PLANS: Final = (RolloutOrder, SupplyOrder, CodeRedOrder, RetirementOrder, PreviewOrder)
_ORDERS: Final[Mapping[str, type[PlanOrder]]] = {order.kind: order for order in _PLANS}
_STEPS_AT_MOST: Final = 350
_REFUSED: Final = 3
_NOBODY_ANSWERED: Final = 4
ASK_A_GATEWAY: Final = frozenset({"why"})
"""A gateway lives in real time, and is not there."""


@dataclass(frozen=True, slots=True)
class Played:
    """What is left of a story: what was recorded, and what was typed and said."""

    evidence: Evidence
    said: Sequence[str]
    scenario: ScenarioSpec
    state: Mapping[str, object]
    """What is left in the entities."""
    before: Sequence[Counter[tuple[object, ...]]] = ()
    """The transitions that were told before each command."""

    def findings(self) -> list[Finding]:
        return examine(self.evidence, self.scenario.holds)


@dataclass(frozen=True, slots=True)
class Staged:
    """A story made ready to begin at an instant of ours: its plan, its world, its clock."""

    scenario: ScenarioSpec
    started_at: float
    declared: Manifests
    plans: Mapping[str, str]
    """The files that are applied, by name."""
    world: World

    def instant(self, at: datetime) -> float:
        """Return when an instant of the story comes, in seconds since the epoch."""
        return self.started_at + self.scenario.clock.real_s(at)

    @property
    def ends_at(self) -> float:
        return self.started_at + self.scenario.clock.length_s


def stage(name: str, started_at: float, *, speed: float = 1.0) -> Staged:
    """Map a story onto an instant and a speed; pools and those who ask are simulated."""
    written = load_scenario(name)
    clock = written.clock.model_copy(update={"speed": speed})
    scenario = written.model_copy(update={"clock": clock})
    demand = play_demand(scenario, None).demand
    gpus = forecast_gpus(scenario, demand.forecast_rps)
    plans = map_plans(scenario, gpus, datetime.fromtimestamp(started_at, UTC))
    declared = parse_manifests(plans[scenario.plan], where="plan", before=Manifests())
    gpu_type = declared.pools[scenario.pools[0].name].gpu_type
    installed = {gpu_type: gpus(scenario.supply.installed)}
    world = World(
        pools=SimulatedPools(declared.pools, installed, seed=7, now=started_at),
        gateway=SimulatedGateway("story", {scenario.feature: demand}, started_at=started_at),
        deliveries=tuple(
            Delivery(started_at + clock.real_s(a.at), gpu_type, gpus(a.gpus))
            for a in scenario.supply.arrivals
        ),
    )
    return Staged(scenario, started_at, declared, plans, world)


_AS_OFTEN_AS_IT_LIKES: Final = (
    "admission.",
    "gate.",
    "pool.",
    "supply.",
    "stage.checked",
    "stage.waiting",
    "stage.forecast",
    "feature.waiting",
    "model.goes",
)
"""What is told depends on when pools and queues are looked at, or how much is told at once."""


def transitions(events: Iterable[Event]) -> Counter[tuple[object, ...]]:
    """Count what was told of each thing, apart from what pools and queues decide."""
    return Counter(
        (e.type, e.subject, e.data.get("stage"), e.data.get("tier"), e.data.get("after"))
        for e in events
        if not e.type.startswith(_AS_OFTEN_AS_IT_LIKES)
    )


async def play_skipped(name: str, folder: Path) -> Played:
    """Live through a story at its own speed; raises AssertionError where a command fails."""
    async with servers(folder) as given:
        now = (await given.time.get_current_time()).timestamp() // 1.0 + 1.0
        staged = stage(name, now)
        shell = Shell(given.plane, folder, staged)
        step_s = max(STEP_S, staged.scenario.clock.length_s / _STEPS_AT_MOST)
        async with Lockstep(given, staged.world, folder, now=now, step_s=step_s) as lockstep:
            before = []
            for command in staged.scenario.commands:
                await lockstep.play_until(staged.instant(command.at))
                before.append(transitions(await lockstep.recorded()))
                if command.run.split()[0] not in ASK_A_GATEWAY:
                    await lockstep.act(shell.type(command))
            await lockstep.play_until(staged.ends_at)
            events, gaps = await lockstep.finish()
            state = await state_of(given.plane)
        evidence = Evidence(events, [str(gap) for gap in gaps], staged.declared)
    return Played(evidence, shell.said, staged.scenario, state, before)


async def state_of(plane: ControlPlane) -> dict[str, object]:
    """Return what is left of a story in the entities, without instants: the same in every run."""
    catalogue = await plane.catalogue()
    assert catalogue is not None
    state: dict[str, object] = {}
    for name in catalogue.declared.features:
        feature = await plane.feature(name)
        assert feature is not None
        state[feature_id(name)] = (
            feature.exposure,
            [str(opening) for opening in feature.openings],
            sorted(hold.role for hold in feature.holds.values()),
            feature.signups,
            sorted(entry.what for entry in feature.history),
        )
    for kind, name in catalogue.declared.plans():
        plan = await plane.plan(f"{kind}/{name}", _ORDERS[kind])
        assert plan is not None
        state[plan.plan_id] = plan.state.has_finished
    for name in catalogue.declared.budgets:
        budget = await plane.budget(name)
        assert budget is not None
        claims = budget.ledger.claims.values()
        held = [c for c in claims if c.kind not in {ClaimKind.IN_USE, ClaimKind.SICK}]
        state[budget_id(name)] = sorted(
            (c.id.rpartition("/")[2], c.kind, c.state, c.gpus) for c in held
        )
    return state


class Shell:
    """Types commands as a person would who has the worker's keys."""

    def __init__(self, plane: ControlPlane, folder: Path, staged: Staged) -> None:
        self.write_keys(folder)
        self._folder, self._scenario = folder, staged.scenario
        for name, text in staged.plans.items():
            (folder / name).write_text(text, encoding="utf-8")
        self._environment = {
            variable("temporal"): plane.client.service_client.config.target_host,
            variable("state"): str(folder),
        }
        self.said: list[str] = []

    @staticmethod
    def write_keys(folder: Path) -> None:
        """Have whoever keeps its state in this folder sign with the tests' keys."""
        keys = {"keys": [{"kid": "test", "secret": base64.b64encode(SECRET).decode()}]}
        (folder / "keys.json").write_text(json.dumps(keys))

    async def type(self, command: Command) -> None:
        """Type a command, again while nobody answers; raises AssertionError where it fails."""
        words = self._scenario.words(command, self._folder)
        is_again = False
        while True:
            # In a thread, as a command runs a loop of its own.
            done = await asyncio.to_thread(CliRunner().invoke, app, words, env=self._environment)
            self.said += [f"$ {command.run}", *done.output.splitlines()]
            if done.exit_code != _NOBODY_ANSWERED:
                break
            is_again = True
        # What was taken before its answer was lost is refused when it is asked for again.
        may_be_refused = is_again and done.exit_code == _REFUSED
        assert done.exit_code == 0 or may_be_refused, "\n".join(self.said[-8:])
