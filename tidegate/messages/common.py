"""What every message and every state shares."""

from pydantic import BaseModel, ConfigDict, Field

from tidegate.events import Event


class Message(BaseModel):
    """An immutable value that Temporal carries; unknown fields of newer releases are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class State(BaseModel):
    """What a workflow remembers; a continued run resumes from it and resets nothing."""

    model_config = ConfigDict(extra="ignore", validate_assignment=True)


class OutboxState(State):
    """Events told and not yet recorded, and the number of the last one."""

    sequence: int = 0
    waiting: list[Event] = Field(default_factory=list)


class News(Message):
    """Events to be told, in their order."""

    events: tuple[Event, ...]
    is_burst: bool = False
    """Whether others were told a moment ago, so that more may follow."""


class Act(Message):
    """Who asks, and why."""

    by: str = Field(min_length=1)
    reason: str = ""
