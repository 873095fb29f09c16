"""One run of a day: arrivals, gate, queue and engines as a fluid, a second at a time.

Scalars in a plain loop, because each second follows from the one before. What can be told
afterwards (waits, attainment, times per token) is told from the sums, with numpy, in `scoring`.
"""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from benchmarks.replay.engine import (
    DECODE_BASE_S,
    DECODE_EACH_S,
    PATIENCE_S,
    PREFILL_SHARE,
    PREFILL_TPS,
    slots,
)
from benchmarks.replay.fleet import Fleet
from benchmarks.replay.traces import Day, Floats

START_S: Final = 600
"""So many seconds are run and not scored."""
_START_FACTOR: Final = 1.1
_PATIENCE: Final = int(PATIENCE_S)


@dataclass(slots=True)
class Seen:
    """What a contestant can know at a second: rates of the second before, and counts."""

    now: float = 0.0
    offered_rps: float = 0.0
    """Admitted and refused, those who came back included."""
    offered_free_rps: float = 0.0
    """As above, of Free alone."""
    admitted_free_rps: float = 0.0
    admitted_rps: float = 0.0
    first_free_rps: float = 0.0
    """Of Free, who asks for the first time: nobody can tell them from the others but by place."""
    ceiling: float = 1.0
    """Share of Free that the gate lets in."""
    retry_after_s: float = 1.0
    """What those refused are told."""
    running: float = 0.0
    waiting: float = 0.0
    wait_s: float = 0.0
    """Of who comes last into the queue, at the rate at which it empties."""
    slots: float = 0.0
    """Sequences that one replica can run."""
    input_tokens: float = 1.0
    output_tokens: float = 1.0
    """Of a request, as the mean of the last minute."""
    ready: int = 0
    loading: int = 0
    draining: int = 0

    @property
    def use(self) -> float:
        """Share of the slots that run, over those that serve: KV-cache use and utilisation."""
        return self.running / max(1.0, self.slots * (self.ready + self.draining))


class Sizer(Protocol):
    """Asked each second; answers with the replicas to have booked."""

    def size(self, seen: Seen) -> int:
        """Return how many."""
        ...


class Gate(Protocol):
    """Asked each second, in front of the queue."""

    @property
    def retry_after_s(self) -> float:
        """Seconds after which the refused come back."""
        ...

    def ceiling(self, seen: Seen) -> float:
        """Return the share of Free that is let in."""
        ...


@dataclass(frozen=True, slots=True)
class Course:
    """What happened in each second of a run."""

    admitted: Floats
    """By tier, of those who came for the first time."""
    came_back: Floats
    """Free, let in at the second try."""
    refused: Floats
    left_queue: Floats
    """Cumulative: started or given up."""
    speed_tps: Floats
    """Tokens a second of one sequence."""
    replicas: Floats
    bookings: int
    billed_s: float


def first_replicas(day: Day, capacity_rps: float) -> int:
    """Everybody begins with 1.1 × the largest minute of the first ten, ready."""
    minutes = day.total[:START_S].reshape(-1, 60).sum(axis=1) / 60.0
    return int(np.ceil(_START_FACTOR * minutes.max() / capacity_rps))


def run_fluid(day: Day, fleet: Fleet, sizer: Sizer, gate: Gate | None, most: int) -> Course:
    """Run a day; never more than `most` replicas are booked at once."""
    state = _Fluid(day, gate)
    for second in range(day.seconds):
        fleet.advance(float(second))
        state.seen.ready, state.seen.loading = fleet.ready, fleet.loading
        state.seen.draining = fleet.draining
        state.step(second)
        wanted = min(most, max(1, sizer.size(state.seen)))
        if wanted != fleet.ready + fleet.loading:
            fleet.scale(wanted, float(second))
    return state.course(fleet)


