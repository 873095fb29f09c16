"""A company with a core product and two side projects, declared as its people write it."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.embedded.until import until
from tests.workflows.story import Story
from tidegate.cli.applying import Applicant, apply_file
from tidegate.events import Event
from tidegate.messages.budget import Observation
from tidegate.messages.code_red import CodeRedOrder, CodeRedState
from tidegate.messages.common import Act
from tidegate.messages.rollout import RolloutOrder, rollout_id
from tidegate.rules.ledger import ClaimKind

_CATALOGUE = """
apiVersion: tidegate.dev/v1
kind: Tier
metadata: {{name: pro}}
spec: {{rank: 0, gated: false}}
---
{{apiVersion: tidegate.dev/v1, kind: Model, metadata: {{name: m}}, spec: {{}}}}
---
{{apiVersion: tidegate.dev/v1, kind: Budget, metadata: {{name: {gpu}}}, spec: {{}}}}
"""
_FEATURE = """
---
apiVersion: tidegate.dev/v1
kind: Pool
metadata: {{name: {name}}}
spec:
  model: m
  gpuType: {gpu}
  maxReplicas: 64
  capacityRps: 8
  queueWaitTarget: 1s
  coldStart: {{p50: 1m, p90: 2m}}
  readingLimit: 10s
  actuationLag: 1s
  scaleDownWindow: 20s
---
{{apiVersion: tidegate.dev/v1, kind: Feature, metadata: {{name: {name}}}, spec: {{pool: {name}}}}}
"""
_ROLLOUT = """
---
apiVersion: tidegate.dev/v1
kind: Rollout
metadata: {{name: {name}}}
spec:
  feature: {feature}
  owner: ann
  stages:
    - {{name: first, tiers: [pro], exposure: 1%, reserve: {reserve}, bake: 3d}}
    - {{name: second, tiers: [pro], exposure: 2%, bake: 1h}}
"""
CODE_RED = """
---
apiVersion: tidegate.dev/v1
kind: CodeRed
metadata: {{name: {name}}}
spec: {{owner: sam, reason: we fall behind, core: [{core}], letsThrough: [{through}], lasts: 2d}}
"""


@dataclass
class Company:
    """A core product and two side projects, each with a pool of its name, on one GPU type."""

    story: Story
    file: Path

    def __post_init__(self) -> None:
        number = self.story.number
        self.core, self.voice, self.ads = f"core-{number}", f"voice-{number}", f"ads-{number}"
        self.red = f"code-red/red-{number}"

    async def apply(self, text: str) -> list[str]:
        self.file.write_text(text)
        return await apply_file(self.story.plane, self.file, Applicant("ann"))

    async def is_at_work(self) -> None:
        """Declare everything; voice serves with six GPUs, and the others with none."""
        gpu = self.story.gpu_type
        text = _CATALOGUE.format(gpu=gpu)
        for name in (self.core, self.voice, self.ads):
            text += _FEATURE.format(name=name, gpu=gpu)
        await self.apply(text)
        await self.starts(self.voice, reserve=6)
        await self.sees(installed=10, ready=10)
        await until(partial(self.is_exposed, self.voice))

    async def starts(self, feature: str, *, reserve: int = 0, name: str = "") -> list[str]:
        plan = name or feature
        self.story.rollouts.append(plan)
        return await self.apply(_ROLLOUT.format(name=plan, feature=feature, reserve=reserve))

    async def places(self, name: str = "", *, through: str = "") -> list[str]:
        number = self.story.number
        text = CODE_RED.format(name=name or f"red-{number}", core=self.core, through=through)
        lines = await self.apply(text)
        await self.story.plane.look_again(f"code-red/{name or f'red-{number}'}")
        return lines

    async def lifts(self, red: str = "") -> None:
        order = Act(by="sam", reason="we are ahead")
        await self.story.plane.steer(red or self.red, "abort", order)
        await until(partial(self.story.is_over, red or self.red))

    async def sees(self, *, installed: int, ready: int) -> None:
        pools = (self.core, self.voice, self.ads)
        seen = Observation(
            installed_gpus=installed, ready_gpus=dict.fromkeys(pools, ready), needed_gpus={}
        )
        await self.story.plane.observe(self.story.gpu_type, seen)

    async def is_exposed(self, feature: str, share: float = 0.01) -> bool:
        state = await self.story.plane.feature(feature)
        return state is not None and state.exposure.get("pro", 0.0) == share

    async def state(self) -> CodeRedState:
        order = await self.story.plane.plan(self.red, CodeRedOrder)
        assert order is not None
        return order.state

    async def freezes(self, plan: str) -> list[str]:
        order = await self.story.plane.plan(rollout_id(plan), RolloutOrder)
        assert order is not None
        return list(order.state.freezes)

    async def loans(self) -> dict[str, int]:
        book = (await self.story.budget_state()).ledger
        return {c.id: c.gpus for c in book.of(ClaimKind.LENT)}

    def done(self) -> list[Event]:
        types = {"plan.frozen", "claim.lent", "claim.released", "plan.thawed"}
        ids = {rollout_id(name) for name in self.story.rollouts} | {f"budget/{self.story.gpu_type}"}
        return [e for e in self.story.world.recorded if e.type in types and e.subject in ids]
