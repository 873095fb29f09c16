"""Traces of both forms, cut to their busiest hours, scaled, and dealt to tiers."""

import csv
import gzip
import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.replay.engine import capacity_rps

TIERS: Final = ("pro", "plus", "free")
"""The best-ranked first; `plus` stands for Plus and Team."""
_UP_TO: Final = (0.05, 0.30, 1.0)
_COLUMN: Final = {
    ("client", "start_s", "rate_rps", "cv"): "clients",
    ("arrival_s", "input_tokens", "output_tokens"): "requests",
}
PEAK_REPLICAS: Final = 120
"""Full replicas that the busiest window (10 minutes of clients, one of requests) needs."""
_WINDOW_S: Final = 600
_INPUT: Final = 1155.0
_OUTPUT: Final = 211.0
"""Mean tokens of a request where the trace has no sizes."""
_JITTER_S: Final = 10.0
"""A request that is multiplied comes again within so many seconds."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace as read: one row for each client and window, or for each request."""

    at_s: Floats
    tier: NDArray[np.int64]
    """Of each client's row; requests are dealt one by one."""
    rate_rps: Floats
    cv: Floats
    input_tokens: Floats
    output_tokens: Floats
    of_clients: bool
    hours: float

    def within(self, from_h: float, hours: float) -> Self:
        """Cut to some hours; instants begin anew at zero."""
        begin, end = from_h * 3600.0, (from_h + hours) * 3600.0
        kept = (self.at_s >= begin) & (self.at_s < end)
        if not kept.any():
            raise SystemExit(
                f"--from: got {from_h:g} h, expected less than {self.hours:g} h, the trace's "
                "length. Give an hour inside it."
            )
        return replace(
            self,
            at_s=self.at_s[kept] - begin,
            tier=self.tier[kept],
            rate_rps=self.rate_rps[kept],
            cv=self.cv[kept],
            input_tokens=self.input_tokens[kept],
            output_tokens=self.output_tokens[kept],
            hours=min(hours, self.hours - from_h),
        )

    def busiest(self, hours: float = 24.0) -> Self:
        """Cut to the busiest hours, by the hour; all of a shorter one."""
        if self.hours <= hours:
            return self
        weight = self.rate_rps if self.of_clients else np.ones(len(self.at_s))
        by_hour = np.bincount((self.at_s // 3600).astype(int), weight)
        sums = np.convolve(by_hour, np.ones(int(hours)), "valid")
        return self.within(float(sums.argmax()), hours)


@dataclass(frozen=True, slots=True)
class Day:
    """Arrivals in each second, by tier, and the mean tokens of a request then."""

    arrivals: Floats
    """Of TIERS, by seconds."""
    input_tokens: Floats
    output_tokens: Floats

    @property
    def seconds(self) -> int:
        """Length."""
        return len(self.input_tokens)

    @property
    def total(self) -> Floats:
        """Arrivals in each second, over all tiers."""
        return np.asarray(self.arrivals.sum(axis=0))


def read_trace(path: Path) -> Trace:
    """Read either form, zipped or not."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        rows = csv.reader(lines)
        header = tuple(next(rows, ()))
        form = _COLUMN.get(header)
        if form is None:
            expected = " or ".join(",".join(each) for each in _COLUMN)
            raise SystemExit(
                f"{path.name}: got the columns {','.join(header)!r}, expected {expected}. "
                "Write one of these headers over the columns."
            )
        return _read_clients(path, rows) if form == "clients" else _read_requests(path, rows)


def _read_clients(path: Path, rows: Iterable[list[str]]) -> Trace:
    read = list(rows)
    numbers = _numbers(path, (row[1:] for row in read))
    tier = np.array([_dealt(row[0]) for row in read])
    at_s, rate_rps, cv = numbers.T
    sizes = np.full(len(read), _INPUT), np.full(len(read), _OUTPUT)
    hours = (at_s.max() + _WINDOW_S) / 3600.0
    return Trace(at_s, tier, rate_rps, cv, *sizes, of_clients=True, hours=hours)


def _read_requests(path: Path, rows: Iterable[list[str]]) -> Trace:
    at_s, input_tokens, output_tokens = _numbers(path, rows).T
    none = np.zeros(len(at_s))
    hours = (at_s.max() + 1.0) / 3600.0
    return Trace(
        at_s,
        none.astype(int),
        none,
        none,
        input_tokens,
        output_tokens,
        of_clients=False,
        hours=hours,
    )


def _numbers(path: Path, rows: Iterable[list[str]]) -> Floats:
    try:
        numbers = np.array([[float(each) for each in row] for row in rows])
    except ValueError as error:
        raise SystemExit(f"{path.name}: {error}. Write a number in each column.") from error
    if numbers.ndim != 2 or not np.isfinite(numbers).all() or (numbers < 0.0).any():  # noqa: PLR2004 - rows and columns
        raise SystemExit(f"{path.name}: expected rows of three numbers, none below zero.")
    return numbers


def _dealt(client: str) -> int:
    """Deal a client to a tier by a hash: 5 % Pro, 25 % Plus and Team, 70 % Free."""
    digest = hashlib.blake2b(client.encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2.0**64
    return next(tier for tier, up_to in enumerate(_UP_TO) if place < up_to)


def draw_day(trace: Trace, seed: int) -> Day:
    """Draw the arrivals of a trace, scaled so that its peak needs PEAK_REPLICAS."""
    rng = np.random.default_rng([seed, 6])
    return _of_clients(trace, rng) if trace.of_clients else _of_requests(trace, rng)


def _of_clients(trace: Trace, rng: np.random.Generator) -> Day:
    window = (trace.at_s // _WINDOW_S).astype(int)
    peak_rps = np.bincount(window, trace.rate_rps).max()
    scale = PEAK_REPLICAS * capacity_rps(_INPUT, _OUTPUT) / peak_rps
    seconds = (int(window.max()) + 1) * _WINDOW_S
    arrivals = np.zeros((len(TIERS), seconds))
    for at_s, tier, rate_rps, cv in zip(
        trace.at_s, trace.tier, trace.rate_rps * scale, trace.cv, strict=True
    ):
        if rate_rps > 0.0:
            begin = int(at_s // _WINDOW_S) * _WINDOW_S
            came = _renewals(rng, rate_rps, max(cv, 1e-3)).astype(int)
            arrivals[tier, begin : begin + _WINDOW_S] += np.bincount(came, minlength=_WINDOW_S)
    return Day(arrivals, np.full(seconds, _INPUT), np.full(seconds, _OUTPUT))


def _renewals(rng: np.random.Generator, rate_rps: float, cv: float) -> Floats:
    """Draw one window of a gamma renewal process in equilibrium.

    The first gap is the rest of one already begun, U · Gamma(k + 1): were it a whole one, a
    process of a large cv would arrive (cv² − 1) / 2 times too often.
    """
    shape = cv**-2.0
    scale_s = 1.0 / (rate_rps * shape)
    expected = rate_rps * _WINDOW_S
    at_s = rng.uniform() * rng.gamma(shape + 1.0, scale_s)
    parts: list[Floats] = []
    while at_s < _WINDOW_S:
        gaps = rng.gamma(shape, scale_s, int(expected + 2.0 * cv * math.sqrt(expected)) + 16)
        came = at_s + np.concatenate(([0.0], np.cumsum(gaps)))
        parts.append(came[:-1])
        at_s = float(came[-1])
    every = np.concatenate(parts) if parts else np.zeros(0)
    return np.asarray(every[every < _WINDOW_S])


def _of_requests(trace: Trace, rng: np.random.Generator) -> Day:
    by_minute = np.bincount((trace.at_s // 60.0).astype(int))
    mean_in, mean_out = float(trace.input_tokens.mean()), float(trace.output_tokens.mean())
    copies = PEAK_REPLICAS * capacity_rps(mean_in, mean_out) / (by_minute.max() / 60.0)
    times = rng.poisson(copies, len(trace.at_s))
    number = np.repeat(np.arange(len(times)), times)
    second = (trace.at_s[number] + rng.uniform(0.0, _JITTER_S, len(number))).astype(int)
    seconds = int(second.max()) + 1
    tier = np.searchsorted(_UP_TO, rng.uniform(size=len(number)), side="right")
    arrivals = np.stack([np.bincount(second[tier == each], minlength=seconds) for each in range(3)])
    total = arrivals.sum(axis=0)

    def lately(tokens: Floats) -> Floats:
        minute = np.ones(60)
        summed = np.convolve(np.bincount(second, tokens[number], seconds), minute)[:seconds]
        return np.asarray(summed / np.maximum(1.0, np.convolve(total, minute)[:seconds]))

    sizes = lately(trace.input_tokens), lately(trace.output_tokens)
    return Day(arrivals.astype(float), *(np.maximum(1.0, each) for each in sizes))


def seeds_of(trace: Trace, count: int) -> Iterator[Day]:
    """Draw the day of each seed, from 0 on."""
    return (draw_day(trace, seed) for seed in range(count))
