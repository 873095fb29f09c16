"""Counts of what was decided, since the process began."""

from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

from xxhash import xxh3_64_hexdigest

from tidegate.rules.exposure import as_bytes
from tidegate.rules.outcome import Outcome

MOST_USERS: Final = 50_000
"""Different users of one pool and tier that wait to be published; the others are dropped."""
_LONGEST: Final = 64
"""A longer name is kept as its hash, so that callers cannot fill the memory with names."""

Under = tuple[str, str, str]
"""Pool, tier and code."""


class Kind(NamedTuple):
    """What a decision is counted under; tiers are the catalogue's, never a caller's text."""

    pool: str
    tier: str
    code: str


class UsersSeen:
    """The users admitted since they were last taken, by pool and tier."""

    def __init__(self, most: int = MOST_USERS) -> None:
        self._most = most
        self._seen: dict[Under, set[str]] = {}
        self._dropped: Counter[Under] = Counter()
        self.dropped = 0
        """Uses, since the process began, whose user is in no count of users."""

    def saw(self, under: Under, user: str) -> None:
        """Remember a user who was admitted."""
        seen = self._seen.get(under)
        if seen is None:
            seen = self._seen[under] = set()
        if len(user) > _LONGEST:
            user = xxh3_64_hexdigest(as_bytes(user))
        if len(seen) < self._most:
            seen.add(user)
        elif user not in seen:
            self.drop(under, 1)

    def drop(self, under: Under, count: int) -> None:
        """Count uses whose user is forgotten."""
        self._dropped[under] += count
        self.dropped += count

    def take(self) -> tuple[Mapping[Under, set[str]], Mapping[Under, int]]:
        """Return who was seen, and how many uses were dropped, and begin anew."""
        taken = self._seen, self._dropped
        self._seen, self._dropped = {}, Counter()
        return taken


class Tally:
    """One count a pool, tier and code, which only ever grows, and who was let in."""

    def __init__(self) -> None:
        self._counts: dict[Under, int] = {}
        self.users = UsersSeen()

    @property
    def counts(self) -> Counter[Kind]:
        """What was counted so far."""
        return Counter({Kind(*under): count for under, count in self._counts.items()})

    def count(self, outcome: Outcome, user: str) -> None:
        """Count one decision, and remember a user who was let in."""
        counts, under = self._counts, outcome.counted_under
        counts[under] = counts.get(under, 0) + 1
        if outcome.allowed:
            self.users.saw(under, user)
