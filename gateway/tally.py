"""Counts of what was decided, since the process began."""

from collections import Counter
from typing import NamedTuple

from tidegate.rules.outcome import Code, Outcome


class Kind(NamedTuple):
    """What a decision is counted under; tiers are the catalogue's, never a caller's text."""

    pool: str
    tier: str
    code: Code


class Tally:
    """One count a pool, tier and code; only ever grows."""

    def __init__(self) -> None:
        self.counts: Counter[Kind] = Counter()

    def count(self, outcome: Outcome) -> None:
        """Count one decision; a tier or feature that nobody published counts as none."""
        is_known = outcome.code is not Code.FEATURE_UNKNOWN
        tier = outcome.tier if is_known else ""
        self.counts[Kind(outcome.pool or "", tier, outcome.code)] += 1
