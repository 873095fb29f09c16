"""A surge: more demand than a pool can serve, from the spike until it is served."""

from enum import StrEnum

from pydantic import AwareDatetime, Field

from tidegate.catalogue import SurgeSpec
from tidegate.messages.common import Message
from tidegate.messages.feature import SignupsOrder
from tidegate.messages.steered import FreezeOrder, PlanOrder, PlanState


class SurgePhase(StrEnum):
    """What is done about the demand."""

    PRESSED = "pressed"
    SUSPENDED = "suspended"
    REOPENING = "reopening"
    OVER = "over"


class GateMove(Message):
    """That a pool's gate moved, as its loop told."""

    is_open: bool
    """Whether it is wide open again, so that nobody is turned away."""
    lowest_ceiling: float
    """The least that any gated tier is let in, 0 to 1."""


class SurgeState(PlanState):
    """All that a surge remembers."""

    phase: SurgePhase = SurgePhase.PRESSED
    began_at: AwareDatetime | None = None
    pressed_since: AwareDatetime | None = None
    """None while the gate is wide open."""
    calm_since: AwareDatetime | None = None
    """None while it is not."""
    frozen: list[str] = Field(default_factory=list)
    """Rollouts that stand still, by workflow id."""
    asked_gpus: int = 0
    suspended: list[str] = Field(default_factory=list)
    """Features whose sign-ups it suspended; those that a person did stay theirs."""
    steps_done: int = 0
    lowest_ceiling: float = 1.0
    """The least that any tier was let in, so far."""


class SurgeOrder(PlanOrder):
    """What a surge is started with; it is named for its pool."""

    kind = "surge"
    workflow = "Surge"

    spec: SurgeSpec
    gpu_type: str
    lead_p50_s: float
    lead_p90_s: float
    state: SurgeState = Field(default_factory=SurgeState)

    @property
    def freeze(self) -> FreezeOrder:
        """What each rollout is told that stands still for it."""
        reason = f"pool {self.name} has more demand than it can serve"
        return FreezeOrder(by=self.plan_id, reason=reason, freeze_id=self.plan_id)


class ServedBy(Message):
    """What a pool serves: its features, and the rollouts of them that run."""

    features: tuple[str, ...]
    rollouts: tuple[str, ...]


class SignupsAct(Message):
    """What an activity asks of a feature's sign-ups."""

    feature: str
    order: SignupsOrder
