"""The same engine event by event: requests one by one, replicas with batches of their own.

It is what the fluid is held against. Sizes are log-normal about the day's means, and a request goes
to the replica whose KV cache is used least.
"""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from benchmarks.replay.engine import (
    DECODE_BASE_S,
    DECODE_EACH_S,
    KV_TOKENS,
    MAX_SEQUENCES,
    PATIENCE_S,
    PREFILL_SHARE,
    PREFILL_TPS,
    TPOT_LIMIT_S,
)
from benchmarks.replay.fluid import START_S
from benchmarks.replay.scoring import START_WITHIN_S
from benchmarks.replay.traces import Day

_SPREAD: Final = 0.5
"""Standard deviation of the logarithm of a request's tokens."""


class Request(NamedTuple):
    """One request: when it comes, from which tier, and its tokens."""

    at_s: float
    tier: int
    input_tokens: float
    output_tokens: float

    @property
    def kv_tokens(self) -> float:
        """Cache that it holds, on average of its stay."""
        return self.input_tokens + self.output_tokens / 2.0


def draw_requests(day: Day, seed: int) -> list[Request]:
    """Draw the requests of a day one by one, in the order of arrival."""
    rng = np.random.default_rng([seed, 8])
    drawn: list[Request] = []
    for tier, arrivals in enumerate(day.arrivals):
        second = np.repeat(np.arange(day.seconds), arrivals.astype(int))
        at_s = second + rng.uniform(size=len(second))
        noise = np.exp(rng.normal(-(_SPREAD**2) / 2.0, _SPREAD, (2, len(second))))
        sizes = day.input_tokens[second] * noise[0], day.output_tokens[second] * noise[1]
        columns = zip(at_s.tolist(), *(each.tolist() for each in sizes), strict=True)
        drawn += [Request(at, tier, *tokens) for at, *tokens in columns]
    return sorted(drawn)


@dataclass(slots=True)
class _Replica:
    """One engine; `produced` counts the tokens that a sequence of its batch has got so far."""

    now: float = 0.0
    produced: float = 0.0
    prefill_s: float = 0.0
    """Prefill that is still to be done, in seconds of the whole card."""
    kv_tokens: float = 0.0
    due: list[tuple[float, float, Request]] = field(default_factory=list)
    """Heap of: `produced` at which it ends, when it began, and the request."""

    def has_room(self, request: Request) -> bool:
        """Tell whether a request fits, and prefill is not behind."""
        fits = self.kv_tokens + request.kv_tokens <= KV_TOKENS
        return fits and len(self.due) < MAX_SEQUENCES and self.prefill_s < 1.0

    def _pace(self) -> tuple[float, float]:
        """Return tokens a second of each sequence, and for how long that holds."""
        tps = 1.0 / (DECODE_BASE_S + DECODE_EACH_S * len(self.due))
        if self.prefill_s > 0.0:
            return (1.0 - PREFILL_SHARE) * tps, self.prefill_s / PREFILL_SHARE
        return tps, float("inf")

    def advance(self, now: float) -> None:
        """Let time pass; nothing begins or ends within it."""
        while self.now < now:
            tps, holds_s = self._pace()
            passed = min(now - self.now, holds_s)
            self.produced += tps * passed
            self.prefill_s = max(0.0, self.prefill_s - PREFILL_SHARE * passed)
            if passed == holds_s:
                self.prefill_s = 0.0
            self.now = now if passed == now - self.now else self.now + passed

    def next_end(self) -> float:
        """Return when its next sequence ends, if nothing begins before."""
        if not self.due:
            return float("inf")
        left, now = self.due[0][0] - self.produced, self.now
        tps, holds_s = self._pace()
        if tps * holds_s < left:
            left -= tps * holds_s
            now += holds_s
            tps /= 1.0 - PREFILL_SHARE
        return now + max(0.0, left) / tps

    def start(self, request: Request) -> None:
        """Begin a request."""
        heapq.heappush(self.due, (self.produced + request.output_tokens, self.now, request))
        self.kv_tokens += request.kv_tokens
        self.prefill_s += request.input_tokens / PREFILL_TPS

    def finish(self) -> tuple[Request, float]:
        """End the first; returns it with its mean time per output token."""
        _, began, request = heapq.heappop(self.due)
        self.kv_tokens -= request.kv_tokens
        return request, (self.now - began) / request.output_tokens


class EventRun:
    """A fixed number of replicas and one queue, first come, first served."""

    def __init__(self, replicas: int) -> None:
        self._replicas = [_Replica() for _ in range(replicas)]
        self._queue: deque[Request] = deque()
        self._ends: list[tuple[float, int, int]] = []
        """Heap of: when a replica's next sequence ends, which, and as of how many changes."""
        self._changes = [0] * replicas
        self._in_time: set[Request] = set()
        self._attained = [0, 0, 0]

    def run(self, requests: Sequence[Request]) -> tuple[float, float, float]:
        """Run all of them; returns the attainment of each tier after the first ten minutes."""
        for request in requests:
            self._until(request.at_s)
            self._queue.append(request)
            self._dispatch(request.at_s)
        self._until(float("inf"))
        scored = [r.tier for r in requests if r.at_s >= START_S]
        pro, plus, free = (self._attained[t] / max(1, scored.count(t)) for t in range(3))
        return pro, plus, free

    def _until(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            at, index, changes = heapq.heappop(self._ends)
            replica = self._replicas[index]
            if changes != self._changes[index]:
                continue  # something began since: another event stands for it
            replica.advance(at)
            request, tpot_s = replica.finish()
            if request in self._in_time and tpot_s <= TPOT_LIMIT_S and request.at_s >= START_S:
                self._attained[request.tier] += 1
            self._await_end(index)
            self._dispatch(at)

    def _await_end(self, index: int) -> None:
        self._changes[index] += 1
        end = self._replicas[index].next_end()
        if end < float("inf"):
            heapq.heappush(self._ends, (end, index, self._changes[index]))

    def _dispatch(self, now: float) -> None:
        while self._queue:
            request = self._queue[0]
            if now - request.at_s > PATIENCE_S:
                self._queue.popleft()
                continue
            index = min(range(len(self._replicas)), key=lambda i: self._replicas[i].kv_tokens)
            replica = self._replicas[index]
            replica.advance(now)
            if not replica.has_room(request):
                return
            self._queue.popleft()
            replica.start(request)
            if now - request.at_s <= START_WITHIN_S[request.tier]:
                self._in_time.add(request)
            self._await_end(index)
