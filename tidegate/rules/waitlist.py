"""The waitlist's law: how many of each lane are called, fairly, and when a call is over."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tidegate.snapshot import (
    FeatureIntent,
    GatePart,
    Lane,
    TierPolicy,
    WaitlistIntent,
    WaitlistPart,
)

AS_OF_LATE_S: Final = 300.0
"""Time constant of the mean pace that is told as a lane's `calls_per_s`."""
_LONGEST_STEP_S: Final = 5.0
"""A controller that was away calls nobody for the time that it missed."""
_MOVES_A_WINDOW: Final = 60
"""Calls are remembered this finely; a claim window is at most a sixtieth longer than promised."""
_NOBODY: Final = 0.01
"""Below this share of the pace, a lane counts as one in which nobody is called."""


_NO_PACE: Final[Mapping[str, None]] = {"calls_per_s": None}


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


def why_stopped(feature: FeatureIntent, gate: GatePart | None, now: float) -> Stop | None:
    """Say why nobody may be called now; None where somebody may."""
    if feature.held_because is not None:
        return Stop(f"the feature is on hold: {feature.held_because}", by_people=True)
    signups = feature.signups
    if signups.state == "suspended" and not (signups.cohorts or signups.share):
        return Stop("sign-ups are suspended", by_people=True)
    pool = f"pool {feature.pool}"
    if gate is None or now > gate.expires_at:
        return Stop(f"{pool}: nothing is heard of its gate", by_people=False)
    if gate.stale:
        return Stop(f"{pool} is not reopened: {gate.reason}", by_people=False)
    if gate.ceilings and not any(gate.ceilings.values()):
        return Stop(f"{pool} is {gate.state}: {gate.reason}", by_people=False)
    return None


def shares(waiting: Mapping[str, int], ceilings: Mapping[str, float]) -> dict[str, float]:
    """Deal the pace to the lanes in which somebody waits, the best-ranked given first.

    Each lane weighs twice the next, so that a better tier is served faster and the lowest is
    never starved; what a lane does not need goes to the others. A lane moves only as far as the
    gate lets its tier in.
    """
    lined = [tier for tier, count in waiting.items() if count]
    weights = {tier: 2.0 ** (len(lined) - 1 - place) for place, tier in enumerate(lined)}
    whole = sum(weights.values())
    return {tier: weight / whole * ceilings.get(tier, 1.0) for tier, weight in weights.items()}


def step(
    last: WaitlistPart,
    seen: Mapping[str, Seen],
    pace: WaitlistIntent,
    gate: Mapping[str, float] | Stop,
    now: float,
) -> WaitlistPart:
    """Move a waitlist on to `now` (seconds since the epoch); versions are left to the writer.

    `seen` is by tier, the best-ranked first; `gate` is the ceiling of each tier, or why nobody is
    called. What those who were called and did not come left free is called again when their claim
    window is over.
    """
    dt_s = min(max(0.0, now - last.issued_at), _LONGEST_STEP_S)
    window_s = pace.claim_window_s
    over = [called for at, called in last.moves if at <= now - window_s]
    expired = over[-1] if over else {}
    heard = {
        tier: _hear(last.lanes.get(tier, Lane()), each, expired.get(tier, 0))
        for tier, each in seen.items()
    }
    lined = {tier: lane.waiting for tier, (lane, _) in heard.items()}
    dealt = {} if isinstance(gate, Stop) else shares(lined, gate)
    lanes = {
        tier: _call(lane, pace, dealt.get(tier, 0.0), missed, dt_s)
        for tier, (lane, missed) in heard.items()
    }
    if isinstance(gate, Stop) and gate.by_people:
        lanes = {tier: lane.model_copy(update=_NO_PACE) for tier, lane in lanes.items()}
    kept = tuple(move for move in last.moves if move[0] > now - window_s)
    return last.model_copy(
        update={
            "issued_at": now,
            "lanes": lanes,
            "moves": _moved(kept, lanes, now, window_s),
            "stopped_because": gate.reason if isinstance(gate, Stop) else None,
        }
    )


def skip_to(lane: Lane, start: int) -> Lane:
    """Go on at a number, after a loss: those from what was given out to below it are nobody's."""
    if start <= lane.issued_below:
        return lane
    gap = (lane.issued_below, start)
    return lane.model_copy(update={"issued_below": start, "gaps": (*lane.gaps, gap)})


def called_until(part: WaitlistPart, tier: str, number: int, pace: WaitlistIntent) -> float:
    """Return until when somebody who was called may come, in seconds since the epoch.

    0 for a call that is too long ago to be remembered.
    """
    calls = (at + pace.claim_window_s for at, called in part.moves if called.get(tier, 0) > number)
    return next(calls, 0.0)


def _hear(lane: Lane, seen: Seen, expired_below: int) -> tuple[Lane, int]:
    """Take in what was observed; also returns how many calls expired with nobody coming."""
    expired_below = max(lane.expired_below, min(expired_below, lane.called_below))
    expired = lane.waiters(lane.expired_below, expired_below)
    # Who came is counted, not known: the first called count as the first to come, which is right
    # in sum.
    came = lane.came + seen.came
    heard = lane.model_copy(
        update={
            "issued_below": max(lane.issued_below, seen.issued_below),
            "expired_below": expired_below,
            "came": max(0, came - expired),
            "gaps": tuple(gap for gap in lane.gaps if gap[1] > expired_below),
        }
    )
    return heard, max(0, expired - came)


def _call(lane: Lane, pace: WaitlistIntent, share: float, missed: int, dt_s: float) -> Lane:
    """Call as many of a lane as are due by now."""
    if not lane.waiting:
        return lane.model_copy(update={"credit": 0.0})
    earned = pace.calls_per_s * share * dt_s
    credit = lane.credit + earned + missed
    count = min(math.floor(credit), lane.waiting) if share > 0.0 else 0
    return lane.model_copy(
        update={
            "called_below": _after(lane, count),
            "credit": credit - count,
            "calls_per_s": _mean(lane.calls_per_s, pace.calls_per_s, share, count, dt_s),
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
    recent: float | None, calls_per_s: float, share: float, count: int, dt_s: float
) -> float | None:
    if recent is None:
        return calls_per_s * share or None
    if dt_s <= 0.0:
        return recent
    mean = recent + (count / dt_s - recent) * (1.0 - math.exp(-dt_s / AS_OF_LATE_S))
    return mean if mean > _NOBODY * calls_per_s else None


def _moved(
    moves: tuple[tuple[float, Mapping[str, int]], ...],
    lanes: Mapping[str, Lane],
    now: float,
    window_s: float,
) -> tuple[tuple[float, Mapping[str, int]], ...]:
    called = {tier: lane.called_below for tier, lane in lanes.items()}
    if moves and moves[-1][1] == called:
        return moves
    # A move is told with the latest instant that it may stand for, so that no window is cut short.
    if len(moves) > 1 and now - moves[-2][0] < window_s / _MOVES_A_WINDOW:
        moves = moves[:-1]
    return (*moves, (now, called))
