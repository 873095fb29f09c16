"""What this gateway may let one user use of one quota, without asking anybody."""

import asyncio
from collections.abc import Callable
from typing import Final

from tidegate.edges.redis_quotas import Ask, Granted
from tidegate.rules.outcome import Outcome
from tidegate.rules.quota import Part, Quota

ASKS_AGAIN_S: Final = 1.0
"""Where nothing is left, that is believed for so long: others may give back what they hold."""


class Waiter:
    """A use that waits until there are leases for it."""

    __slots__ = ("is_gone", "leases", "now", "outcome", "settle", "timer")

    def __init__(
        self,
        leases: list["Lease"],
        outcome: Outcome,
        now: float,
        settle: Callable[[Outcome], None],
        is_gone: Callable[[], bool],
    ) -> None:
        self.leases = leases
        self.outcome = outcome
        self.now = now
        self.settle = settle
        self.is_gone = is_gone
        """Whether nobody wants to know any more."""
        self.timer: asyncio.TimerHandle | None = None


class Lease:
    """Uses of one user in one part of a quota's window.

    `used` only grows, and `held` is what Redis was last heard to count for it: more of them are
    uses to come, fewer are uses that were let in while nobody could be asked.
    """

    __slots__ = (
        "asks_again_at",
        "frees_at",
        "held",
        "idle_since",
        "is_heard",
        "is_leaving",
        "key",
        "low",
        "name",
        "number",
        "part",
        "quota",
        "used",
        "waiters",
    )

    def __init__(self, key: str, name: str, quota: Quota, part: Part) -> None:
        self.key = key
        self.name = name
        self.quota = quota
        self.part = part
        self.used = 0
        self.held = 0
        self.low = 0
        """With this many left, more are asked for before anybody has to wait."""
        self.number = 0
        """Of its last ask."""
        self.is_heard = False
        """Whether an ask was ever answered."""
        self.is_leaving = False
        """Whether it ends as soon as Redis knows what it used."""
        self.frees_at = 0.0
        """When there will be more, where nothing was left; in seconds since the epoch."""
        self.asks_again_at = 0.0
        self.idle_since = 0.0
        """When it was last used, of the loop's clock."""
        self.waiters: dict[Waiter, None] = {}

    @property
    def units(self) -> int:
        """How many uses it has left."""
        return max(0, self.held - self.used)

    @property
    def needed(self) -> int:
        """How many more to ask for."""
        units = self.units
        return max(0, len(self.waiters) - units) + (1 if 0 < units <= self.low else 0)

    @property
    def wants(self) -> bool:
        """Whether it has something to ask or to tell."""
        return self.is_leaving or self.used > self.held or self.needed > 0

    def is_over(self, now: float) -> bool:
        """Say whether its uses count no more."""
        return now >= self.quota.counts_until(self.part.start_ms)

    def ask(self) -> Ask:
        """Write what to ask for; the last time, what it used, which gives back the rest."""
        quota, part = self.quota, self.part
        self.number += 1
        ends = self.is_leaving and self.is_heard and not self.waiters and self.used <= self.held
        return Ask(
            key=self.key,
            lease=self.name,
            number=self.number,
            limit=quota.limit,
            part_ms=part.start_ms,
            counts_from_ms=quota.counts_from_ms(part),
            kept_ms=quota.kept_ms,
            held=self.used if ends else max(self.used, self.held),
            needed=0 if ends else self.needed,
            ends=ends,
        )

    def take_in(self, ask: Ask, granted: Granted, now: float) -> None:
        """Take what was granted."""
        self.is_heard = True
        self.held = granted.held
        if granted.held < ask.held + ask.needed:
            self.frees_at = self.quota.counts_until(granted.frees_ms)
            self.asks_again_at = min(now + ASKS_AGAIN_S, self.frees_at)
            self.low = 0
        elif ask.needed:
            self.frees_at = self.asks_again_at = 0.0
            self.low = self.units // 4
