"""The waitlist's law: how many of each lane are called, fairly, and when a call is over."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tidegate.snapshot import Lane, TierPolicy, WaitlistIntent, WaitlistPart

AS_OF_LATE_S: Final = 300.0
"""Time constant of the mean pace that is told as a lane's `calls_per_s`."""
REPLACED: Final = 3.0
"""At most so many are called for each that is due, in place of those who did not come."""
_LONGEST_STEP_S: Final = 5.0
"""A controller that was away calls nobody for the time that it missed."""
_MOVES_A_WINDOW: Final = 60
"""Calls are remembered this finely; a claim window is at most a sixtieth longer than promised."""
_NOBODY: Final = 0.01
"""Below this share of the pace, a lane counts as one in which nobody is called."""
_NO_PACE: Final[Mapping[str, None]] = {"calls_per_s": None}

Moves = tuple[tuple[float, Mapping[str, int]], ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """What was observed of one lane since the last step."""

    issued_below: int
    """Lower numbers may have been given out."""
    came: int = 0
    """How many of those called came."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Why nobody is called."""

    reason: str
    by_people: bool
    """Whether only people end it, so that nothing tells when."""


def lanes_of(tiers: Mapping[str, TierPolicy]) -> tuple[str, ...]:
    """Name the tiers that have a lane, the best-ranked first: no other is ever made to wait."""
    gated = sorted((policy.rank, name) for name, policy in tiers.items() if policy.gated)
    return tuple(name for _, name in gated)


def shares(waiting: Mapping[str, int]) -> dict[str, float]:
    """Deal the pace to the lanes in which somebody waits, the best-ranked given first.

    Each lane weighs twice the next, so that a better tier is served faster and the lowest is
    never starved.
    """
    lined = [tier for tier, count in waiting.items() if count]
    weights = {tier: 2.0 ** (len(lined) - 1 - place) for place, tier in enumerate(lined)}
    whole = sum(weights.values())
    return {tier: weight / whole for tier, weight in weights.items()}


def deal(calls: float, needs: Mapping[str, float]) -> dict[str, float]:
    """Deal so many calls to lanes that need so many, the best-ranked first.

    By their shares; what a lane does not need is dealt to the others in turn.
    """
    dealt = dict.fromkeys(needs, 0.0)
    open_needs = {tier: need for tier, need in needs.items() if need > 0.0}
    while open_needs:
        portions = {
            tier: calls * share for tier, share in shares(dict.fromkeys(open_needs, 1)).items()
        }
        filled = [tier for tier, portion in portions.items() if open_needs[tier] <= portion]
        if not filled:
            return dealt | portions
        for tier in filled:
            dealt[tier] = open_needs.pop(tier)
            calls -= dealt[tier]
    return dealt


def step(
    last: WaitlistPart,
    seen: Mapping[str, Seen],
    pace: WaitlistIntent,
    gate: Mapping[str, float] | Stop,
    now: float,
) -> WaitlistPart:
    """Move a waitlist on to `now` (seconds since the epoch); versions are left to the writer.

    `seen` is by tier, the best-ranked first; `gate` is how far each tier may be let in, 0 to 1, or
    why nobody is called. What those who were called and did not come left free is called again
    when their claim window is over.
    """
    dt_s = min(max(0.0, now - last.issued_at), _LONGEST_STEP_S)
    over = [called for until, called in last.moves if until <= now]
    expired = over[-1] if over else {}
    heard = {
        tier: _hear(last.lanes.get(tier, Lane()), each, expired.get(tier, 0))
        for tier, each in seen.items()
    }
    lanes = _lanes(heard, pace, gate, dt_s)
    kept = tuple(move for move in last.moves if move[0] > now)
    return last.model_copy(
        update={
            "issued_at": now,
            "lanes": lanes,
            "moves": _moved(kept, lanes, now + pace.claim_window_s, pace),
            "stopped_because": gate.reason if isinstance(gate, Stop) else None,
        }
    )


def _lanes(
    heard: Mapping[str, tuple[Lane, float]],
    pace: WaitlistIntent,
    gate: Mapping[str, float] | Stop,
    dt_s: float,
) -> dict[str, Lane]:
    ceilings: Mapping[str, float] = {} if isinstance(gate, Stop) else gate
    needs = {
        tier: max(1.0, lane.waiting - lane.credit)
        for tier, (lane, _) in heard.items()
        if lane.waiting and ceilings.get(tier)
    }
    due = deal(pace.calls_per_s * dt_s, needs)
    lanes = {}
    for tier, (lane, missed) in heard.items():
        earned = due.get(tier, 0.0) * ceilings.get(tier, 0.0)
        lanes[tier] = _call(lane, earned, missed, pace, dt_s)
    if isinstance(gate, Stop) and gate.by_people:
        return {tier: lane.model_copy(update=_NO_PACE) for tier, lane in lanes.items()}
    return lanes


def skip_to(lane: Lane, start: int) -> Lane:
    """Go on at a number, after a loss: those from what was given out to below it are nobody's."""
    if start <= lane.issued_below:
        return lane
    gap = (lane.issued_below, start)
    return lane.model_copy(update={"issued_below": start, "gaps": (*lane.gaps, gap)})


def called_until(part: WaitlistPart, tier: str, number: int) -> float:
    """Return until when somebody who was called may come, in seconds since the epoch.

    0 for a call that is too long ago to be remembered.
    """
    calls = (until for until, called in part.moves if called.get(tier, 0) > number)
    return next(calls, 0.0)


def _hear(lane: Lane, seen: Seen, expired_below: int) -> tuple[Lane, float]:
    """Take in what was observed; also returns how many are to be called in place of others."""
    expired_below = max(lane.expired_below, min(expired_below, lane.called_below))
    expired = lane.waiters(lane.expired_below, expired_below)
    # Who came is counted, not known: the first called count as the first to come, which is right
    # in sum; and one who shows a ticket again and again cannot stand for more than were called.
    outstanding = lane.waiters(lane.expired_below, lane.called_below)
    came = min(lane.came + seen.came, outstanding)
    heard = lane.model_copy(
        update={
            "issued_below": max(lane.issued_below, seen.issued_below),
            "expired_below": expired_below,
            "came": max(0, came - expired),
            "gaps": tuple(gap for gap in lane.gaps if gap[1] > expired_below),
        }
    )
    return heard, lane.missed + max(0, expired - came)


def _call(lane: Lane, earned: float, missed: float, pace: WaitlistIntent, dt_s: float) -> Lane:
    """Call as many of a lane as are due by now; what nobody waits for is not saved up."""
    if not lane.waiting:
        return lane.model_copy(update={"credit": 0.0, "missed": 0.0})
    replaced = min(missed, REPLACED * earned)
    credit = lane.credit + earned + replaced
    count = min(math.floor(credit), lane.waiting) if earned > 0.0 else 0
    return lane.model_copy(
        update={
            "called_below": _after(lane, count),
            "credit": credit - count if count < lane.waiting else 0.0,
            "missed": missed - replaced if earned > 0.0 else 0.0,
            "calls_per_s": _mean(lane.calls_per_s, pace, earned, count, dt_s),
        }
    )


def _after(lane: Lane, count: int) -> int:
    """Return where a lane stands once so many more are called; a gap costs none."""
    number = lane.called_below
    for start, end in sorted(lane.gaps):
        if end <= number:
            continue
        before = max(0, start - number)
        if before > count:
            break
        count -= before
        number = end
    return number + count


def _mean(
    recent: float | None, pace: WaitlistIntent, earned: float, count: int, dt_s: float
) -> float | None:
    if dt_s <= 0.0:
        return recent
    if recent is None:
        return earned / dt_s or None
    mean = recent + (count / dt_s - recent) * (1.0 - math.exp(-dt_s / AS_OF_LATE_S))
    return mean if mean > _NOBODY * pace.calls_per_s else None


def _moved(moves: Moves, lanes: Mapping[str, Lane], until: float, pace: WaitlistIntent) -> Moves:
    called = {tier: lane.called_below for tier, lane in lanes.items()}
    if moves and moves[-1][1] == called:
        return moves
    # A move is told with the latest instant that it may stand for, so that no window is cut short.
    if len(moves) > 1 and until - moves[-2][0] < pace.claim_window_s / _MOVES_A_WINDOW:
        moves = moves[:-1]
    return (*moves, (until, called))
