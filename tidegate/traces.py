"""Traces: demand that was measured once, as rates in windows, to be played or replayed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Final

from tidegate.errors import PlanError
from tidegate.shapes import Shape
from tidegate.tracerows import WINDOW_S, RequestRow, WindowRow, read_rows

_REQUEST_BIN_S: Final = 60.0
_FEWEST_BINS: Final = 10


@dataclass(frozen=True)
class Window:
    """A part of a trace, in seconds from the trace's start."""

    from_s: float
    to_s: float

    @property
    def length_s(self) -> float:
        """How long the part is."""
        return self.to_s - self.from_s


@dataclass(frozen=True)
class Trace:
    """Measured demand over all clients: one rate for each bin of `bin_s` seconds.

    `dispersions` hold each bin's squared coefficient of variation of the gaps (1.0 is Poisson);
    `work_sigma` is the spread of the requests' work as a log-normal's sigma, None where the
    trace does not say.
    """

    name: str
    bin_s: float
    rates_rps: tuple[float, ...]
    dispersions: tuple[float, ...]
    work_sigma: float | None = None

    @property
    def span_s(self) -> float:
        """How long the trace is, in seconds."""
        return self.bin_s * len(self.rates_rps)

    @property
    def peak_rps(self) -> float:
        """The highest rate of any bin."""
        return max(self.rates_rps)

    def mean_rps(self, from_s: float = 0.0, to_s: float = math.inf) -> float:
        """Return the mean rate of a part, cut to the trace; 0.0 where nothing is left of it."""
        parts = self._parts(from_s, min(to_s, self.span_s))
        length_s = sum(end_s - start_s for start_s, end_s, _ in parts)
        area = sum((end_s - start_s) * self.rates_rps[i] for start_s, end_s, i in parts)
        return area / length_s if length_s else 0.0

    def cv(self, window: Window) -> float:
        """Return the gaps' coefficient of variation in a part, over all clients together.

        The counts of independent clients add up, and so do their variances: the squared cv of
        the whole is the mean of the squared cvs, weighted by rate (exact in the long run).
        """
        parts = self._parts(window.from_s, window.to_s)
        weights = [(end_s - start_s) * self.rates_rps[i] for start_s, end_s, i in parts]
        spread = sum(w * self.dispersions[i] for w, (_, _, i) in zip(weights, parts, strict=True))
        return math.sqrt(spread / sum(weights)) if any(weights) else 1.0

    def busiest_window(self, length_s: float) -> Window:
        """Return the part of this length with the most demand; the whole trace if it is shorter.

        Parts start at a bin's start, and one ends at the trace's end; the earliest of equals.
        """
        if length_s >= self.span_s:
            return Window(0.0, self.span_s)
        total = [0.0, *accumulate(self.rates_rps)]

        def demand_until(t_s: float) -> float:
            i = min(int(t_s / self.bin_s), len(self.rates_rps) - 1)
            return total[i] + self.rates_rps[i] * (t_s / self.bin_s - i)

        last_s = self.span_s - length_s
        starts_s = [i * self.bin_s for i in range(int(last_s / self.bin_s) + 1)]
        start_s = max(
            [*starts_s, last_s],
            key=lambda from_s: demand_until(from_s + length_s) - demand_until(from_s),
        )
        return Window(start_s, start_s + length_s)

    def shape(self, window: Window, *, speed: float = 1.0) -> Shape:
        """Return a part's demand over its mean, `speed` times as fast, from 0 s on.

        The knots are the middles of the bins, so that demand moves in lines and not in steps.
        """
        parts = self._parts(window.from_s, window.to_s)
        middles = [((start_s + end_s) / 2.0, self.rates_rps[i]) for start_s, end_s, i in parts]
        first, last = (window.from_s, middles[0][1]), (window.to_s, middles[-1][1])
        return Shape.normalised(
            ((t_s - window.from_s) / speed, rate_rps) for t_s, rate_rps in (first, *middles, last)
        )

    def _parts(self, from_s: float, to_s: float) -> list[tuple[float, float, int]]:
        """Cut a part into (start, end, bin), leaving out slivers that only rounding makes."""
        first = max(0, int(from_s / self.bin_s))
        after = min(len(self.rates_rps), math.ceil(to_s / self.bin_s))
        cuts = (
            (max(from_s, i * self.bin_s), min(to_s, (i + 1) * self.bin_s), i)
            for i in range(first, after)
        )
        return [cut for cut in cuts if cut[1] - cut[0] > self.bin_s * 1e-9]


def read_trace(file: Path) -> Trace:
    """Read a trace from a `.csv` or `.csv.gz` file in one of the two documented forms.

    Raises PlanError (code `trace`) that tells up to 20 mistakes at once.
    """
    rows = read_rows(file)
    windows = [row for row in rows if isinstance(row, WindowRow)]
    requests = [row for row in rows if isinstance(row, RequestRow)]
    trace = _from_windows(file.name, windows) if windows else _from_requests(file, requests)
    if trace.peak_rps == 0.0:
        message = f"{file}: got no demand in any window, expected some. Choose another trace."
        raise PlanError(message, code="trace")
    return trace


def _from_windows(name: str, rows: Sequence[WindowRow]) -> Trace:
    count = 1 + max(int(row.start_s / WINDOW_S) for row in rows)
    rates_rps, spreads = [0.0] * count, [0.0] * count
    for row in rows:
        i = int(row.start_s / WINDOW_S)
        rates_rps[i] += row.rate_rps
        spreads[i] += row.rate_rps * row.cv**2
    dispersions = (s / r if r else 1.0 for s, r in zip(spreads, rates_rps, strict=True))
    return Trace(name, WINDOW_S, tuple(rates_rps), tuple(dispersions))


def _from_requests(file: Path, rows: Sequence[RequestRow]) -> Trace:
    first_s, span_s = rows[0].arrival_s, rows[-1].arrival_s - rows[0].arrival_s
    if span_s == 0.0:
        message = (
            f'{file}: column "arrival_s": got one instant, expected requests over some time. '
            "Add requests."
        )
        raise PlanError(message, code="trace")
    count = max(_FEWEST_BINS, int(span_s / _REQUEST_BIN_S))
    bin_s = span_s / count
    bins = [min(int((row.arrival_s - first_s) / bin_s), count - 1) for row in rows]
    rates_rps = [0.0] * count
    for i in bins:
        rates_rps[i] += 1.0 / bin_s
    # Each gap is measured against the rate around it, so that the day's rise is not a burst.
    gaps = [
        (later.arrival_s - earlier.arrival_s) * rates_rps[i]
        for (earlier, later), i in zip(pairwise(rows), bins, strict=False)
    ]
    dispersion = _squared_cv(gaps)
    tokens = [float(row.output_tokens) for row in rows]
    # A log-normal with the work's mean and variance; output tokens are what occupies a GPU.
    sigma = math.sqrt(math.log1p(_squared_cv(tokens))) if any(tokens) else None
    return Trace(file.name, bin_s, tuple(rates_rps), (dispersion,) * count, sigma)


def _squared_cv(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / len(values) / mean**2
