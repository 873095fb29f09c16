"""A hold on a feature, on all that a model serves, or on everything."""

from pydantic import AwareDatetime, Field

from tidegate.messages.common import OutboxState, State
from tidegate.messages.feature import HoldOrder

EVERYTHING = "everything"
"""The scope of a hold on every feature, those still to come as well."""


def hold_id(role: str, scope: str) -> str:
    """Return the workflow id of a role's hold; a role holds a scope once."""
    return f"hold/{role}/{scope}"


class HoldState(State):
    """All that a hold remembers."""

    role: str
    scope: str
    """`everything`, or as `feature/image` and `model/image-2`."""
    order: HoldOrder | None = None
    """As it was placed, or mended, last."""
    since: AwareDatetime | None = None
    features: list[str] = Field(default_factory=list)
    """Those that it was placed on, in that order."""
    released: HoldOrder | None = None
    is_lifted: bool = False
    """Whether no feature is held by it any more."""
    outbox: OutboxState = Field(default_factory=OutboxState)
