"""Durations and shares, written as people write them: `36h`, `2.5%`."""

import re
from datetime import timedelta
from typing import Annotated, Final

from pydantic import BeforeValidator, PlainSerializer

_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SHARE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_SHARE_DIGITS: Final = 5
"""Shares are exact to 0.001 %, which is 0.00001 of the whole."""


def parse_duration(text: object) -> timedelta:
    """Read a duration such as `90s`, `1h30m` or `250ms`; raises ValueError on anything else."""
    if isinstance(text, timedelta):
        return text
    expected = 'expected a duration. Write a number and a unit, such as "90s", "36h" or "1h30m"'
    if not isinstance(text, str):
        raise ValueError(expected)  # noqa: TRY004 - Pydantic collects ValueError, not TypeError
    compact = text.replace(" ", "")
    parts = _PART.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise ValueError(expected)
    return timedelta(seconds=sum(float(number) * _UNITS_S[unit] for number, unit in parts))


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
    expected = 'expected 0% to 100%. Write the share reached, such as "2.5%"'
    match = _SHARE.fullmatch(text.strip()) if isinstance(text, str) else None
    share = float(match[1]) / 100.0 if match else -1.0
    if not 0.0 <= share <= 1.0:
        raise ValueError(expected)
    return round(share, _SHARE_DIGITS)


def format_share(share: float) -> str:
    """Write a share from 0 to 1 as a percentage: `2.5%`."""
    return f"{share * 100:.3f}".rstrip("0").rstrip(".") + "%"


Duration = Annotated[
    timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration, return_type=str)
]
"""A length of time; in manifests `36h`, in Python a timedelta."""

Share = Annotated[
    float, BeforeValidator(parse_share), PlainSerializer(format_share, return_type=str)
]
"""A part of a whole; in manifests `2.5%`, in Python 0.0 to 1.0."""
