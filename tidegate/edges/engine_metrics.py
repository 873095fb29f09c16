"""Inference engines' own metrics, read over HTTP in Prometheus' text format."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Self

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tidegate.errors import Unavailable
from tidegate.readings import EngineReading

_DEADLINE_S: Final = 0.8
_REPLICAS_REMEMBERED: Final = 4_096


@dataclass(frozen=True, slots=True)
class EngineSeries:
    """What one engine calls its series; of several names, the first that is there counts."""

    running: tuple[str, ...]
    waiting: tuple[str, ...]
    kv_cache_use: tuple[str, ...]
    requests_total: tuple[str, ...]
    tokens_total: tuple[str, ...]
    queue_wait_s: tuple[str, ...]
    """A histogram, without `_sum` and `_count`."""


VLLM: Final = EngineSeries(
    running=("vllm:num_requests_running",),
    waiting=("vllm:num_requests_waiting",),
    # Until 0.10 it was named after the GPU.
    kv_cache_use=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    requests_total=("vllm:request_success_total",),
    tokens_total=("vllm:generation_tokens_total",),
    queue_wait_s=("vllm:request_queue_time_seconds",),
)


@dataclass(frozen=True, slots=True)
class EngineTarget:
    """One replica to ask, and where: `address` as in `http://10.0.0.7:8000`."""

    pool: str
    replica: str
    address: str
    gpu: int | None = None


@dataclass(frozen=True, slots=True)
class _Waits:
    """A histogram of queue waits since the engine's start."""

    sum_s: float
    count: float


class EngineMetrics:
    """Asks engines for their metrics, with a deadline of 0.8 s each.

    It remembers each replica's last queue-wait histogram, so that a wait is the mean of what
    happened since the last time it asked.
    """

    def __init__(self, series: EngineSeries = VLLM) -> None:
        self._series = series
        self._session: aiohttp.ClientSession | None = None
        self._waits: dict[tuple[str, str], _Waits] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def scrape(self, target: EngineTarget) -> EngineReading:
        """Ask one engine; a series that it lacks is None, and so is the wait at the first time.

        Raises Unavailable when it does not answer in time or answers something else.
        """
        text = await self._fetch(f"{target.address}/metrics", target.replica)
        try:
            values = _read_samples(text)
        except ValueError as error:
            raise Unavailable(
                f'replica "{target.replica}": {target.address}/metrics is not in Prometheus\' '
                f"text format, {error}. Is it an inference engine?",
                code="engine_unreadable",
            ) from error
        use = _first(values, self._series.kv_cache_use, max)
        return EngineReading(
            pool=target.pool,
            replica=target.replica,
            gpu=target.gpu,
            running=_first(values, self._series.running),
            waiting=_first(values, self._series.waiting),
            kv_cache_use=use,
            requests_total=_first(values, self._series.requests_total),
            tokens_total=_first(values, self._series.tokens_total),
            queue_wait_s=self._mean_wait_s(target, values),
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _fetch(self, url: str, replica: str) -> str:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=_DEADLINE_S)
            self._session = aiohttp.ClientSession(timeout=timeout)
        try:
            async with self._session.get(url) as answer:
                if answer.status == HTTPStatus.OK:
                    return await answer.text()
                problem = f"answered {answer.status}"
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(
                f'replica "{replica}": {url} got no answer within {_DEADLINE_S:g} s '
                f"({type(error).__name__}). Check that pod.",
                code="engine_unavailable",
            ) from error
        raise Unavailable(
            f'replica "{replica}": {url} {problem}, expected 200. Check that pod.',
            code="engine_unavailable",
        )

    def _mean_wait_s(self, target: EngineTarget, values: Mapping[str, list[float]]) -> float | None:
        series = self._series.queue_wait_s
        sum_s = _first(values, [f"{name}_sum" for name in series])
        count = _first(values, [f"{name}_count" for name in series])
        if sum_s is None or count is None:
            return None
        # By address as well: the same name may come back as another process.
        key = (target.replica, target.address)
        before = self._waits.pop(key, None)
        self._waits[key] = now = _Waits(sum_s, count)
        if len(self._waits) > _REPLICAS_REMEMBERED:
            self._waits.pop(next(iter(self._waits)))
        return None if before is None else _mean_between(before, now)


def _mean_between(before: _Waits, now: _Waits) -> float | None:
    """Return the mean wait of the requests between two readings, None when there was none."""
    if now.count < before.count or now.sum_s < before.sum_s:
        # The engine began anew, so all that it has counted is new.
        before = _Waits(0.0, 0.0)
    requests = now.count - before.count
    return (now.sum_s - before.sum_s) / requests if requests > 0 else None


def _read_samples(text: str) -> dict[str, list[float]]:
    """Return every series' values by name, one for each set of labels; NaN is left out."""
    values: dict[str, list[float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            value = float(sample.value)
            if not math.isnan(value):
                values.setdefault(sample.name, []).append(value)
    return values


def _first(
    values: Mapping[str, list[float]],
    names: Iterable[str],
    combine: Callable[[Iterable[float]], float] = sum,
) -> float | None:
    """Combine the values of the first name that is there; an engine may report by label."""
    for name in names:
        if name in values:
            return combine(values[name])
    return None
