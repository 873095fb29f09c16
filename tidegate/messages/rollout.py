"""A rollout: what it was ordered to do, where it stands, and what people may tell it."""

from datetime import timedelta
from enum import StrEnum

from pydantic import AwareDatetime, Field

from tidegate.checks import CheckSpec
from tidegate.messages.budget import ClaimStatus, Loan, Reservation
from tidegate.messages.common import Act, Message, State
from tidegate.messages.steered import AbortOrder, PlanOrder, SteeredState
from tidegate.plans import RolloutSpec
from tidegate.rules.replanning import find_rewritten
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
    is_opening: bool = False
    """Whether the feature has been asked, and may have done it."""
    exposed_at: AwareDatetime | None = None
    steps: int = 0
    """How many of its shares are reached and baked."""
    watched_since: AwareDatetime | None = None
    """Since when the share that it has reached bakes; None while the next one is not reached."""
    shift_when_watched: timedelta = timedelta()
    looks: dict[str, list[Verdict]] = Field(default_factory=dict)
    """What each check said of the share that it has reached, look by look."""
    seen: dict[str, str] = Field(default_factory=dict)
    """What each check saw last, in words."""
    answers: dict[str, bool] = Field(default_factory=dict)
    """What people said of that share, by check."""
    verdict: Verdict | None = None
    """Of the share that it has reached."""
    baked_at: AwareDatetime | None = None
    skip: Act | None = None
    skipped_at: AwareDatetime | None = None
    exposure_before: dict[str, float] = Field(default_factory=dict)
    revision: int = 0
    """Of the plan when it came to this stage; a claim of a plan as it was is another claim."""

    @property
    def looked(self) -> int:
        """How often its checks were looked at since it reached its share."""
        return max(map(len, self.looks.values()), default=0)

    @property
    def reached(self) -> int:
        """How many of its shares are reached, baked or not."""
        return self.steps + (self.watched_since is not None)

    @property
    def has_opened(self) -> bool:
        """Whether somebody is, or may be, let in by it, or it was passed over."""
        return self.is_opening or self.exposed_at is not None or self.skipped_at is not None


class RolloutState(SteeredState):
    """All that a rollout remembers."""

    abort: AbortOrder | None = None
    phase: RolloutPhase = RolloutPhase.RUNNING
    stage: str = ""
    progress: dict[str, StageProgress] = Field(default_factory=dict)
    claim: ClaimStatus | None = None
    change: RolloutSpec | None = None
    """What the plan is to become, until the rollout has taken it up."""
    revision: int = 0
    """How often the plan was changed."""

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

    def conflict_with(self, spec: RolloutSpec) -> str | None:
        """Say why a running rollout cannot become what is written now; None where it can."""
        opened = [name for name, stage in self.state.progress.items() if stage.has_opened]
        conflict = find_rewritten(self.state.change or self.spec, spec, opened)
        return None if conflict is None else f"{self.plan_id}: {conflict}"


class ChangeOrder(Act):
    """Another plan for a rollout that runs."""

    spec: RolloutSpec


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
    """What an activity looks at, to hold a stage's checks against it."""

    pool: str
    tiers: tuple[str, ...]
    checks: tuple[CheckSpec, ...]
    limit_s: float


class Answer(Act):
    """What a person says of a stage that bakes, in the name of a role."""

    stage: str
    check: str
    role: str = Field(min_length=1)
    passes: bool
