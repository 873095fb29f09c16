"""Who hears of events: receivers and their secrets, one file, read when the notifier starts."""

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field, ValidationError, field_validator

from tidegate.documents import read_documents
from tidegate.errors import PlanError
from tidegate.events import Event
from tidegate.mistakes import describe
from tidegate.spec import Name, Spec

_PREFIX: Final = "whsec_"
_BYTES: Final = range(24, 65)


def _is_a_secret(text: str) -> str:
    expected = (
        f'expected "{_PREFIX}" and 24 to 64 bytes in base64. Make one: openssl rand -base64 32'
    )
    try:
        length = len(base64.b64decode(text.removeprefix(_PREFIX), validate=True))
    except binascii.Error as error:
        raise ValueError(expected) from error
    if not text.startswith(_PREFIX) or length not in _BYTES:
        raise ValueError(expected)
    return text


class ReceiverSpec(Spec):
    """Somebody who hears of events."""

    name: Name
    url: str = Field(description="Events are posted there.")
    secret: Annotated[str, AfterValidator(_is_a_secret)] = Field(
        repr=False, description='Signs each: "whsec_" and base64, as Standard Webhooks has it.'
    )
    types: tuple[str, ...] = Field(
        default=(), description="Types, or how they begin, such as retirement.; none means all."
    )

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if not url.startswith(("https://", "http://")):
            raise ValueError('expected a URL. Write it like "https://example.com/hooks"')
        return url

    def wants(self, event: Event) -> bool:
        """Say whether it hears of an event."""
        return not self.types or event.type.startswith(self.types)


class ReceiversSpec(Spec):
    """The whole file."""

    receivers: tuple[ReceiverSpec, ...] = ()

    @field_validator("receivers")
    @classmethod
    def _each_has_its_name(cls, receivers: tuple[ReceiverSpec, ...]) -> tuple[ReceiverSpec, ...]:
        names = [each.name for each in receivers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'expected each name once, "{name}" is there twice. Rename one')
        return receivers


def load_receivers(path: Path) -> Sequence[ReceiverSpec]:
    """Read the file; raises PlanError with every mistake."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror}). Mend TIDEGATE_WEBHOOKS."
        raise PlanError(message, code="webhooks") from error
    documents = read_documents(text, where=path.name)
    try:
        return ReceiversSpec.model_validate(documents[0] if documents else {}).receivers
    except ValidationError as error:
        mistakes = [f"{path.name}: {line}" for line in describe(error, ReceiversSpec)]
        raise PlanError("\n".join(mistakes), code="webhooks", mistakes=mistakes) from error
