"""A pool whose gate narrows and opens, and the surge that comes of it."""

from dataclasses import dataclass, field
from functools import partial

from tests.embedded.until import until
from tests.workflows.company import Company
from tidegate.catalogue import SurgeSpec
from tidegate.events import Event
from tidegate.messages.surge import GateMove, SurgeOrder, SurgePhase, SurgeState
from tidegate.rules.ledger import ClaimKind
from tidegate.snapshot import Signups

NARROW = GateMove(is_open=False, lowest_ceiling=0.3)
OPEN = GateMove(is_open=True, lowest_ceiling=1.0)


@dataclass
class Pressed:
    """The voice pool of a company whose gate narrows and opens."""

    company: Company
    spec: SurgeSpec = field(
        default_factory=lambda: SurgeSpec.model_validate(
            {
                "after": "10m",
                "calm": "1h",
                "reopen": [{"cohorts": ["staff"]}, {"share": "10%"}],
                "asksFor": 3,
            }
        )
    )

    @property
    def plan(self) -> str:
        return f"surge/{self.company.voice}"

    async def gate_is(self, move: GateMove, *, starts: bool = False) -> None:
        order = SurgeOrder(
            name=self.company.voice,
            spec=self.spec,
            gpu_type=self.company.story.gpu_type,
            lead_p50_s=60.0,
            lead_p90_s=120.0,
        )
        await self.company.story.plane.tell_surge(order, move, starts=starts)

    async def state(self) -> SurgeState:
        order = await self.company.story.plane.plan(self.plan, SurgeOrder)
        assert order is not None
        return order.state

    async def comes_to(self, phase: SurgePhase) -> None:
        async def holds() -> bool:
            return (await self.state()).phase is phase

        await until(holds)

    async def signups(self) -> Signups:
        feature = await self.company.story.plane.feature(self.company.voice)
        assert feature is not None
        return feature.signups

    async def asked(self) -> list[int]:
        book = (await self.company.story.budget_state()).ledger
        return [c.gpus for c in book.of(ClaimKind.RESERVED) if c.id.startswith(self.plan)]

    def events(self) -> list[Event]:
        return [e for e in self.company.story.world.recorded if e.subject == self.plan]

    def types(self) -> list[str]:
        return [e.type.removeprefix("surge.") for e in self.events()]

    async def ends(self) -> None:
        await until(partial(self.company.story.is_over, self.plan))
