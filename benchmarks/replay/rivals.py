"""The rivals' rules, each asked every second and acting at its own period."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks.replay.fluid import Seen
from benchmarks.replay.hpa import ExternalMetric, HpaController, HpaTerms, PodsMetric

Setting = Mapping[str, float]

_HPA_PERIOD_S: Final = 15
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
        targets = [setting[key] for key in ("utilisation", "waiting_each") if key in setting]
        self._lately = [Lately(_HPA_PERIOD_S) for _ in targets]
        self._controller = HpaController(HpaTerms(pool.most), [PodsMetric(t) for t in targets])

    def size(self, seen: Seen) -> int:
        """Sync on the means of the seconds since the last sync."""
        readings = seen.use, seen.waiting / max(1, seen.ready)
        means = [each.add(value) for each, value in zip(self._lately, readings, strict=False)]
        if seen.now % _HPA_PERIOD_S:
            return seen.ready + seen.loading
        return self._controller.sync(means, seen.ready, seen.loading, seen.now)


class Keda:
    """KEDA on requests a second: polled every 30 s, and from 1 to N it is HPA's."""

    def __init__(self, pool: Pool, setting: Setting) -> None:
        threshold_rps = setting["share_of_capacity"] * pool.capacity_rps
        self._rps = Lately(_KEDA_POLL_S)
        self._polled_rps = 0.0
        self._controller = HpaController(HpaTerms(pool.most), [ExternalMetric(threshold_rps)])

    def size(self, seen: Seen) -> int:
        """Divide what was polled last by the threshold."""
        rps = self._rps.add(seen.admitted_rps)
        if seen.now % _KEDA_POLL_S == 0.0:
            self._polled_rps = rps
        if seen.now % _HPA_PERIOD_S or self._polled_rps == 0.0:
            return seen.ready + seen.loading
        return self._controller.sync([self._polled_rps], seen.ready, seen.loading, seen.now)


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
