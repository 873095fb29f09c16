"""The launch day that is rehearsed: its plan, its world, and what people do in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rehearsal.lockstep import Lockstep
from rehearsal.pools import SimulatedPools
from rehearsal.traffic import SimulatedGateway
from rehearsal.world import Delivery, Servers, World
from tidegate.demand import Demand, Launch
from tidegate.edges.files import load_manifests
from tidegate.edges.record import Gap
from tidegate.events import Event
from tidegate.manifests import Manifests
from tidegate.messages.rollout import Approval, rollout_id
from tidegate.rules.sizing import gpus_for
from tidegate.shapes import rising_day

ROLLOUT = "image-launch"
LENGTH_S = 6 * 3600.0
OPENS_AT_S = 12 * 60.0
ARRIVE_AT_S = (2 * 3600.0 + 500.0, 4 * 3600.0 + 2500.0)
FORECAST_RPS = 12.0
CAPACITY_RPS = 1.0
TARGET = 0.6
INSTALLED = gpus_for(FORECAST_RPS, CAPACITY_RPS, TARGET)
ARRIVING = 30

PLAN = """
apiVersion: tidegate.dev/v1
kind: Tier
metadata: {{name: pro}}
spec: {{rank: 0, gated: false}}
---
apiVersion: tidegate.dev/v1
kind: Tier
metadata: {{name: plus}}
spec: {{rank: 1, gated: false}}
---
apiVersion: tidegate.dev/v1
kind: Tier
metadata: {{name: team}}
spec: {{rank: 2, gated: false}}
---
apiVersion: tidegate.dev/v1
kind: Tier
metadata: {{name: free}}
spec: {{rank: 3, gated: true}}
---
apiVersion: tidegate.dev/v1
kind: Model
metadata: {{name: image-2}}
spec: {{engine: vllm}}
---
apiVersion: tidegate.dev/v1
kind: Budget
metadata: {{name: h100}}
spec: {{}}
---
apiVersion: tidegate.dev/v1
kind: Supply
metadata: {{name: order-17}}
spec:
  {{gpuType: h100, owner: ada, gpus: {arriving}, at: "{order_17}", latest: "{order_17_latest}"}}
---
apiVersion: tidegate.dev/v1
kind: Supply
metadata: {{name: order-18}}
spec:
  {{gpuType: h100, owner: ada, gpus: {arriving}, at: "{order_18}", latest: "{order_18_latest}"}}
---
apiVersion: tidegate.dev/v1
kind: Pool
metadata: {{name: image}}
spec:
  model: image-2
  gpuType: h100
  minReplicas: 1
  maxReplicas: 100
  capacityRps: {capacity_rps}
  targetUtilisation: {target}
  queueWaitTarget: 30s
  coldStart: {{p50: 8m, p90: 16m}}
  readingLimit: 1m
  actuationLag: 50s
  scaleDownWindow: 20m
---
apiVersion: tidegate.dev/v1
kind: Feature
metadata: {{name: image}}
spec: {{pool: image, surfaces: [chat, api]}}
---
apiVersion: tidegate.dev/v1
kind: Rollout
metadata: {{name: image-launch}}
spec:
  feature: image
  owner: ada
  stages:
    - {{name: pro, tiers: [pro], startsAt: "{opens}", approval: product, reserve: 2, bake: 20m}}
    - {{name: plus-and-team, tiers: [plus, team], reserve: 10, bake: 30m}}
    - {{name: free-25, tiers: [free], exposure: 25%, reserve: 4, bake: 20m}}
    - name: free-100
      tiers: [free]
      reserve: 8
      bake: 20m
      checks: [{{name: wait, queueWaitBelow: 5m}}]
"""


@dataclass(frozen=True, slots=True)
class Day:
    """The same day, from whatever instant on it is rehearsed."""

    started_at: float

    def at(self, after_s: float) -> str:
        return datetime.fromtimestamp(self.started_at + after_s, UTC).isoformat()

    def plan(self) -> str:
        first, second = (2 * 3600.0, 4 * 3600.0 + 1200.0)
        return PLAN.format(
            arriving=ARRIVING,
            order_17=self.at(first),
            order_17_latest=self.at(first + 2400.0),
            order_18=self.at(second),
            order_18_latest=self.at(second + 3600.0),
            capacity_rps=CAPACITY_RPS,
            target=f"{TARGET:.0%}",
            opens=self.at(OPENS_AT_S),
        )

    def world(self, plan: Path) -> World:
        demand = Demand(
            forecast_rps=FORECAST_RPS,
            tiers={"pro": 0.1, "plus": 0.3, "team": 0.1, "free": 0.5},
            shape=rising_day(LENGTH_S, seed=7),
            launches=(Launch(at_s=OPENS_AT_S, factor=3.0),),
        )
        return World(
            pools=SimulatedPools(
                load_manifests(plan).pools, {"h100": INSTALLED}, seed=7, now=self.started_at
            ),
            gateway=SimulatedGateway("rehearsal", {"image": demand}, started_at=self.started_at),
            deliveries=tuple(
                Delivery(self.started_at + after_s, "h100", ARRIVING) for after_s in ARRIVE_AT_S
            ),
        )


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What is left of a day: all that was recorded, and what was published on the way."""

    started_at: float
    plan: Manifests
    events: Sequence[Event]
    gaps: Sequence[Gap]
    ceilings: Sequence[Mapping[str, float]]
    """The image pool's, after each step."""

    def after_s(self, at: datetime) -> float:
        return at.timestamp() - self.started_at

    def of(self, event_type: str, **data: object) -> list[Event]:
        return [
            event
            for event in self.events
            if event.type == event_type
            and all(event.data.get(key) == value for key, value in data.items())
        ]


async def rehearse(servers: Servers, folder: Path, *, until_s: float = LENGTH_S) -> Rehearsed:
    """Live through the day, or its beginning, as product manager."""
    folder.mkdir(exist_ok=True)
    day = Day((await servers.time.get_current_time()).timestamp() // 1.0 + 1.0)
    plan = folder / "plan.yaml"
    plan.write_text(day.plan())
    ceilings: list[Mapping[str, float]] = []
    async with Lockstep(servers, day.world(plan), folder, now=day.started_at) as lockstep:
        declared = await lockstep.apply(plan, by="ada")
        await lockstep.play_until(day.started_at + 8 * 60.0)
        approval = Approval(stage="pro", role="product", by="ada")
        await lockstep.act(lockstep.plane.steer(rollout_id(ROLLOUT), "approve", approval))
        while lockstep.now < day.started_at + until_s:
            await lockstep.step()
            ceilings.append((await servers.redis.snapshot()).gates["image"].ceilings)
        events, gaps = await lockstep.finish()
    return Rehearsed(day.started_at, declared, events, gaps, ceilings)
