"""Durations and shares, written as people write them: `36h`, `2.5%`."""

import re
from datetime import datetime, timedelta
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    PlainSerializer,
    ValidationInfo,
)

_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_PART: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|w)\s*")
_SHARE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SHARE_DIGITS: Final = 5
"""Shares are exact to 0.001 %, which is 0.00001 of the whole."""
_LONGEST_S: Final = 100 * 366 * 86_400.0

AS_WRITTEN: Final = "as-written"
"""Validation context of a file: there a bare 0.5 may mean half a percent, and is refused."""


def parse_duration(text: object) -> timedelta:
    """Read a duration such as `90s`, `1h30m` or `250ms`, exact to a millisecond.

    Raises ValueError on anything else.
    """
    if isinstance(text, timedelta):
        return text
    expected = 'expected a duration. Write a number and a unit, such as "90s", "36h" or "1h30m"'
    if not isinstance(text, str):
        raise ValueError(expected)
    parts = list(_PART.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise ValueError(expected)
    length_s = sum(float(part[1]) * _UNITS_S[part[2]] for part in parts)
    if length_s > _LONGEST_S:
        raise ValueError("expected at most a hundred years. Write a shorter duration")
    return timedelta(milliseconds=round(length_s * 1000))


def format_duration(duration: timedelta) -> str:
    """Write a duration as people do, largest units first: `1h30m`, `45s`, `250ms`."""
    left_ms = round(duration.total_seconds() * 1000)
    if left_ms <= 0:
        return "0s"
    text = ""
    for unit, size_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        count, left_ms = divmod(left_ms, size_ms)
        text += f"{count}{unit}" if count else ""
    return text + (f"{left_ms}ms" if left_ms else "")


def parse_share(text: object) -> float:
    """Read a percentage such as `2.5%` as a share from 0 to 1; raises ValueError otherwise."""
    if isinstance(text, float) and 0.0 <= text <= 1.0:
        return text
    match = _SHARE.fullmatch(text.strip()) if isinstance(text, str) else None
    share = float(match[1]) / 100.0 if match else -1.0
    if not 0.0 <= share <= 1.0:
        raise ValueError('expected 0% to 100%. Write the share reached, such as "2.5%"')
    if share > 0.0 and round(share, _SHARE_DIGITS) == 0.0:
        raise ValueError('expected 0% or at least 0.001%. Write "0.001%" or more')
    return round(share, _SHARE_DIGITS)


def format_share(share: float) -> str:
    """Write a share from 0 to 1 as a percentage: `2.5%`."""
    return f"{share * 100:.3f}".rstrip("0").rstrip(".") + "%"


def _read_share(value: object, info: ValidationInfo) -> float:
    if info.context == AS_WRITTEN and not isinstance(value, str):
        return parse_share(None)
    return parse_share(value)


def _read_instant(value: object) -> object:
    # Pydantic would take 20260304 for seconds since 1970, and open a stage at once.
    if isinstance(value, datetime) or (isinstance(value, str) and _DATE.match(value)):
        return value
    raise ValueError('expected an instant with its zone. Write it like "2026-03-04T09:00:00Z"')


def _some_time(duration: timedelta) -> timedelta:
    if duration <= timedelta():
        raise ValueError('expected more than 0s. Write a duration, such as "15s"')
    return duration


def _some_share(share: float) -> float:
    if share <= 0.0:
        raise ValueError('expected more than 0%. Write a share, such as "60%"')
    return share


def counted(count: int, thing: str) -> str:
    """Write a count of things as people do: `1 GPU`, `3 GPUs`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
]
"""A length of time; in manifests `36h`, in Python a timedelta."""

PositiveDuration = Annotated[Duration, AfterValidator(_some_time)]
"""A length of time that something is divided by or waits for: more than 0s."""

Instant = Annotated[AwareDatetime, BeforeValidator(_read_instant)]
"""A moment with its time zone, as `2026-03-04T09:00:00Z`."""

Share = Annotated[
    float,
    BeforeValidator(_read_share),
    PlainSerializer(format_share, return_type=str, when_used="json"),
]
"""A part of a whole; in manifests `2.5%`, in Python 0.0 to 1.0."""

PositiveShare = Annotated[Share, AfterValidator(_some_share)]
"""A part of a whole that something is divided by: more than 0%."""
