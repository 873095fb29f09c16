"""The rivals' rules, each asked every second and acting at its own period."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks.replay.fluid import Seen

Setting = Mapping[str, float]

_HPA_PERIOD_S: Final = 15
_TOLERANCE: Final = 0.1
_HPA_WINDOW_S: Final = 300
_KEDA_POLL_S: Final = 30
_KPA_PERIOD_S: Final = 2
_KPA_STABLE_S: Final = 60
_KPA_PANIC_S: Final = 6
_KPA_PANIC_AT: Final = 2.0
_KPA_UP: Final = 1000.0
_KPA_DOWN: Final = 2.0
_WVA_KV: Final = 0.80
_WVA_QUEUE: Final = 5.0
_WVA_SPARE_QUEUE: Final = 3.0
_DYNAMO_THROUGHPUT_S: Final = 180
_DYNAMO_LOAD_S: Final = 5
_DYNAMO_KV: Final = 0.9
_RAY_LOOK_BACK_S: Final = 30
_RAY_UP_S: Final = 30
_RAY_DOWN_S: Final = 600


@dataclass(frozen=True, slots=True)
class Pool:
    """What everybody may know of the pool beforehand."""

    capacity_rps: float
    slots: float
    most: int
    """`maxReplicas`."""
    peak: float
    """Replicas of the peak, which only the fixed number is written from."""
    cold_start_s: tuple[float, float]
    """p50 and p90, as measured."""


class Lately:
    """The mean of what was read in the last seconds."""

    def __init__(self, seconds: int) -> None:
        self._kept: deque[float] = deque(maxlen=seconds)
        self._sum = 0.0

    def add(self, value: float) -> float:
        """Take a reading, and return the mean."""
        if len(self._kept) == self._kept.maxlen:
            self._sum -= self._kept[0]
        self._kept.append(value)
        self._sum += value
        return self._sum / len(self._kept)


class Fixed:
    """So many, always."""

    def __init__(self, pool: Pool, setting: Setting) -> None:
        self._replicas = math.ceil(pool.peak * setting["share_of_peak"])

    def size(self, seen: Seen) -> int:  # noqa: ARG002 - it looks at nothing
        """Return the number."""
        return self._replicas


class Hpa:
    """HPA v2 on utilisation, and on the queue where a target for it is set."""

    def __init__(self, pool: Pool, setting: Setting) -> None:
        self._most = pool.most
        self._target = setting["utilisation"]
        self._queue_target = setting.get("waiting_each")
        self._use = Lately(_HPA_PERIOD_S)
        self._queue = Lately(_HPA_PERIOD_S)
        self._steps = HpaSteps(pool.most)

    def size(self, seen: Seen) -> int:
        """Take the largest of the metrics' recommendations."""
        use, queue = self._use.add(seen.use), self._queue.add(seen.waiting / max(1, seen.ready))
        booked = seen.ready + seen.loading
        if seen.now % _HPA_PERIOD_S:
            return booked
        wanted = _by_average(use, self._target, seen)
        if self._queue_target is not None:
            wanted = max(wanted, _by_average(queue, self._queue_target, seen))
        return self._steps.take(wanted, booked, seen.now)


def _by_average(mean: float, target: float, seen: Seen) -> int:
    """Return HPA's ⌈N × ratio⌉ of a mean over ready pods.

    A pod without a metric counts as nothing on the way up and as its target on the way down;
    nothing happens where that turns the direction.
    """
    booked = seen.ready + seen.loading
    ratio = mean / target
    if abs(1.0 - ratio) <= _TOLERANCE:
        return booked
    assumed = 0.0 if ratio > 1.0 else 1.0
    whole = (ratio * seen.ready + assumed * seen.loading) / max(1, booked)
    turned = (whole > 1.0) is not (ratio > 1.0)
    if turned or abs(1.0 - whole) <= _TOLERANCE:
        return booked
    return math.ceil(booked * whole - 1e-9)


class HpaSteps:
    """HPA's default behaviour: down by the largest of 300 s, up by +4 or +100 % in 15 s."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._recent: deque[tuple[float, int]] = deque()

    def take(self, wanted: int, booked: int, now: float) -> int:
        """Stabilise and limit a recommendation."""
        self._recent.append((now, wanted))
        while self._recent[0][0] <= now - _HPA_WINDOW_S:
            self._recent.popleft()
        if wanted < booked:
            wanted = min(booked, max(each for _, each in self._recent))
        return min(wanted, booked + max(4, booked), self._most)


class Keda:
    """KEDA on requests a second: polled every 30 s, and from 1 to N it is HPA's."""

    def __init__(self, pool: Pool, setting: Setting) -> None:
        self._threshold_rps = setting["share_of_capacity"] * pool.capacity_rps
        self._rps = Lately(_KEDA_POLL_S)
        self._polled_rps = 0.0
        self._steps = HpaSteps(pool.most)

    def size(self, seen: Seen) -> int:
        """Divide what was polled last by the threshold."""
        rps = self._rps.add(seen.admitted_rps)
        if seen.now % _KEDA_POLL_S == 0.0:
            self._polled_rps = rps
        booked = seen.ready + seen.loading
        if seen.now % _HPA_PERIOD_S or self._polled_rps == 0.0:
            return booked
        ratio = self._polled_rps / (self._threshold_rps * max(1, booked))
        wanted = booked
        if abs(1.0 - ratio) > _TOLERANCE:
            wanted = math.ceil(self._polled_rps / self._threshold_rps)
        return self._steps.take(wanted, booked, seen.now)


