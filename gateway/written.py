"""Replies written once for an outcome: users who are told the same get the same bytes."""

from typing import Final, Generic, TypeVar

from tidegate.holding import Held
from tidegate.rules.outcome import Code, Outcome

FOREVER: Final = float("inf")

_MADE_ANEW: Final = frozenset(
    {
        Code.FEATURE_UNKNOWN,
        Code.TIER_UNKNOWN,
        Code.SURFACE_CLOSED,
        Code.QUOTA_EXCEEDED,
        Code.RATE_LIMITED,
        Code.QUOTA_UNKNOWN,
    }
)
"""Outcomes that carry a caller's words, or are made for each question: never kept."""

T = TypeVar("T")


class Written(Generic[T]):
    """Keeps what was written for the snapshot that is held, by outcome and never by user.

    A snapshot makes an outcome once, so that its identity is enough; the outcome is kept beside
    what was written, so that its identity is not given to another.
    """

    def __init__(self) -> None:
        self._held: Held | None = None
        self._kept: dict[int, tuple[Outcome, T, float]] = {}

    def get(self, held: Held, outcome: Outcome, now: float) -> T | None:
        """Return what was kept for this outcome and holds at `now`."""
        if held is not self._held:
            self._held = held
            self._kept.clear()
            return None
        kept = self._kept.get(id(outcome))
        return kept[1] if kept is not None and now <= kept[2] else None

    def keep(self, held: Held, outcome: Outcome, written: T, *, until: float) -> None:
        """Keep what was written, until an instant in seconds since the epoch."""
        if outcome.code not in _MADE_ANEW and held is self._held:
            self._kept[id(outcome)] = (outcome, written, until)
