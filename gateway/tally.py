"""Counts of what was decided, since the process began."""

from collections import Counter
from typing import NamedTuple

from tidegate.rules.outcome import Outcome


class Kind(NamedTuple):
    """What a decision is counted under; tiers are the catalogue's, never a caller's text."""

    pool: str
    tier: str
    code: str


class Tally:
    """One count a pool, tier and code; only ever grows."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str], int] = {}

    @property
    def counts(self) -> Counter[Kind]:
        """What was counted so far."""
        return Counter({Kind(*under): count for under, count in self._counts.items()})

    def count(self, outcome: Outcome) -> None:
        """Count one decision."""
        counts, under = self._counts, outcome.counted_under
        counts[under] = counts.get(under, 0) + 1