class _Fluid:
    """The state between two seconds."""

    def __init__(self, day: Day, gate: Gate | None) -> None:
        self.seen = Seen()
        self._gate = gate
        self._paid: list[float] = (day.arrivals[0] + day.arrivals[1]).tolist()
        self._free: list[float] = day.arrivals[2].tolist()
        self._input: list[float] = day.input_tokens.tolist()
        self._output: list[float] = day.output_tokens.tolist()
        count = day.seconds
        self._arrivals = day.arrivals
        self._came_back = [0.0] * count
        self._returning = [0.0] * (count + 1)
        """Differences: who was refused returns evenly between one and one and a half times
        `Retry-After` later."""
        self._returning_to = [0.0] * (count + 1)
        """As above, each times the ceiling at which it was refused."""
        self._return_rate = self._return_rate_to = 0.0
        self._share = [1.0] * count
        self._refused = [0.0] * count
        self._entered = [0.0] * count
        self._left = [0.0] * count
        self._speed = [0.0] * count
        self._replicas = [0] * count
        self._running = self._queue = self._sum_in = self._sum_left = 0.0

    def step(self, t: int) -> None:
        """Let a second pass."""
        came = self._let_in(t)
        self._queue += came
        self._sum_in += came
        self._entered[t] = self._sum_in
        self._serve(t)
        seen = self.seen
        seen.now = t + 1.0
        seen.admitted_rps = came
        seen.offered_rps = came + self._refused[t]
        seen.ceiling = self._share[t]
        seen.retry_after_s = 1.0 if self._gate is None else self._gate.retry_after_s
        seen.first_free_rps = self._free[t]
        seen.offered_free_rps = seen.offered_rps - self._paid[t]
        seen.admitted_free_rps = came - self._paid[t]
        seen.running, seen.waiting = self._running, self._queue
        self._replicas[t] = seen.ready

    def _let_in(self, t: int) -> float:
        self._return_rate += self._returning[t]
        self._return_rate_to += self._returning_to[t]
        back = max(0.0, self._return_rate)
        share = 1.0 if self._gate is None else self._gate.ceiling(self.seen)
        let_back = 1.0
        if share < 1.0:
            # Places stand still: whoever comes back gets in where the ceiling has passed it.
            before = self._return_rate_to / back if back > 1e-9 else 0.0  # noqa: PLR2004 - rounding
            let_back = max(0.0, share - before) / max(1e-9, 1.0 - before)
            refused = self._free[t] * (1.0 - share)
            self._send_away(refused, share, t)
            self._refused[t] = refused + back * (1.0 - let_back)
            self._share[t] = share
        self._came_back[t] = back * let_back
        return self._paid[t] + self._free[t] * share + back * let_back

    def _send_away(self, refused: float, share: float, t: int) -> None:
        after_s = self._gate.retry_after_s if self._gate is not None else 1.0
        begin, end = t + max(1, round(after_s)), t + max(2, round(1.5 * after_s) + 1)
        if end < len(self._share):
            each = refused / (end - begin)
            self._returning[begin] += each
            self._returning[end] -= each
            self._returning_to[begin] += each * share
            self._returning_to[end] -= each * share

    def _serve(self, t: int) -> None:
        seen = self.seen
        ready, draining = seen.ready, seen.draining
        serving = ready + draining or 1
        each = slots(self._input[t], self._output[t])
        seen.slots = each
        seen.input_tokens, seen.output_tokens = self._input[t], self._output[t]
        free = max(0.0, ready * each - self._running * ready / serving)
        prefill = PREFILL_TPS * ready / self._input[t]
        started = min(self._queue, free, PREFILL_SHARE * prefill)
        share = started / prefill if ready else 0.0
        batch = (self._running + started) / serving
        speed = (1.0 - share) / (DECODE_BASE_S + DECODE_EACH_S * batch)
        # Those who run finish as they fade: at a rate of speed over the mean of their tokens.
        self._running += started
        self._running -= self._running * min(1.0, speed / self._output[t])
        self._queue -= started
        self._sum_left += started
        seen.wait_s = self._queue / started if started > 0.0 else PATIENCE_S * (self._queue > 0.0)
        if t >= _PATIENCE and self._queue > 0.0:
            gave_up = max(0.0, self._entered[t - _PATIENCE] - self._sum_left)
            self._queue -= gave_up
            self._sum_left += gave_up
        self._left[t] = self._sum_left
        self._speed[t] = speed

    def course(self, fleet: Fleet) -> Course:
        """Gather what happened."""
        admitted = self._arrivals.copy()
        admitted[2] *= np.array(self._share)
        return Course(
            admitted=admitted,
            came_back=np.array(self._came_back),
            refused=np.array(self._refused),
            left_queue=np.array(self._left),
            speed_tps=np.array(self._speed),
            replicas=np.array(self._replicas, dtype=float),
            bookings=fleet.bookings,
            billed_s=fleet.end(float(len(self._share))),
        )
