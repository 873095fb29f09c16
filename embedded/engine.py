"""A simulated inference engine: a queue, a batch of bounded size, and a busy GPU under it."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

from embedded.engine_metrics import EngineMetrics
from tidegate.errors import Unavailable

BATCH_SLOWDOWN: Final = 0.05
"""Each other request that runs when one starts makes that one this share slower."""

_KV_SHARE_AT_FULL_BATCH: Final = 0.8
"""How full the KV cache is when every slot holds a request of work 1."""

_DUTY_WINDOW_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Served:
    """How long one request waited and ran, in seconds."""

    queue_wait_s: float
    service_s: float


class Engine:
    """Runs up to `slots` requests at a time, first come, first served.

    A request of work w that starts beside n others runs for
    `service_s * w * (1 + BATCH_SLOWDOWN * n)` and holds its share of `kv_tokens` meanwhile. At a
    full batch one replica so serves `slots / (service_s * (1 + BATCH_SLOWDOWN * (slots - 1)))`
    units of work a second.
    """

    def __init__(
        self, *, slots: int, service_s: float, kv_tokens: int, metrics: EngineMetrics
    ) -> None:
        self._slots = slots
        self._service_s = service_s
        self._kv_tokens = kv_tokens
        self._tokens_per_work = _KV_SHARE_AT_FULL_BATCH * kv_tokens / slots
        self._metrics = metrics
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._running = 0
        self._kv_used_tokens = 0.0
        self._idle = asyncio.Event()
        self._idle.set()
        self._duty = _DutyCycle()

    async def generate(self, work: float) -> Served:
        """Wait for a slot and run; raises Unavailable when the engine drains meanwhile."""
        loop = asyncio.get_running_loop()
        arrived_at = loop.time()
        await self._take_slot()
        started_at = loop.time()
        tokens = self._tokens_per_work * work
        service_s = self._service_s * work * (1 + BATCH_SLOWDOWN * (self._running - 1))
        self._kv_used_tokens += tokens
        self._metrics.started(queue_wait_s=started_at - arrived_at)
        self._show()
        try:
            await asyncio.sleep(service_s)
            self._metrics.finished(latency_s=loop.time() - arrived_at, tokens=round(tokens))
        finally:
            self._kv_used_tokens -= tokens
            self._give_slot()
        return Served(started_at - arrived_at, service_s)

    async def drain(self, within_s: float) -> None:
        """Refuse those who wait, and let those who run finish within `within_s`."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(
                    Unavailable("this replica is going away. Ask another.", code="draining")
                )
        try:
            await asyncio.wait_for(self._idle.wait(), within_s)
        except TimeoutError:
            return

    def duty(self, now: float) -> float:
        """Return the share of the last half second in which anything ran, by the loop's clock."""
        return self._duty.over_window(now)

    @property
    def kv_cache_use(self) -> float:
        """The share of the KV cache in use, 0 to 1."""
        return min(1.0, self._kv_used_tokens / self._kv_tokens)

    async def _take_slot(self) -> None:
        if self._running < self._slots:
            self._occupy()
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._show()
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                # The slot was ours already when the client left.
                self._give_slot()
            else:
                self._waiting.remove(turn)
                self._show()
            raise

    def _occupy(self) -> None:
        if self._running == 0:
            self._idle.clear()
            self._duty.began(asyncio.get_running_loop().time())
        self._running += 1

    def _give_slot(self) -> None:
        """Hand the slot to the one that has waited longest, or leave it free."""
        self._running -= 1
        if self._running == 0:
            self._idle.set()
            self._duty.ended(asyncio.get_running_loop().time())
        for turn in self._waiting:
            if not turn.done():
                self._waiting.remove(turn)
                self._occupy()
                turn.set_result(None)
                break
        self._show()

    def _show(self) -> None:
        self._metrics.show(
            running=self._running, waiting=len(self._waiting), kv_cache_use=self.kv_cache_use
        )


class _DutyCycle:
    """How much of the recent past was busy, from the instants at which work began and ended."""

    def __init__(self) -> None:
        self._spans: deque[tuple[float, float]] = deque()
        self._busy_since: float | None = None

    def began(self, now: float) -> None:
        self._busy_since = now

    def ended(self, now: float) -> None:
        if self._busy_since is not None:
            self._spans.append((self._busy_since, now))
        self._busy_since = None
        while self._spans and self._spans[0][1] < now - _DUTY_WINDOW_S:
            self._spans.popleft()

    def over_window(self, now: float) -> float:
        opened_at = now - _DUTY_WINDOW_S
        busy_s = sum(max(0.0, end - max(start, opened_at)) for start, end in self._spans)
        if self._busy_since is not None:
            busy_s += now - max(self._busy_since, opened_at)
        return min(1.0, busy_s / _DUTY_WINDOW_S)
