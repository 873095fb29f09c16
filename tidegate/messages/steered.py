"""What every plan shares: what it waits for, and what people who steer it may tell it."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar, Final

from pydantic import AwareDatetime, Field

from tidegate.messages.common import Act, Message, OutboxState, State
from tidegate.messages.feature import Hold
from tidegate.spec import Spec

PLAN_KINDS: Final = ("rollout", "supply", "code-red", "retirement", "preview", "surge")
"""A plan's workflow id is its kind and its name, as rollout/image-launch."""


class Waits(StrEnum):
    """What a plan waits for."""

    NOTHING = "nothing"
    DUE = "due"
    APPROVAL = "approval"
    GPUS = "gpus"
    BAKE = "bake"
    PERSON = "person"
    PAUSE = "pause"
    HOLD = "hold"
    FREEZE = "freeze"
    ARRIVAL = "arrival"
    LIFTING = "lifting"
    USE = "use"
    SUCCESSOR = "successor"
    DRAINING = "draining"
    GRACE = "grace"


class FreezeOrder(Act):
    """Stop a plan for the sake of something else, or let it go on; each freeze is lifted apart."""

    freeze_id: str = Field(min_length=1)
    """The workflow id of the plan that asks for it, as code-red/2025-12."""


class WayBack(StrEnum):
    """What of an aborted rollout is taken back."""

    HERE = "here"
    """Nothing: whoever is in stays in."""
    STAGE = "stage"
    """What the stage has opened that the rollout had come to."""
    NOTHING = "nothing"
    """All that the rollout has opened."""


class AbortOrder(Act):
    """End a plan."""

    back: WayBack = WayBack.STAGE
    """For a rollout; other plans have one way back each."""


class PlanState(State):
    """What any plan remembers."""

    abort: Act | None = None
    outbox: OutboxState = Field(default_factory=OutboxState)

    @property
    def has_finished(self) -> bool:
        """Whether it came to its own end, so that it is not to be started again as it is."""
        return False


class SteeredState(PlanState):
    """What a plan remembers of the people who steer it."""

    waits: Waits = Waits.NOTHING
    paused: Act | None = None
    hold: Hold | None = None
    freezes: dict[str, FreezeOrder] = Field(default_factory=dict)
    """By what asked for it."""
    stopped_at: AwareDatetime | None = None
    """Since when a pause, a hold or a freeze has stopped the clock."""
    shift: timedelta = timedelta()
    """How much later than planned everything is, after pauses, holds and freezes."""

    def shift_at(self, now: datetime) -> timedelta:
        """Return how much later than planned everything is if the plan goes on at `now`."""
        stopped = timedelta() if self.stopped_at is None else now - self.stopped_at
        return self.shift + stopped

    @property
    def is_stopped(self) -> bool:
        """Whether a pause, a hold or a freeze has stopped the plan."""
        return self.paused is not None or self.hold is not None or bool(self.freezes)


class PlanOrder(Message):
    """What a plan is started with; `state` is set when a run continues an older one."""

    kind: ClassVar[str]
    """As in its workflow id: one of PLAN_KINDS."""
    workflow: ClassVar[str]
    """The workflow's type."""

    name: str
    spec: Spec
    state: PlanState

    @property
    def plan_id(self) -> str:
        """The workflow id."""
        return f"{self.kind}/{self.name}"
