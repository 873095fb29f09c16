"""Parts as they are written: an intent that was only renewed is not read again whole."""

from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from tidegate.snapshot import IntentPart

_BEGINS: Final = ',"tiers":'
"""What comes after an intent's stamps, as it is written."""


class _Stamps(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: int
    issued_at: float
    expires_at: float


class IntentReader:
    """Reads one intent after the other; what says the same is the same object in both."""

    def __init__(self) -> None:
        self._read: IntentPart | None = None
        self._rest = ""

    def read(self, text: str) -> IntentPart:
        """Read what a publisher wrote; raises ValidationError for what is no intent."""
        head, _, rest = text.partition(_BEGINS)
        part = self._renewed(head) if rest and rest == self._rest else None
        if part is None:
            part = IntentPart.model_validate_json(text)
        self._read, self._rest = part, rest
        return part

    def _renewed(self, head: str) -> IntentPart | None:
        try:
            stamps = _Stamps.model_validate_json(head + "}")
        except ValidationError:
            return None  # written in another order: it is read whole
        return None if self._read is None else self._read.model_copy(update=dict(stamps))
