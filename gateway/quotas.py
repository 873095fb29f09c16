"""Spending users' quotas from uses that were leased to this gateway, and leasing more in time."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Final, Generic, TypeVar

from gateway.leases import Lease, Waiter
from tidegate.edges.redis_quotas import QuotaBook
from tidegate.errors import Unavailable
from tidegate.rules.exposure import as_bytes
from tidegate.rules.outcome import Outcome
from tidegate.rules.quota import Quota
from tidegate.rules.tables import quota_refusal

_BATCH: Final = 500
_LAST_S: Final = 0.01
_TRIES_AGAIN_S: Final = 0.25
"""While Redis is lost, it is tried again after so long."""

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long is waited, and how much is remembered."""

    wait_s: float = 0.03
    """How long an answer may wait for a lease; then it is given as the quota says for a loss."""
    idle_s: float = 1.0
    """What a user leaves unused for so long is given back to the other gateways."""
    most: int = 100_000
    """Leases held at once; those longest unused are given back first."""


class Quotas(Generic[R]):
    """Takes one use from each quota of an allowed outcome, or from none of them.

    A use that a lease covers asks nobody. One that no lease covers waits for one, alone, for at
    most `wait_s`; while Redis is lost it does not wait at all.
    """

    def __init__(
        self,
        book: QuotaBook,
        clock: Callable[[], float],
        process: str,
        bounds: Bounds | None = None,
    ) -> None:
        """Lease in the name of `process`, which no other has or had."""
        self._book = book
        self._clock = clock
        self._process = process
        self._bounds = bounds or Bounds()
        self._leases: dict[str, Lease] = {}
        """Those that may be spent, the longest unused first."""
        self._asking: dict[Lease, None] = {}
        """Those that want something of Redis, also while they are asked for it."""
        self._waiters: dict[Waiter, None] = {}
        self._wake = asyncio.Event()
        self._asked_at: float | None = None
        """Since when an answer of Redis' is waited for, of the loop's clock."""
        self._is_lost = False
        self._begun = 0
        self.unknown = 0
        """Uses that were decided without knowing what was used, since the process began."""

    @property
    def leases(self) -> int:
        """How many are held."""
        return len(self._leases)

    def spend(
        self, user: str, outcome: Outcome, now: float, then: Callable[[Outcome], R]
    ) -> R | asyncio.Future[R]:
        """Take one use, and call `then` with the outcome, or with the refusal that it becomes.

        Returns what that returned, or a future of it where a lease is waited for; a future that
        is cancelled takes nothing.
        """
        time = asyncio.get_running_loop().time()
        leases = [self._lease(user, outcome.feature, each, now) for each in outcome.quotas]
        for lease in leases:
            lease.idle_since = time
        known = self._take(leases, outcome, now)
        if known is None and (self._is_lost or self._is_late(time)):
            known = self._take_unknown(leases, outcome, now)
        return self._wait(leases, outcome, now, then) if known is None else then(known)

    async def run(self) -> None:
        """Ask, tell and give back until cancelled, and then give back all."""
        sweeping = asyncio.create_task(self._sweep())
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._asking or self._is_lost:
                    await self._ask()
                    if self._is_lost:
                        await asyncio.sleep(_TRIES_AGAIN_S)
        finally:
            sweeping.cancel()
            for lease in tuple(self._leases.values()):
                self._leave(lease)
            self._is_lost = False
            while self._asking and not self._is_lost:
                await self._ask()

    # --- taking ---

    def _lease(self, user: str, feature: str, quota: Quota, now: float) -> Lease:
        # No name of a user's is in Redis, and a long one costs nothing there.
        hashed = hashlib.blake2b(as_bytes(user), digest_size=16).hexdigest()
        key = f"{feature}:{quota.name}:{hashed}"
        lease = self._leases.get(key)
        if lease is not None and now < lease.part.end and lease.quota == quota:
            del self._leases[key]  # and put at the end again, behind those unused for longer
        else:
            if lease is not None:
                self._leave(lease)
            elif len(self._leases) >= self._bounds.most:
                self._leave(next(iter(self._leases.values())))
            self._begun += 1
            lease = Lease(key, f"{self._process}.{self._begun}", quota, quota.part(now))
        self._leases[key] = lease
        return lease

    def _take(self, leases: Sequence[Lease], outcome: Outcome, now: float) -> Outcome | None:
        """Take from all or none; None where Redis has to be asked first."""
        for lease in leases:
            if lease.units <= 0 and now < lease.asks_again_at:
                return quota_refusal(outcome, lease.quota, lease.frees_at)
        if any(lease.units <= 0 for lease in leases):
            return None
        for lease in leases:
            lease.used += 1
            self._want(lease)
        return outcome

    def _take_unknown(self, leases: Sequence[Lease], outcome: Outcome, now: float) -> Outcome:
        """Take what the fail mode lets, at most the limit by this gateway's own count."""
        for lease in leases:
            if lease.units <= 0 and now < lease.frees_at:
                return quota_refusal(outcome, lease.quota, lease.frees_at)
        self.unknown += 1
        for lease in leases:
            if lease.units > 0:
                continue
            if not lease.quota.is_open_when_lost:
                return quota_refusal(outcome, lease.quota, None)
            if lease.used >= lease.quota.limit:
                return quota_refusal(outcome, lease.quota, lease.part.end)
        for lease in leases:
            lease.used += 1
            self._want(lease)
        return outcome

    # --- waiting ---

    def _wait(
        self,
        leases: list[Lease],
        outcome: Outcome,
        now: float,
        then: Callable[[Outcome], R],
    ) -> asyncio.Future[R]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()

        def settle(settled: Outcome) -> None:
            try:
                answer.set_result(then(settled))
            except Exception as error:  # noqa: BLE001 - for whoever awaits the answer
                answer.set_exception(error)

        waiter = Waiter(leases, outcome, now, settle, answer.done)
        self._waiters[waiter] = None
        for lease in leases:
            lease.waiters[waiter] = None
            self._want(lease)
        first_s = self._bounds.wait_s - _LAST_S
        waiter.timer = loop.call_later(first_s, self._nearly_late, waiter)
        return answer

    def _look_again(self, waiter: Waiter) -> None:
        if waiter.is_gone():
            self._forget(waiter)
        elif (known := self._take(waiter.leases, waiter.outcome, waiter.now)) is not None:
            self._settle(waiter, known)

    def _nearly_late(self, waiter: Waiter) -> None:
        # In two steps: when this process itself was held up, what Redis answered meanwhile is
        # read before time is up.
        loop = asyncio.get_running_loop()
        waiter.timer = loop.call_later(_LAST_S, self._be_late, waiter)

    def _be_late(self, waiter: Waiter) -> None:
        if self._is_late(asyncio.get_running_loop().time()):
            self._is_lost = True  # so that nobody else begins to wait
        self._settle_unknown(waiter)

    def _settle_unknown(self, waiter: Waiter) -> None:
        if waiter.is_gone():
            self._forget(waiter)
        else:
            self._settle(waiter, self._take_unknown(waiter.leases, waiter.outcome, waiter.now))

    def _settle(self, waiter: Waiter, outcome: Outcome) -> None:
        self._forget(waiter)
        waiter.settle(outcome)

    def _forget(self, waiter: Waiter) -> None:
        if waiter.timer is not None:
            waiter.timer.cancel()
        self._waiters.pop(waiter, None)
        for lease in waiter.leases:
            lease.waiters.pop(waiter, None)

    # --- asking ---

    def _is_late(self, time: float) -> bool:
        return self._asked_at is not None and time - self._asked_at > self._bounds.wait_s - _LAST_S

    def _want(self, lease: Lease) -> None:
        if lease.wants:
            self._asking[lease] = None
            self._wake.set()

    def _leave(self, lease: Lease) -> None:
        """Give back what is left, once Redis knows what was used."""
        self._leases.pop(lease.key, None)
        # What was never asked for is not in Redis; and what it should be told is bounded as well.
        if (lease.number or lease.used) and len(self._asking) < 2 * self._bounds.most:
            lease.is_leaving = True
            self._want(lease)
        else:
            self._asking.pop(lease, None)

    async def _ask(self) -> None:
        """Ask once for many; what nobody heard is told again, and counts once."""
        now = self._clock()
        leases = list(islice(self._asking, _BATCH))
        for lease in leases:
            if lease.is_leaving and lease.is_over(now):
                del self._asking[lease]  # what it used counts no more, and nobody need be told
        leases = [lease for lease in leases if lease in self._asking]
        asks = [lease.ask() for lease in leases]
        self._asked_at = asyncio.get_running_loop().time()
        try:
            answers = await self._book.lease(asks)
        except Unavailable:
            self._lose()
            return
        finally:
            self._asked_at = None
        self._is_lost = False
        now = self._clock()
        for lease, ask, granted in zip(leases, asks, answers, strict=True):
            if not ask.ends:
                lease.take_in(ask, granted, now)
        for lease in leases:
            for waiter in tuple(lease.waiters):
                self._look_again(waiter)
        for lease, ask in zip(leases, asks, strict=True):
            self._asking.pop(lease, None)
            if not ask.ends:
                self._want(lease)  # behind all others

    def _lose(self) -> None:
        self._is_lost = True
        for waiter in tuple(self._waiters):
            self._settle_unknown(waiter)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._bounds.idle_s)
            if self._is_lost:
                continue  # what was used is remembered until somebody can be told
            self._give_back(unused_since=loop.time() - self._bounds.idle_s)

    def _give_back(self, unused_since: float) -> None:
        idle = takewhile(lambda lease: lease.idle_since <= unused_since, self._leases.values())
        for lease in tuple(idle):
            self._leave(lease)
