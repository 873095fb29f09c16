"""A rollout: what it was ordered to do, where it stands, and what people may tell it."""

from datetime import timedelta
from enum import StrEnum

from pydantic import AwareDatetime, Field

from tidegate.messages.budget import ClaimStatus, Loan, Reservation
from tidegate.messages.common import Act, Message, State
from tidegate.messages.steered import PlanOrder, SteeredState
from tidegate.plans import CheckSpec, RolloutSpec
from tidegate.rules.verdict import Verdict


def rollout_id(name: str) -> str:
    """Return the workflow id of a rollout."""
    return f"rollout/{name}"


class RolloutPhase(StrEnum):
    """Whether a rollout goes on."""

    RUNNING = "running"
    FINISHED = "finished"
    ABORTED = "aborted"


class StageProgress(State):
    """How far one stage has come; an instant is None until it has happened."""

    approved_by: str | None = None
    due_at: AwareDatetime | None = None
    exposed_at: AwareDatetime | None = None
    shift_when_exposed: timedelta = timedelta()
    baked_at: AwareDatetime | None = None
    verdict: Verdict | None = None
    exposure_before: dict[str, float] = Field(default_factory=dict)


class RolloutState(SteeredState):
    """All that a rollout remembers."""

    phase: RolloutPhase = RolloutPhase.RUNNING
    stage: str = ""
    progress: dict[str, StageProgress] = Field(default_factory=dict)
    claim: ClaimStatus | None = None

    @property
    def has_finished(self) -> bool:
        """Whether every stage is open and baked."""
        return self.phase is RolloutPhase.FINISHED


class RolloutOrder(PlanOrder):
    """What a rollout is started with."""

    kind = "rollout"
    workflow = "Rollout"

    spec: RolloutSpec
    pool: str
    gpu_type: str
    lead_p50_s: float
    lead_p90_s: float
    reading_limit_s: float
    state: RolloutState = Field(default_factory=RolloutState)


class Approval(Act):
    """A stage approved in the name of a role."""

    stage: str
    role: str = Field(min_length=1)


class BudgetAct(Message):
    """What an activity asks of a budget: a reservation, a loan, or something about a claim."""

    gpu_type: str
    claim_id: str = ""
    pool: str = ""
    reservation: Reservation | None = None
    loan: Loan | None = None


class Measurement(Message):
    """What an activity reads of a pool, to hold a stage's check against it."""

    pool: str
    check: CheckSpec
    limit_s: float
