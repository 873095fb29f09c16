"""A bound on what any schedule costs: a linear programme over windows of 1 to 60 s.

It keeps of the engine what holds for any schedule, so that each run is one of its points, at the
same cost or less. For each window, as means or sums: replicas that serve or drain (R, and r in its
first second), those that become ready (u) and that end (v) until the next window's first second,
starts (s), ends (f), the batch (m, and b at its start), sequences that are forgiven (d), Free and
paid requests that attain (x, y) and how many of them have still to start at its end (k).

- Ends: f · output ≤ αR + βm − γ · s · input / PREFILL_TPS, for some β. An engine that spends a
  share φ of its time on prefill puts out (1 − φ) · m / (DECODE_BASE_S + DECODE_EACH_S · m); each
  plane is above that for every φ up to PREFILL_SHARE and every m up to the slots. Draining engines
  spend it too, so that φR ≥ s · input / PREFILL_TPS. What holds each second holds in the mean.
- Stock: b₊₁ = b + s − f − d; b ≤ slots · r, m ≤ slots · R, m ≤ b + s and m ≤ b₊₁ + f + d. Where a
  drain has ended, the batches of those left may be above their slots. Nothing starts until they
  are below, and they end no more than their excess and what a full engine does; so b may count
  them as full, when d ≤ slots · v are forgiven. Slots also fall as sizes grow, but are taken to
  fall no faster than sequences end while nothing starts.
- Starts: x + y + k₋₁ − k ≤ s. Who attains has started within 5 s (Free) or 2 s (paid). There is
  one queue: where a share of those who pay attains, as much of the Free who came in the same
  second has started in 2 s as well; so after 2 s k holds at most the share that missed.
- Prefill: s · input / PREFILL_TPS ≤ PREFILL_SHARE · R, also with the R of a minute later: who
  starts somebody has not been removed, and will drain for a minute or live at the end.
- R is at least r − v and at most r + u, less the second for which each is there or is not, and at
  least all who became ready within 300 s, who are billed.
- x and y hold the constraints; an hour in 24 is excused, in parts if that is cheaper.

Cost is Σ R and the cold starts. Whoever is booked once scoring has begun takes draws that follow
one another in the list: K of them sum to more than each of some lines, wherever in the list they
begin. Who is ready so early that they may have been booked before is charged the shortest draw, or
the time since.
"""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from benchmarks.replay.engine import (
    DECODE_BASE_S,
    DECODE_EACH_S,
    DRAIN_S,
    PREFILL_SHARE,
    PREFILL_TPS,
    slots,
)
from benchmarks.replay.fleet import MIN_BILLED_S
from benchmarks.replay.fluid import START_S
from benchmarks.replay.rows import HOUR_S, Rows
from benchmarks.replay.traces import Day, Floats

_WINDOWS_S: Final = (1, 2, 3, 5, 10, 15, 20, 30, 60)
"""What a window may be: a part of a minute, so that hours are whole windows."""
MOST_WINDOWS: Final = 1500
"""The windows are the shortest that make no more, or a minute."""
_PAID_S: Final = 2
_FREE_S: Final = 5
"""Longest wait that attains."""
_TANGENTS: Final = (1.0, 1.6, 2.6, 5.0)
"""Planes, as multiples of what a sequence more adds to the pace of a full engine in prefill."""
_SLOPES: Final = (0.7, 0.8, 0.85, 0.9, 0.93, 0.96, 0.98, 1.0)
"""Lines below the sums of draws, as shares of their mean."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Shares that must attain."""

    paid: float
    free: float
    free_hour: float


@dataclass(frozen=True, slots=True)
class Programme:
    """Its solution, by window from the first second that is scored."""

    gpu_hours: float
    window_s: int
    replicas: Floats


@dataclass(frozen=True, slots=True)
class Plant:
    """What serves: a full replica's rate and slots, the list of cold starts, and the cap."""

    capacity_rps: float
    slots: float
    cold_starts: list[float]
    most: int


def solve(
    day: Day, plant: Plant, wanted: Wanted, *, windows: int = MOST_WINDOWS, removal_s: float = 0.0
) -> Programme | None:
    """Solve the programme; None where nothing holds the constraints.

    With a price in seconds on each removal it bounds nothing, but is a better plan to follow.
    """
    of = _Windows.of(day, windows)
    rows = _engine(of)
    _must_hold(rows, wanted, of)
    _price_cold_starts(rows, of, plant.cold_starts)
    rows.cost(_R, float(of.window_s))
    rows.cost(_V, removal_s)
    found = _minimise(rows, of, plant)
    if found is None:
        return None
    least, x = found
    return Programme(least / 3600.0, of.window_s, x[: of.count])


def most_free_served(day: Day, plant: Plant, paid: float) -> float | None:
    """Bound the Free requests a second that attain under the plant's cap, whatever that costs.

    Nobody is removed: what batches above their slots serve more for a moment is left out.
    """
    of = _Windows.of(day, MOST_WINDOWS)
    rows = _engine(of)
    _must_hold(rows, Wanted(paid, 0.0, 0.0), of)
    rows.one(0.0, rows.of(_V), np.ones(of.count))
    rows.cost(_X, -1.0)
    found = _minimise(rows, of, plant)
    return None if found is None else -found[0] / (of.count * of.window_s)


