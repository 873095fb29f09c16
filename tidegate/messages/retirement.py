"""A retirement: what it was ordered to do, where it stands, and what people may tell it."""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Final

from pydantic import AwareDatetime, Field

from tidegate.messages.common import Act, Message
from tidegate.messages.model import CarryOrder, Going, GoingOrder
from tidegate.messages.steered import PlanOrder, SteeredState
from tidegate.retiring import RetirementSpec, UseLimitSpec
from tidegate.rules.retiring import find_conflict, find_earlier

OVERRIDES: Final = "safety"
"""The role in whose name a date may be moved to an earlier one."""


class RetirementPhase(StrEnum):
    """How far a model is gone."""

    PLANNED = "planned"
    ANNOUNCED = "announced"
    SUNSET = "sunset"
    DRAINED = "drained"
    RETIRED = "retired"
    RESTORING = "restoring"
    TAKEN_BACK = "taken-back"


class PoolRef(Message):
    """A pool, and the budget that its GPUs come from."""

    pool: str
    gpu_type: str
    lead_p50_s: float = 0.0
    lead_p90_s: float = 0.0
    """From booking a replica until it serves."""


class MoveOrder(Act):
    """Other dates for a retirement; earlier ones in the name of a role alone."""

    spec: RetirementSpec
    role: str = ""


class ReversalOrder(Act):
    """Take a retirement back, for some tiers or for all."""

    tiers: tuple[str, ...] = ()
    """None for all."""


class RetirementState(SteeredState):
    """All that a retirement remembers."""

    phase: RetirementPhase = RetirementPhase.PLANNED
    done: list[str] = Field(default_factory=list)
    """Ids of the steps that were taken."""
    is_restricted: bool = False
    gone: dict[str, AwareDatetime] = Field(default_factory=dict)
    """By tier."""
    spared: list[str] = Field(default_factory=list)
    lacks: str = ""
    """What is in the way of the next step."""
    is_waived: bool = False
    """Whether a person said to go on all the same, this once."""
    sunset_at: AwareDatetime | None = None
    """When it came, and not when it was planned."""
    given_back: dict[str, int] = Field(default_factory=dict)
    """GPUs, by pool."""
    restoring: ReversalOrder | None = None
    told: Going | None = None
    """What the model was told last."""
    is_over: bool = False

    @property
    def has_finished(self) -> bool:
        """Whether the model is gone for good, or was taken back; then it is not started again."""
        return self.is_over


class RetirementOrder(PlanOrder):
    """What a retirement is started with."""

    kind = "retirement"
    workflow = "Retirement"

    spec: RetirementSpec
    tiers: tuple[str, ...]
    """Everybody that there is."""
    pools: tuple[PoolRef, ...]
    """Those that serve the model."""
    successors: tuple[PoolRef, ...]
    """Those that serve its successor."""
    pinned: tuple[str, ...] = ()
    """Users who are carried over to the successor."""
    notices: Mapping[str, float] = Field(default_factory=dict)
    """Seconds of notice that are promised, by tier."""
    state: RetirementState = Field(default_factory=RetirementState)

    def conflict_with(self, move: MoveOrder) -> str | None:
        """Say why this cannot become what is written now; None where it can.

        A date moves later freely, and earlier in the name of safety alone, with a reason.
        """
        is_overridden = move.role == OVERRIDES and move.reason != ""
        notices = {} if is_overridden else self.notices
        least = {tier: timedelta(seconds=s) for tier, s in notices.items()}
        conflict = find_conflict(self.spec, move.spec, self.state.done, self.tiers, least)
        if conflict is not None:
            return f"{self.plan_id}: {conflict}"
        earlier = find_earlier(self.spec, move.spec, self.tiers)
        if earlier is None or is_overridden:
            return None
        return (
            f"{self.plan_id}: {earlier}. A date moves later freely, and earlier only in the name "
            f'of {OVERRIDES}: apply it with --override {OVERRIDES} --reason "…".'
        )


class ModelAct(Message):
    """What an activity asks of a model: one of these."""

    model: str
    go: GoingOrder | None = None
    carry: CarryOrder | None = None


class UseQuestion(Message):
    """Ask how much a model is used."""

    model: str
    limit: UseLimitSpec


class PoolsQuestion(Message):
    """Ask how pools stand in the ledger."""

    pools: tuple[PoolRef, ...]


class PoolsSeen(Message):
    """How pools stand, all together, in GPUs; None where nobody has measured."""

    needed_gpus: int | None
    """For the demand as measured."""
    spare_gpus: int | None
    """Ready, and not needed."""
