"""A preview: who is invited and what they said of it, all under its own key."""

from enum import StrEnum

from pydantic import AwareDatetime, Field

from tidegate.messages.common import Act, Message
from tidegate.messages.rollout import RolloutOrder
from tidegate.messages.steered import PlanOrder, PlanState
from tidegate.plans import PreviewSpec

MOST_INVITED = 1_000
SAID_KEPT = 100


class PreviewPhase(StrEnum):
    """Whether a preview goes on, and as what."""

    QUIET = "quiet"
    PROMOTED = "promoted"
    ENDED = "ended"


class InviteOrder(Act):
    """Let some users in; each is sealed under the preview's key."""

    sealed: tuple[str, ...] = Field(min_length=1)


class Feedback(Act):
    """What somebody said of it; who and what are sealed under the preview's key."""

    sealed: str
    said_id: str
    """The same for the same words of the same user, and known to nobody without the key."""


class PreviewState(PlanState):
    """All that a preview remembers."""

    phase: PreviewPhase = PreviewPhase.QUIET
    opened_at: AwareDatetime | None = None
    invited: list[str] = Field(default_factory=list)
    """Users, each sealed under the preview's key."""
    said: int = 0
    """How often somebody said something of it."""
    said_ids: list[str] = Field(default_factory=list)
    """Of what was said last: who typed it again for want of an answer said it once."""
    promoted: Act | None = None

    @property
    def has_finished(self) -> bool:
        """Whether it has ended; a preview that ended is gone, and may be started anew."""
        return False


class PreviewOrder(PlanOrder):
    """What a preview is started with."""

    kind = "preview"
    workflow = "Preview"

    spec: PreviewSpec
    rollout: RolloutOrder | None
    """What it becomes when it is promoted."""
    state: PreviewState = Field(default_factory=PreviewState)


class PreviewAct(Message):
    """What an activity is to do about a preview."""

    preview: str
    """Its name."""
    feature: str = ""
    """What is forgotten with it; empty where that lives on."""
    rollout: RolloutOrder | None = None
    by: str = ""


class ForgetNote(Message):
    """What the catalogue is to know no more."""

    previews: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