@dataclass(frozen=True, slots=True)
class _Windows:
    """What arrives in each window that is scored, at its smallest sizes."""

    window_s: int
    count: int
    hours: int
    free: Floats
    paid: Floats
    last: Floats
    """Who may attain and start after the window's end, by the tiers' own limits."""
    last_of_all: Floats
    """As above, where all who pay attain."""
    free_each_paid: Floats
    """In the second where it is most."""
    prefill_s: Floats
    """Of a request."""
    output: Floats
    slots: Floats

    @classmethod
    def of(cls, day: Day, windows: int) -> Self:
        """Sum a day's arrivals."""
        window_s = next((s for s in _WINDOWS_S if day.seconds - START_S <= s * windows), 60)
        count = (day.seconds - START_S) // window_s
        end = START_S + count * window_s

        def by_window(of_seconds: Floats) -> Floats:
            return of_seconds[START_S:end].reshape(count, window_s)

        def lately(of_seconds: Floats, seconds: int) -> Floats:
            sums = np.convolve(of_seconds, np.ones(seconds))[: day.seconds]
            return by_window(sums)[:, -1]

        free, paid = day.arrivals[2], day.arrivals[:2].sum(axis=0)
        each = np.where(paid > 0.0, free / np.maximum(paid, 1e-9), 0.0)
        alone = np.where(paid > 0.0, 0.0, free)
        input_, output = (by_window(s).min(axis=1) for s in (day.input_tokens, day.output_tokens))
        longest = by_window(day.output_tokens).max(axis=1)
        return cls(
            window_s=window_s,
            count=count,
            hours=-(-end // HOUR_S),
            free=by_window(free).sum(axis=1),
            paid=by_window(paid).sum(axis=1),
            last=lately(free, _FREE_S) + lately(paid, _PAID_S),
            last_of_all=lately(free + paid, _PAID_S)
            + lately(alone, _FREE_S)
            - lately(alone, _PAID_S),
            free_each_paid=by_window(each).max(axis=1),
            prefill_s=input_ / PREFILL_TPS,
            output=output,
            slots=_falling(np.array([*map(slots, input_, output)]), longest),
        )

    def at(self, window: int) -> float:
        """Return when a window begins, in seconds of the day."""
        return float(START_S + window * self.window_s)


def _falling(each: Floats, longest: Floats) -> Floats:
    """Return the slots, falling by no more than what ends within a second at least."""
    fallen = each.copy()
    for window in range(1, len(each)):
        before = fallen[window - 1]
        iteration_s = DECODE_BASE_S + DECODE_EACH_S * before
        ends = (1.0 - PREFILL_SHARE) / (longest[window - 1] * iteration_s)
        fallen[window] = max(each[window], before * (1.0 - min(1.0, ends)))
    return fallen


_KINDS: Final = 13
_R, _R0, _U, _ALL, _V, _S, _F, _B, _M, _D, _X, _Y, _K = range(_KINDS)


def _minimise(rows: Rows, of: _Windows, plant: Plant) -> tuple[float, Floats] | None:
    upper = np.full(rows.columns, np.inf)
    for kind in (_R, _R0):
        upper[rows.of(kind)] = float(plant.most)
    upper[rows.of(_X)], upper[rows.of(_Y)] = of.free, of.paid
    upper[rows.of(_K)] = of.last
    upper[rows.others_at : -1] = 1.0
    return rows.minimise(np.zeros(rows.columns), upper)


def _engine(of: _Windows) -> Rows:
    rows = Rows(_KINDS, of.count, of.hours + 1)
    _have_replicas(rows, of.window_s)
    _work(rows, of)
    _start(rows, of)
    return rows


def _have_replicas(rows: Rows, window_s: int) -> None:
    later = np.append(np.ones(rows.windows - 1), 0.0)
    rows.each(0.0, (_R0, 0, later), (_U, 0, later), (_V, 0, -later), (_R0, 1, -1.0), equal=True)
    rest = 1.0 - 1.0 / window_s  # whoever comes or goes has been there, or not, for a second
    rows.each(0.0, (_R, 0, 1.0), (_R0, 0, -1.0), (_U, 0, -rest))
    rows.each(0.0, (_R, 0, -1.0), (_R0, 0, 1.0), (_V, 0, -rest))
    rows.each(0.0, (_ALL, 0, 1.0), (_ALL, -1, -1.0), (_U, 0, -1.0), equal=True)
    # Ready within a window, so billed through as many whole ones as follow within 300 s.
    least = int(MIN_BILLED_S) // window_s
    rows.each(0.0, (_ALL, -1, 1.0), (_ALL, -least, -1.0), (_R, 0, -1.0))


def _work(rows: Rows, of: _Windows) -> None:
    """Have sequences begin, run and end."""
    later = np.append(np.ones(rows.windows - 1), 0.0)
    flow = ((_B, 0, later), (_S, 0, later), (_F, 0, -later), (_D, 0, -later))
    rows.each(0.0, *flow, (_B, 1, -1.0), equal=True)
    # Nobody need end after the last window; but whoever runs then is in a slot.
    end = 1.0 - later
    flow = ((_B, 0, end), (_S, 0, end), (_F, 0, -end), (_D, 0, -end))
    rows.each(0.0, *flow, (_R0, 0, -end * of.slots), (_U, 0, -end * of.slots))
    rows.each(0.0, (_D, 0, 1.0), (_V, 0, -of.slots))
    rows.each(0.0, (_B, 0, 1.0), (_R0, 0, -of.slots))
    rows.each(0.0, (_M, 0, 1.0), (_R, 0, -of.slots))
    rows.each(0.0, (_M, 0, 1.0), (_B, 0, -1.0), (_S, 0, -1.0))
    if of.window_s > 1:  # otherwise it is the same
        rows.each(0.0, (_M, 0, later), (_B, 1, -1.0), (_F, 0, -later), (_D, 0, -later))
    least = _pace_of_one_more(of.slots) * (1.0 - PREFILL_SHARE)
    for times in _TANGENTS:
        of_batch = least * times
        idle = _most_over(1.0, of_batch, of.slots)
        busy = _most_over(1.0 - PREFILL_SHARE, of_batch, of.slots)
        of_start = (idle - busy) / PREFILL_SHARE * of.prefill_s / of.window_s
        ends = (_F, 0, of.output / of.window_s)
        rows.each(0.0, ends, (_S, 0, of_start), (_R, 0, -idle), (_M, 0, -of_batch))


def _pace_of_one_more(batch: Floats) -> Floats:
    """Return the tokens a second that one sequence more adds to a batch."""
    return np.asarray(DECODE_BASE_S / (DECODE_BASE_S + DECODE_EACH_S * batch) ** 2)


def _most_over(share: float, of_batch: Floats, most: Floats) -> Floats:
    """Return by how much a share of the pace is above a line through nothing, where it is most."""
    where = (np.sqrt(share * DECODE_BASE_S / of_batch) - DECODE_BASE_S) / DECODE_EACH_S
    batch = np.clip(where, 0.0, most)
    return np.asarray(share * batch / (DECODE_BASE_S + DECODE_EACH_S * batch) - of_batch * batch)


def _start(rows: Rows, of: _Windows) -> None:
    """Have who attains start in time, by somebody who stays for a minute."""
    rows.each(0.0, (_X, 0, 1.0), (_Y, 0, 1.0), (_K, -1, 1.0), (_K, 0, -1.0), (_S, 0, -1.0))
    lags = range(_PAID_S // of.window_s, (_FREE_S - 1) // of.window_s + 1)
    missed, limit = [], of.last_of_all.copy()
    for lag in lags:
        each = np.roll(of.free_each_paid, lag)
        missed.append((_Y, -lag, each))
        limit += each * np.roll(of.paid, lag)
    limit[: lags.stop - 1] = np.inf
    rows.each(np.minimum(limit, 1e9), (_K, 0, 1.0), *missed)
    share = of.prefill_s / of.window_s
    rows.each(0.0, (_S, 0, share), (_R, 0, -PREFILL_SHARE))
    ahead = int(DRAIN_S) // of.window_s - 1
    if ahead > 0:
        inside = np.arange(of.count) < of.count - ahead
        rows.each(0.0, (_S, 0, share * inside), (_R, ahead, -PREFILL_SHARE))
        for window in np.flatnonzero(~inside):
            at = np.array([_S * of.count + window, _R * of.count + of.count - 1])
            rows.one(0.0, at, np.array([share[window], -PREFILL_SHARE]))


def _must_hold(rows: Rows, wanted: Wanted, of: _Windows) -> None:
    rows.must_attain(_X, of.free, (wanted.free, wanted.free_hour), of.window_s)
    rows.one(-wanted.paid * of.paid.sum(), rows.of(_Y), -np.ones(of.count))


def _price_cold_starts(rows: Rows, of: _Windows, cold_starts: list[float]) -> None:
    """Charge cold starts, in seconds, by the last column."""
    since_s = np.arange(of.count) * float(of.window_s)
    early = since_s < max(cold_starts)
    rows.cost(_U, np.where(early, np.minimum(since_s, min(cold_starts)), 0.0))
    last = rows.columns - 1
    rows.costs[last] = 1.0
    of_late = rows.of(_U)[~early]
    for share in _SLOPES:
        slope = share * float(np.mean(cold_starts))
        values = np.append(np.full(len(of_late), slope), -1.0)
        rows.one(most_below(slope, cold_starts), np.append(of_late, last), values)


def most_below(slope: float, cold_starts: list[float]) -> float:
    """Return by how much draws that follow one another are below slope · their number, at most."""
    most = below = 0.0
    for drawn in (*cold_starts, *cold_starts):
        below = max(0.0, below + slope - drawn)
        most = max(most, below)
    return most
