"""Forecasts of when numbers are called, each held against when they were."""

from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final

from tidegate.rules.waiting import KINDS, Lateness, Wait, expected_wait, kind_of, late_of, lateness
from tidegate.snapshot import Lane, PoolIntent, WaitlistIntent, WaitlistPart

EVERY_S: Final = 30.0
_PER_WAIT: Final = 30
"""While waits are long, about so many forecasts are under way at once."""
_PLACES: Final = (1.0, 0.3, 0.05)
"""In turn it is asked for the lane's last number, and for some further to the front."""
_REMEMBERED: Final = 60
_UNDER_WAY: Final = 200


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is told of one number; `wait` is None where it is unknown."""

    number: int
    ahead: int
    wait: Wait | None
    made_at: float


@dataclass(frozen=True, slots=True, order=True)
class _Open:
    number: int
    made_at: float
    promised_s: float | None
    """What the lane's pace alone promised."""
    kind: int
    forecast: Forecast


class Probes:
    """One lane's forecasts; what came true corrects the next ones."""

    def __init__(self, lane: Lane) -> None:
        self._late: list[Lateness] = [late_of(lane, kind) for kind in range(KINDS)]
        self._open: list[_Open] = []
        self._ratios = [deque[float](maxlen=_REMEMBERED) for _ in range(KINDS)]
        self._made_at = float("-inf")
        self._every_s = EVERY_S
        self._made = 0

    def close(self, called_below: int, now: float) -> list[Forecast]:
        """Return the forecasts whose number was called by now."""
        done = []
        while self._open and self._open[0].number < called_below:
            probe = heappop(self._open)
            done.append(probe.forecast)
            if probe.promised_s is not None:
                self._ratios[probe.kind].append((now - probe.made_at) / probe.promised_s)
        return done

    def make(
        self, part: WaitlistPart, tier: str, pace: WaitlistIntent, pool: PoolIntent | None
    ) -> Forecast | None:
        """Return another forecast where one is due: more often where waits are short."""
        now, lane = part.issued_at, part.lanes[tier]
        # A clock that was set back makes one due as well.
        is_due = not 0.0 <= now - self._made_at < self._every_s
        if not (lane.waiting and is_due) or len(self._open) >= _UNDER_WAY:
            return None
        length = lane.issued_below - lane.called_below
        number = lane.called_below + int((length - 1) * _PLACES[self._made % len(_PLACES)])
        ahead = lane.waiters(lane.called_below, number)
        forecast = Forecast(number, ahead, expected_wait(part, tier, ahead, pace, pool), now)
        promised_s = None if lane.calls_per_s is None else (ahead + 1) / lane.calls_per_s
        kind = kind_of(promised_s or 0.0, is_stopped=part.stopped_because is not None)
        heappush(self._open, _Open(number, now, promised_s, kind, forecast))
        whole = expected_wait(part, tier, lane.waiting, pace, pool)
        self._made_at = now
        self._every_s = max(EVERY_S, whole.p50_s / _PER_WAIT if whole else 0.0)
        self._made += 1
        return forecast

    def late(self, now: float) -> tuple[Lateness, ...]:
        """Return how many times what the pace promises a wait takes, by kind."""
        waited: list[list[float]] = [[] for _ in range(KINDS)]
        for probe in self._open:
            if probe.promised_s is not None:
                waited[probe.kind].append((now - probe.made_at) / probe.promised_s)
        for kind in range(KINDS):
            judged = lateness(self._ratios[kind], waited[kind])
            self._late[kind] = judged or self._late[kind]
        return tuple(self._late)
