"""A model: its settings, how it goes, and whom it keeps."""

from collections.abc import Mapping

from pydantic import AwareDatetime, Field

from tidegate.catalogue import ModelSpec
from tidegate.messages.common import Act, Message, OutboxState, State
from tidegate.messages.feature import Transition
from tidegate.retiring import Window


def model_id(name: str) -> str:
    """Return the workflow id of a model."""
    return f"model/{name}"


class Going(Message):
    """How a model goes, as its retirement says now."""

    successor: str
    deprecated_at: AwareDatetime
    sunset_at: AwareDatetime | None
    """None while its retirement stands still, as nobody knows then."""
    brownouts: tuple[Window, ...] = ()
    link: str | None = None
    personality: Mapping[str, str] = Field(default_factory=dict)
    is_restricted: bool = False
    gone: Mapping[str, AwareDatetime] = Field(default_factory=dict)
    """By tier: since when it is refused."""
    retired_at: AwareDatetime | None = None
    """Since when it serves nobody."""
    spared: tuple[str, ...] = ()
    """Tiers that keep it."""


class GoingOrder(Act):
    """Have a model go as this says; the whole of it, so that asking twice changes nothing."""

    going: Going | None
    """None where it stays after all."""


class CarryOrder(Act):
    """Take over those who were pinned to a model that is gone."""

    model: str
    pinned: tuple[str, ...]


class ModelState(State):
    """All that a model remembers."""

    name: str
    spec: ModelSpec = Field(default_factory=ModelSpec)
    going: Going | None = None
    carried: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """By the model that they were pinned to before: users who are pinned to this one now."""
    history: list[Transition] = Field(default_factory=list)
    outbox: OutboxState = Field(default_factory=OutboxState)

    @property
    def pinned(self) -> tuple[str, ...]:
        """Users who may use what it serves, whatever the exposure."""
        carried = (user for users in self.carried.values() for user in users)
        return tuple(dict.fromkeys([*self.spec.pinned, *carried]))
