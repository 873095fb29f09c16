"""A model that is to go, its successor, and the retirement between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from tests.embedded.until import until
from tests.workflows.story import Story
from tidegate.catalogue import BudgetSpec, ModelSpec
from tidegate.events import Event
from tidegate.messages.budget import Observation, Reservation
from tidegate.messages.common import Act
from tidegate.messages.model import ModelState
from tidegate.messages.retirement import (
    MoveOrder,
    PoolRef,
    RetirementOrder,
    RetirementPhase,
    RetirementState,
    ReversalOrder,
)
from tidegate.messages.steered import Waits
from tidegate.quantities import parse_duration
from tidegate.retiring import RetirementSpec

TIERS = ("pro", "plus", "free")


@dataclass
class Retiring:
    """What people do about it; instants are counted from the story's beginning."""

    story: Story

    def __post_init__(self) -> None:
        number = self.story.number
        self.model, self.successor = f"old-{number}", f"new-{number}"
        self.plan = f"retirement/going-{number}"

    def at(self, after: str) -> datetime:
        return self.story.began_at + parse_duration(after)

    def spec(
        self,
        sunset: str = "10d",
        *,
        announced: str = "1d",
        brownouts: Sequence[tuple[str, str]] = (),
        cut_offs: Sequence[tuple[str, str]] = (),
        **more: object,
    ) -> RetirementSpec:
        """Write a retirement, without notices and with three days of grace, if nothing is said."""
        written = {
            "model": self.model,
            "owner": "mara",
            "successor": self.successor,
            "announced_at": self.at(announced),
            "brownouts": [{"start": self.at(a), "end": self.at(b)} for a, b in brownouts],
            "cut_offs": [{"tiers": [tier], "at": self.at(at)} for tier, at in cut_offs],
            "sunset_at": self.at(sunset),
            "notices": (),
            "grace": timedelta(days=3),
        }
        return RetirementSpec.model_validate({**written, **more})

    async def begins(self) -> None:
        """Have a budget for both models."""
        await self.story.plane.declare_budget(self.story.gpu_type, BudgetSpec())

    async def starts(self, spec: RetirementSpec, *, pinned: tuple[str, ...] = ()) -> None:
        """Declare the models, and start the retirement."""
        story = self.story
        await story.plane.declare_model(self.model, ModelSpec(pinned=pinned))
        await story.plane.declare_model(self.successor, ModelSpec())
        refs = [
            PoolRef(pool=f"{m}-pool", gpu_type=story.gpu_type) for m in (self.model, self.successor)
        ]
        order = RetirementOrder(
            name=f"going-{story.number}",
            spec=spec,
            tiers=TIERS,
            pools=(refs[0],),
            successors=(refs[1],),
            pinned=pinned,
            notices={"pro": 2 * 86_400.0},
        )
        assert await story.plane.start_plan(order, "a story")

    async def sees(self, *, old: int = 0, needed: int = 0, new: int = 0) -> None:
        """Tell the budget how many GPUs are ready for each, and what the old one's users need."""
        pools = {f"{self.model}-pool": old, f"{self.successor}-pool": new}
        wanted = {f"{self.model}-pool": needed, f"{self.successor}-pool": 0}
        seen = Observation(installed_gpus=20, ready_gpus=pools, needed_gpus=wanted)
        await self.story.plane.observe(self.story.gpu_type, seen)

    async def serves_on(self, gpus: int) -> None:
        """Have a stage of the old model open on so many GPUs."""
        await self.sees(old=gpus)
        wanted = Reservation(
            claim_id=f"launch/{self.model}",
            owner="rollout/long-gone",
            pool=f"{self.model}-pool",
            gpus=gpus,
            lead_p50_s=60.0,
            lead_p90_s=120.0,
        )
        gpu_type = self.story.gpu_type
        await self.story.plane.ask_budget(gpu_type, "reserve", wanted, None)
        await self.story.plane.ask_budget(gpu_type, "spend", wanted.claim_id, None)

    async def moves(self, spec: RetirementSpec, *, role: str = "", reason: str = "") -> None:
        order = MoveOrder(by="mara", role=role, reason=reason, spec=spec)
        await self.story.plane.steer(self.plan, "move", order)

    async def is_taken_back(self, *tiers: str) -> None:
        order = ReversalOrder(by="mara", reason="they protested", tiers=tiers)
        await self.story.plane.steer(self.plan, "reverse", order)

    async def told(self, verb: str, reason: str = "so") -> None:
        await self.story.plane.steer(self.plan, verb, Act(by="mara", reason=reason))

    async def state(self) -> RetirementState:
        order = await self.story.plane.plan(self.plan, RetirementOrder)
        assert order is not None
        return order.state

    async def old(self) -> ModelState:
        model = await self.story.plane.model(self.model)
        assert model is not None
        return model

    async def gone(self) -> set[str]:
        going = (await self.old()).going
        return set() if going is None else set(going.gone)

    async def comes_to(self, phase: RetirementPhase) -> None:
        async def holds() -> bool:
            return (await self.state()).phase is phase

        await until(holds)

    async def waits_for(self, waits: Waits) -> None:
        async def holds() -> bool:
            return (await self.state()).waits is waits

        await until(holds)

    async def ends(self) -> RetirementState:
        await until(partial(self.story.is_over, self.plan))
        return await self.state()

    def events(self, event_type: str = "") -> list[Event]:
        return [
            e
            for e in self.story.world.recorded
            if e.subject == self.plan and e.type.startswith(f"retirement.{event_type}")
        ]

    def types(self) -> list[str]:
        return [e.type.removeprefix("retirement.") for e in self.events()]

    async def end(self) -> None:
        """Bring it to its end, whatever the test left."""
        if not await self.story.is_over(self.plan):
            await self.told("abort")
            await until(partial(self.story.is_over, self.plan))
