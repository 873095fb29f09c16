"""A code red: what it was ordered to do, and what it froze and took."""

from enum import StrEnum

from pydantic import AwareDatetime, Field

from tidegate.messages.budget import Loan
from tidegate.messages.common import Message
from tidegate.messages.steered import FreezeOrder, PlanOrder, PlanState
from tidegate.plans import CodeRedSpec


class CodeRedPhase(StrEnum):
    """Whether side projects stand still."""

    RED = "red"
    LIFTED = "lifted"


class Taken(Message):
    """One thing that a code red did, to be undone: a plan that it froze, or GPUs that it took."""

    plan: str = ""
    """The workflow id."""
    loan: Loan | None = None
    gpus: int = 0


class SideProjects(Message):
    """What there is to freeze, and to take."""

    plans: tuple[str, ...]
    """Workflow ids, of plans that run."""
    loans: tuple[Loan, ...]


class CodeRedState(PlanState):
    """All that a code red remembers."""

    phase: CodeRedPhase = CodeRedPhase.RED
    placed_at: AwareDatetime | None = None
    taken: list[Taken] = Field(default_factory=list)
    """In the order in which it was done."""

    @property
    def has_finished(self) -> bool:
        """Whether it was lifted; the same order does not place it again."""
        return self.phase is CodeRedPhase.LIFTED


class CodeRedOrder(PlanOrder):
    """What a code red is started with."""

    kind = "code-red"
    workflow = "CodeRed"

    spec: CodeRedSpec
    state: CodeRedState = Field(default_factory=CodeRedState)

    @property
    def freeze(self) -> FreezeOrder:
        """What each plan is told that stands still for it."""
        return FreezeOrder(by=self.spec.owner, reason=self.spec.reason, freeze_id=self.plan_id)


class SideProjectsQuestion(Message):
    """Ask what a code red is about."""

    code_red: str
    """Its workflow id."""
    spec: CodeRedSpec


class FreezeAct(Message):
    """What an activity asks of a plan: to stand still, or to go on."""

    plan: str
    freeze: FreezeOrder
    lifts: bool = False
