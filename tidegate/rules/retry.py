"""When a refused user should come back: spread out, so that they do not all return at once."""

import math
from typing import Final

from tidegate.rules.exposure import FULL, place

JITTER: Final = 0.25
"""Half-width of the spread, as a share of the wait."""
_LATE: Final = 2.0
"""Whoever is asked back comes within so many times the wait, or comes on their own."""
_ROUNDED_S: Final = 2.0
"""Waits are told in whole seconds, and a ceiling is in force until somebody looks again."""


class Spared:
    """One tier at one pool: the share of users whom no ceiling refused who may still come back."""

    def __init__(self) -> None:
        self._refused: list[tuple[float, float]] = []
        """Ceilings, each with until when those whom it refused may come back."""

    def share(self, ceiling: float, retry_after_s: float | None, now: float) -> float:
        """Note the ceiling in force at `now`, and return the share; 1 where that is everybody."""
        until = now + _LATE * (retry_after_s or 0.0) + _ROUNDED_S
        self._refused = [
            (refused, back_by)
            for refused, back_by in self._refused
            if back_by > now and (refused < ceiling or back_by > until)
        ]
        if ceiling < 1.0:
            self._refused.append((ceiling, until))
        return min((refused for refused, _ in self._refused), default=1.0)


def come_back_in_s(retry_after_s: float, user: str, version: int) -> int:
    """Return whole seconds, at least 1, spread by ±25 % over users.

    The spread comes from a hash of user and snapshot version, not from a generator: the same
    question to the same snapshot has the same answer, and who waits longest changes as snapshots
    do. Rounding is drawn too, since ±25 % of two seconds would otherwise all become two.
    """
    drawn = place(f"retry@{version}", user) / FULL
    rounding = place(f"rounding@{version}", user) / FULL
    wait_s = retry_after_s * (1.0 - JITTER + 2.0 * JITTER * drawn)
    return max(1, math.floor(wait_s + rounding))


def come_back_after_s(wait_s: float, user: str, version: int) -> int:
    """Return whole seconds that are never fewer than `wait_s`, spread by a quarter of it.

    The spread is at least ten seconds and at most five minutes: what comes back at an instant that
    everybody knows would otherwise meet all of them at once.
    """
    spread_s = min(max(10.0, JITTER * wait_s), 300.0)
    return math.ceil(wait_s + spread_s * place(f"retry@{version}", user) / FULL)
