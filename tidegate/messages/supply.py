"""A supply: GPUs that are on their way, and what became of them."""

from enum import StrEnum

from pydantic import Field

from tidegate.messages.common import Message
from tidegate.messages.steered import PlanOrder, SteeredState
from tidegate.plans import SupplySpec


class SupplyPhase(StrEnum):
    """Whether GPUs are still to come."""

    EXPECTED = "expected"
    COMPLETE = "complete"
    CANCELLED = "cancelled"


class SupplyState(SteeredState):
    """All that a supply remembers."""

    phase: SupplyPhase = SupplyPhase.EXPECTED
    come: int = 0
    """GPUs that came for it so far."""
    late_told: bool = False
    """Whether it was told that it is late, for the dates that it has now."""

    @property
    def has_finished(self) -> bool:
        """Whether all of it came."""
        return self.phase is SupplyPhase.COMPLETE


class SupplyOrder(PlanOrder):
    """What a supply is started with."""

    kind = "supply"
    workflow = "Supply"

    spec: SupplySpec
    state: SupplyState = Field(default_factory=SupplyState)

    def conflict_with(self, spec: SupplySpec) -> str | None:
        """Say why this cannot become what is written now; None where it can."""
        if spec.gpu_type == self.spec.gpu_type:
            return None
        return (
            f'{self.plan_id}: gpuType: got "{spec.gpu_type}", expected "{self.spec.gpu_type}". '
            "Abort this supply and apply another."
        )


class Expected(Message):
    """What a budget is to count on; told again, the dates move."""

    name: str
    owner: str
    """The workflow id to signal as GPUs come."""
    spec: SupplySpec


class ExpectedAct(Message):
    """What an activity asks of a budget about a supply: to count on it, or no more."""

    gpu_type: str
    name: str
    expected: Expected | None = None
    """None to count on it no more."""
