"""What gateways echo of a part they hold, for a writer that starts anew."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from pydantic import ValidationError

from tidegate.readings import DemandReading
from tidegate.snapshot import GatePart, WaitlistPart

P = TypeVar("P", GatePart, WaitlistPart)


def newest(name: str, known: Iterable[P | None], gateways: Sequence[DemandReading]) -> P | None:
    """Return the newest of the states that are known, under the highest version seen of it."""
    held = [part for part in known if part is not None]
    found = max(held, key=lambda part: part.version, default=None)
    if found is None:
        return None
    seen = max([gateway.seen.get(name, 0) for gateway in gateways] + [found.version])
    return found.model_copy(update={"version": seen})


def echoed(kind: type[P], text: str | None) -> P | None:
    """Read an echo; None where a gateway holds none, or one of another release."""
    if text is None:
        return None
    try:
        return kind.model_validate_json(text)
    except ValidationError:
        return None
