"""What happened: CloudEvents with a stable id, numbered by their producer."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

type_prefix: Final = "dev.tidegate."

EventData = Mapping[str, str | int | float | bool | None]
"""Flat, so that every field is a column to filter by."""


class Event(BaseModel):
    """One thing that happened.

    `source` names the producer and `sequence` counts its events from 1 without a gap, so
    `source/sequence` is the stable id: hearing an event twice does nothing twice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    sequence: int = Field(ge=1)
    type: str
    at: datetime
    subject: str
    data: EventData = Field(default_factory=dict)

    @property
    def id(self) -> str:
        """The stable id, unique for ever."""
        return f"{self.source}/{self.sequence}"

    def to_cloudevent(self) -> dict[str, object]:
        """Return the CloudEvents 1.0 form, with the `sequence` extension."""
        return {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": type_prefix + self.type,
            "time": self.at.isoformat(),
            "subject": self.subject,
            "sequence": f"{self.sequence:012d}",
            "datacontenttype": "application/json",
            "data": dict(self.data),
        }
