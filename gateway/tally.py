"""Counts of what was decided, since the process began."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from datasketches import hll_sketch
from xxhash import xxh3_64_hexdigest

from tidegate.edges.redis_use import new_sketch
from tidegate.rules.exposure import as_bytes, shed_place
from tidegate.rules.outcome import Code, Outcome

Under = tuple[str, str, str]
"""Pool, tier and code."""
PoolTier = tuple[str, str]


class Kind(NamedTuple):
    """What a decision is counted under; tiers are the catalogue's, never a caller's text."""

    pool: str
    tier: str
    code: str


class UsersSeen:
    """The different users admitted since the day began, by pool and tier, as a few bytes each."""

    def __init__(self) -> None:
        self._seen: dict[Under, hll_sketch] = {}

    def saw(self, under: Under, user: str) -> None:
        """Remember a user who was admitted."""
        seen = self._seen.get(under)
        if seen is None:
            seen = self._seen[under] = new_sketch()
        try:
            seen.update(user)
        except TypeError:  # half of a surrogate pair is no text to the library
            seen.update(xxh3_64_hexdigest(as_bytes(user)))

    @property
    def sketches(self) -> Mapping[Under, hll_sketch]:
        """Who was seen; still counting."""
        return self._seen

    def begin_day(self) -> None:
        """Forget everybody."""
        self._seen = {}


class Tally:
    """One count a pool, tier and code, which only ever grows, and who was let in."""

    def __init__(self) -> None:
        self._counts = defaultdict[Under, int](int)
        self.users = UsersSeen()
        self.spared_below: Mapping[PoolTier, int] = {}
        """Places in a pool's order of shedding; what is asked of the gate from below them is also
        counted by itself. Empty while no gate refuses anybody, so that it costs nothing."""
        self._spared = defaultdict[PoolTier, int](int)

    @property
    def counts(self) -> Counter[Kind]:
        """What was counted so far."""
        return Counter({Kind(*under): count for under, count in self._counts.items()})

    @property
    def spared(self) -> Counter[PoolTier]:
        """What was asked from places below `spared_below`, by the pools and tiers it ever named."""
        return Counter(self._spared)

    def count(self, outcome: Outcome, user: str, now: float) -> None:
        """Count one decision, and remember a user who was let in."""
        under = outcome.counted_under
        self._counts[under] += 1
        if outcome.allowed:
            self.users.saw(under, user)
        if self.spared_below and (outcome.allowed or outcome.code is Code.GATE_SHED):
            pool, tier, _ = under
            below = self.spared_below.get((pool, tier))
            if below is not None and shed_place(pool, user, now) < below:
                self._spared[pool, tier] += 1