class Kpa:
    """Knative's pod autoscaler on concurrency."""

    def __init__(self, pool: Pool, setting: Setting) -> None:
        self._target = setting["share_of_slots"] * pool.slots
        self._stable, self._panic = Lately(_KPA_STABLE_S), Lately(_KPA_PANIC_S)
        self._panicked_at: float | None = None
        self._panic_most = 0

    def size(self, seen: Seen) -> int:
        """Follow the stable window; in panic the short one, and never down."""
        concurrency = seen.running + seen.waiting
        stable, panic = self._stable.add(concurrency), self._panic.add(concurrency)
        booked = seen.ready + seen.loading
        if seen.now % _KPA_PERIOD_S:
            return booked
        ready = max(1, seen.ready)
        low, high = math.floor(ready / _KPA_DOWN), math.ceil(ready * _KPA_UP)
        wanted = min(high, max(low, math.ceil(stable / self._target)))
        panicking = min(high, max(low, math.ceil(panic / self._target)))
        if panicking / ready >= _KPA_PANIC_AT:
            self._panicked_at = seen.now
        elif self._panicked_at is not None and seen.now - self._panicked_at >= _KPA_STABLE_S:
            self._panicked_at, self._panic_most = None, 0
        if self._panicked_at is None:
            return max(1, wanted)
        self._panic_most = max(self._panic_most, ready, panicking)
        return self._panic_most


class Wva:
    """llm-d's workload variant autoscaler, V1: by one, on spare KV cache and spare queue."""

    def __init__(self, _: Pool, setting: Setting) -> None:
        self._spare_kv = setting["spare_kv"]
        self._period_s = setting["period_s"]

    def size(self, seen: Seen) -> int:
        """Add one where too little is spare, take one where the rest could bear it."""
        booked = seen.ready + seen.loading
        if seen.now % self._period_s or seen.loading:
            return booked
        ready = max(1, seen.ready)
        if self._is_short(seen.use, seen.waiting / ready):
            return booked + 1
        fewer = max(1, ready - 1)
        if not self._is_short(seen.use * ready / fewer, seen.waiting / fewer):
            return max(1, booked - 1)
        return booked

    def _is_short(self, use: float, queue: float) -> bool:
        return _WVA_KV - use < self._spare_kv or _WVA_QUEUE - queue < _WVA_SPARE_QUEUE


class Dynamo:
    """Dynamo's planner: a floor from the last 180 s, and a load loop of 5 s above it."""

    def __init__(self, pool: Pool, setting: Setting) -> None:
        self._each_rps = setting["share_of_capacity"] * pool.capacity_rps
        self._rps = Lately(_DYNAMO_THROUGHPUT_S)
        self._use = Lately(_DYNAMO_LOAD_S)
        self._floor = 0

    def size(self, seen: Seen) -> int:
        """Predict that the next interval is like the last (the constant predictor)."""
        rps, use = self._rps.add(seen.admitted_rps), self._use.add(seen.use)
        booked = seen.ready + seen.loading
        if seen.now % _DYNAMO_THROUGHPUT_S == 0.0:
            self._floor = math.ceil(rps / self._each_rps)
        wanted = max(self._floor, booked)
        if seen.now % _DYNAMO_LOAD_S == 0.0 and not seen.loading:
            ready = max(2, seen.ready)
            if use > _DYNAMO_KV or seen.waiting > 0.0:
                wanted = max(wanted, booked + 1)
            elif use * ready / (ready - 1) < _DYNAMO_KV:
                wanted = max(self._floor, booked - 1)
        return max(1, wanted)


class RayServe:
    """Ray Serve on ongoing requests, with its delays up and down."""

    def __init__(self, _: Pool, setting: Setting) -> None:
        self._target = setting["ongoing"]
        self._ongoing = Lately(_RAY_LOOK_BACK_S)
        self._since: tuple[int, float] = (0, 0.0)
        """Direction that is wanted, and since when."""

    def size(self, seen: Seen) -> int:
        """Follow a wish that has lasted its delay."""
        ongoing = self._ongoing.add(seen.running + seen.waiting)
        booked = seen.ready + seen.loading
        wanted = max(1, math.ceil(ongoing / self._target))
        direction = (wanted > booked) - (wanted < booked)
        if direction != self._since[0]:
            self._since = (direction, seen.now)
        delay_s = _RAY_UP_S if direction > 0 else _RAY_DOWN_S
        if direction == 0 or seen.now - self._since[1] < delay_s:
            return booked
        self._since = (0, seen.now)
        return wanted
