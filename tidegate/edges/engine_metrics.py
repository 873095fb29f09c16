"""Inference engines' own metrics, read over HTTP in Prometheus' text format."""

import math
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Final, Self

import aiohttp
import msgspec
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tidegate.errors import Unavailable
from tidegate.readings import EngineReading

_DEADLINE_S: Final = 0.8
_REPLICAS_REMEMBERED: Final = 4_096


class EngineSeries(msgspec.Struct, frozen=True, dict=True, forbid_unknown_fields=True):
    """What one engine calls its series, as in engines.toml."""

    model: str | None = None
    version: str | None = None
    running: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    kv_cache_use: tuple[str, ...] = ()
    requests_total: tuple[str, ...] = ()
    tokens_total: tuple[str, ...] = ()
    wait_sum: tuple[str, ...] = ()
    wait_count: tuple[str, ...] = ()
    wait_unit_s: float = 1.0

    @cached_property
    def names(self) -> frozenset[str]:
        """All of them."""
        counts = self.requests_total + self.tokens_total + self.wait_sum + self.wait_count
        return frozenset(self.running + self.waiting + self.kv_cache_use + counts)


def load_engines() -> dict[str, EngineSeries]:
    """Read what engines call their series, by engine."""
    told = tomllib.loads(Path(__file__).with_name("engines.toml").read_text(encoding="utf-8"))
    return msgspec.convert(told, dict[str, EngineSeries])


@dataclass(frozen=True, slots=True)
class EngineTarget:
    """One replica to ask, and where: `address` as in `http://10.0.0.7:8000`."""

    pool: str
    replica: str
    address: str
    gpu: int | None = None


_Version = tuple[str, str]
"""A model and its version, each empty where the engine does not say."""


@dataclass(frozen=True, slots=True)
class _Waits:
    """The queue waits since the engine's start."""

    sum_s: float
    count: float


class EngineMetrics:
    """Asks engines for their metrics, with a deadline of 0.8 s each.

    It remembers the waits that each version last told, so that a wait is the mean of what
    happened since the last time it asked.
    """

    def __init__(self, engines: Mapping[str, EngineSeries] | None = None) -> None:
        self._engines = load_engines() if engines is None else engines
        self._prefixes = tuple(sorted(set().union(*(e.names for e in self._engines.values()))))
        self._session: aiohttp.ClientSession | None = None
        self._waits: dict[tuple[str, ...], _Waits] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def scrape(self, target: EngineTarget) -> tuple[EngineReading, ...]:
        """Ask one engine; returns one reading for each version of a model that it serves.

        A series that it lacks is None, and so is the wait at the first time. Raises Unavailable
        when it does not answer in time or answers something else.
        """
        text = await self._fetch(f"{target.address}/metrics", target.replica)
        try:
            samples = _read_samples(text, self._prefixes)
        except ValueError as error:
            raise Unavailable(
                f'replica "{target.replica}": {target.address}/metrics is not in Prometheus\' '
                f"text format, {error}. Is it an inference engine?",
                code="engine_unreadable",
            ) from error
        told = {sample.name for sample in samples}
        for series in self._engines.values():
            if not told.isdisjoint(series.names):
                by_version = _by_version(samples, series)
                return tuple(
                    self._reading(target, version, series, values)
                    for version, values in sorted(by_version.items())
                )
        return (EngineReading(pool=target.pool, replica=target.replica, gpu=target.gpu),)

    def _reading(
        self,
        target: EngineTarget,
        version: _Version,
        series: EngineSeries,
        values: Mapping[str, list[float]],
    ) -> EngineReading:
        model, number = version
        # By address as well: the same name may come back as another process.
        key = (target.replica, target.address, *version)
        return EngineReading(
            pool=target.pool,
            replica=target.replica,
            gpu=target.gpu,
            model=model or None,
            version=number or None,
            running=_first(values, series.running),
            waiting=_first(values, series.waiting),
            kv_cache_use=_first(values, series.kv_cache_use, max),
            requests_total=_first(values, series.requests_total),
            tokens_total=_first(values, series.tokens_total),
            queue_wait_s=self._mean_wait_s(key, series, values),
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

    def _mean_wait_s(
        self, key: tuple[str, ...], series: EngineSeries, values: Mapping[str, list[float]]
    ) -> float | None:
        told = _first(values, series.wait_sum)
        count = _first(values, series.wait_count)
        if told is None or count is None:
            return None
        before = self._waits.pop(key, None)
        self._waits[key] = now = _Waits(told * series.wait_unit_s, count)
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


def _read_samples(text: str, prefixes: tuple[str, ...]) -> list[Sample]:
    """Return the samples that have a number, and whose names begin with one of these.

    An engine tells hundreds, once a second; reading all of them would cost most of the agent.
    """
    wanted = [line for line in text.splitlines() if line.startswith(prefixes)]
    families = text_string_to_metric_families("\n".join(wanted) + "\n" if wanted else text)
    return [
        sample
        for family in families
        for sample in family.samples
        if not math.isnan(sample.value) and sample.name.startswith(prefixes)
    ]


def _by_version(
    samples: Iterable[Sample], series: EngineSeries
) -> dict[_Version, dict[str, list[float]]]:
    """Return every series' values by version and name, one for each set of other labels."""
    found: dict[_Version, dict[str, list[float]]] = {}
    for sample in samples:
        version = (
            sample.labels.get(series.model or "", ""),
            sample.labels.get(series.version or "", ""),
        )
        values = found.setdefault(version, {})
        values.setdefault(sample.name, []).append(float(sample.value))
    return found


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
