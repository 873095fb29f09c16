"""A feature: who it is exposed to, what it is held by, and how it came there."""

from enum import StrEnum

from pydantic import AwareDatetime, Field

from tidegate.audience import Segment
from tidegate.catalogue import FeatureSpec
from tidegate.messages.common import Act, Message, OutboxState, State
from tidegate.snapshot import DateRange, Opening, Signups

HISTORY_KEPT = 100


def feature_id(name: str) -> str:
    """Return the workflow id of a feature."""
    return f"feature/{name}"


class Hold(Message):
    """A hold by a role; only that role releases it."""

    role: str
    by: str
    reason: str
    since: AwareDatetime
    rolls_back: bool = False


class HoldOrder(Act):
    """Place or release a hold in the name of a role."""

    role: str = Field(min_length=1)
    placed_by: str = ""
    """The workflow id of the plan that places it; empty where a person does."""
    rolls_back: bool = False
    """Whether nobody is let in while it lasts; else only nobody new."""

    @property
    def hold_id(self) -> str:
        """What tells it from other holds of the same feature."""
        return self.placed_by or self.role


class ExposeOrder(Message):
    """Set the exposure of some tiers; `order_id` makes it happen once."""

    order_id: str
    stage: str
    tiers: tuple[str, ...]
    share: float = Field(ge=0.0, le=1.0)
    segment: Segment = Segment()
    """The part of these tiers that is meant."""
    reason: str


class WaitingNote(Message):
    """What the stage of some tiers waits for, so that a refusal can say it."""

    stage: str
    tiers: tuple[str, ...]
    waits_for: str
    opens: DateRange | None = None
    """None where it is unknown."""


class KillNote(Message):
    """A person's order to close the feature, or the end of one, told after it took effect."""

    version: int
    is_lift: bool
    until: AwareDatetime
    tiers: tuple[str, ...] | None = None
    """None for all."""
    by: str
    reason: str


class SignupsVerb(StrEnum):
    """What is done to sign-ups."""

    SUSPEND = "suspend"
    REOPEN = "reopen"


class SignupsOrder(Act):
    """Suspend sign-ups, or reopen them: for cohorts, for a share, or, with neither, for all."""

    verb: SignupsVerb
    cohorts: tuple[str, ...] = ()
    """These may come in as well."""
    share: float | None = Field(default=None, ge=0.0, le=1.0)
    """So many of those who ask may come in, 0 to 1; None leaves the share as it is."""


class Transition(Message):
    """One change of exposure, of a hold or of sign-ups."""

    at: AwareDatetime
    what: str
    reason: str


class FeatureState(State):
    """All that a feature remembers."""

    name: str
    spec: FeatureSpec | None = None
    exposure: dict[str, float] = Field(default_factory=dict)
    """By tier, for everybody of it."""
    openings: tuple[Opening, ...] = ()
    """For parts of tiers, each once."""
    notes: dict[str, WaitingNote] = Field(default_factory=dict)
    """By tier."""
    holds: dict[str, Hold] = Field(default_factory=dict)
    """By the plan that placed it, or by role; the oldest first."""
    signups: Signups = Signups()
    orders_done: dict[str, dict[str, float]] = Field(default_factory=dict)
    """What each order found before it, so that it is answered alike when it comes again."""
    kill_noted: int = 0
    """The version of the newest order to close it that it was told of."""
    history: list[Transition] = Field(default_factory=list)
    outbox: OutboxState = Field(default_factory=OutboxState)

    def share_of(self, tier: str, segment: Segment) -> float:
        """Return how far a part of a tier is exposed by itself."""
        if segment.is_everybody:
            return self.exposure.get(tier, 0.0)
        found = (o.share for o in self.openings if (o.tier, o.segment) == (tier, segment))
        return next(found, 0.0)

    def expose(self, tier: str, segment: Segment, share: float) -> None:
        """Set how far a part of a tier is exposed."""
        if segment.is_everybody:
            self.exposure[tier] = share
            return
        others = [o for o in self.openings if (o.tier, o.segment) != (tier, segment)]
        opened = [Opening(tier=tier, segment=segment, share=share)] if share > 0.0 else []
        self.openings = (*others, *opened)

    @property
    def hold(self) -> Hold | None:
        """The oldest hold, which stands for all; None where nobody holds it."""
        return next(iter(self.holds.values()), None)


class FeatureAct(Message):
    """What an activity asks of a feature: one of these."""

    feature: str
    expose: ExposeOrder | None = None
    note: WaitingNote | None = None
    hold: HoldOrder | None = None
    release: HoldOrder | None = None
