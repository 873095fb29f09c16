"""How long somebody waits: as a range, corrected by how late earlier ranges came true."""

import math
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from tidegate.rules.waitlist import called_until, shares
from tidegate.snapshot import DateRange, Lane, PoolIntent, WaitlistIntent, WaitlistPart

JUDGED_BY: Final = 10
"""So many forecasts must have come true before they correct the next ones."""
_LENGTHS_S: Final = (60.0, 600.0, 3600.0)
KINDS: Final = 2 * (len(_LENGTHS_S) + 1)
"""Kinds of wait: by length, and whether somebody was being called when it began."""
_AT_FIRST: Final = (1.0, 3.0)
_FORESEEN_S: Final = 10 * 365.25 * 86_400.0
"""Nobody is told a wait that is longer than this."""
_CLIPPED: Final = (0.1, 30.0)

Lateness = tuple[float, float]
"""How many times its forecast a wait took: half of them at most, and nine in ten at most."""


class Standing(StrEnum):
    """What a ticket is good for."""

    WAITING = "waiting"
    CALLED = "called"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a number stands in its lane."""

    standing: Standing
    ahead: int = 0
    """How many may be called before it."""
    until: float | None = None
    """Once called: until when to come, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Wait:
    """How long from now, in seconds: as likely as not at most `p50_s`, nine in ten `p90_s`."""

    p50_s: float
    p90_s: float

    def as_dates(self, now: float) -> DateRange:
        """Return when that is."""
        return DateRange(
            p50=datetime.fromtimestamp(now + self.p50_s, UTC),
            p90=datetime.fromtimestamp(now + self.p90_s, UTC),
        )


def place_of(part: WaitlistPart, tier: str, number: int, now: float) -> Place:
    """Say where a number stands at `now` (seconds since the epoch)."""
    lane = part.lanes.get(tier, Lane())
    if number >= lane.called_below:
        return Place(Standing.WAITING, ahead=lane.waiters(lane.called_below, number))
    if number < lane.expired_below:
        return Place(Standing.EXPIRED)
    until = called_until(part, tier, number)
    if now >= until:
        return Place(Standing.EXPIRED, until=until)
    return Place(Standing.CALLED, until=until)


def expected_wait(
    part: WaitlistPart,
    tier: str,
    ahead: int,
    pace: WaitlistIntent,
    pool: PoolIntent | None,
) -> Wait | None:
    """Return how long somebody with so many ahead waits from `part.issued_at`; None if unknown.

    The sooner of two ways: at the lane's pace as of late, and from when the pool grows at the
    pace that is meant. Both are stretched by how late earlier forecasts came true.
    """
    lane = part.lanes.get(tier, Lane())
    is_stopped = part.stopped_because is not None
    ways = []
    if lane.calls_per_s is not None:
        ways.append(_stretched((ahead + 1) / lane.calls_per_s, lane, is_stopped=is_stopped))
    grows = None if pool is None else _until_it_grows(pool, part.issued_at)
    if grows is not None:
        everybody = {name: each.waiting for name, each in part.lanes.items()} | {tier: ahead + 1}
        meant_per_s = pace.calls_per_s * shares(everybody)[tier]
        drain = _stretched((ahead + 1) / meant_per_s, lane, is_stopped=False)
        ways.append(Wait(grows.p50_s + drain.p50_s, grows.p90_s + drain.p90_s))
    p50_s = min((way.p50_s for way in ways), default=math.inf)
    if p50_s > _FORESEEN_S:
        return None
    return Wait(p50_s, min(_FORESEEN_S, *(way.p90_s for way in ways)))


def _until_it_grows(pool: PoolIntent, now: float) -> Wait | None:
    if pool.may_grow:
        return Wait(pool.cold_start_p50_s, pool.cold_start_p90_s)
    if pool.grows is None or pool.grows.p90.timestamp() < now:
        return None
    return Wait(max(0.0, pool.grows.p50.timestamp() - now), pool.grows.p90.timestamp() - now)


def kind_of(promised_s: float, *, is_stopped: bool) -> int:
    """Number the kind of a wait, which forecasts of the same kind correct: 0 to below `KINDS`.

    A short wait may end at once or last until a gate opens; a long one averages over many gates.
    """
    return bisect(_LENGTHS_S, promised_s) + (KINDS // 2 if is_stopped else 0)


def lateness(came_true: Sequence[float], still_open: Sequence[float]) -> Lateness | None:
    """Return how late waits of one kind are; None until enough of them came true.

    `came_true` holds the ratio of what was waited to what the pace promised, `still_open` the
    ratio that is reached already. The quantiles are those of split conformal prediction (Vovk et
    al., 2005): with n ratios the ⌈(n + 1)·q⌉-th smallest, so that a new one is at most that with
    probability q or more, as long as it is drawn like the others.
    """
    if len(came_true) < JUDGED_BY:
        return None
    # A wait that is longer already than most took would be missing until it is over, and with it
    # the news that the lane has slowed down.
    longest = _quantile(sorted(came_true), 0.5)
    ratios = sorted([*came_true, *(ratio for ratio in still_open if ratio > longest)])
    least, most = _CLIPPED
    p50 = min(max(_quantile(ratios, 0.5), least), most)
    return p50, min(max(_quantile(ratios, 0.9), p50), most)


def late_of(lane: Lane, kind: int) -> Lateness:
    """Return how late waits of a kind are in this lane."""
    return lane.late[kind] if kind < len(lane.late) else _AT_FIRST


def _stretched(promised_s: float, lane: Lane, *, is_stopped: bool) -> Wait:
    p50, p90 = late_of(lane, kind_of(promised_s, is_stopped=is_stopped))
    return Wait(promised_s * p50, promised_s * p90)


def _quantile(ordered: Sequence[float], q: float) -> float:
    return ordered[min(len(ordered), math.ceil((len(ordered) + 1) * q)) - 1]
