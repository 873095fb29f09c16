"""The gate law: how far a pool's gate is open, narrowed for the lowest tier first."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from tidegate.readings import Freshness, Reading
from tidegate.snapshot import GatePart, GateState, PoolIntent, TierPolicy

ENTER_PRESSURE: Final = 1.0
"""At or above this the gate tightens."""
EXIT_PRESSURE: Final = 0.8
"""Below this it relaxes; between the two it stays as it is."""
TIGHTEN_FASTER: Final = 5.0
"""Tightening is so many times as fast as relaxing."""
RELAX_STEP: Final = 0.06
"""Tiers' worth of gate opened for each actuation lag, where the pressure alone is known."""
FITTED_RELAX_STEP: Final = 0.2
"""As above, where it is known what fits: a step that ends there may be long."""
FULL: Final = 0.97
"""KV-cache use at which replicas count as full."""
FILL_GAIN: Final = 3.0
"""Capacities' worth of room for each whole cache that is free: what fills it, in residence times
of a request, is let in within a third of one beside what leaves."""
OFFERED_OVER: Final = 10
"""Readings of what is offered, one a tick, whose mean is held against the room: what a single
second is offered is chance for the most part, and a gate that followed it would let those back in
whom it has just refused."""
QUEUE_FULL_S: Final = 1.0
"""Where requests queue for so long an engine is full, whatever its cache says."""
QUEUE_DRAIN_S: Final = 5.0
"""Room is left for a queue to be worked off within this time."""


class Move(StrEnum):
    """What a tick did to the gate."""

    STARTED = "started"
    TIGHTENED = "tightened"
    RELAXED = "relaxed"
    OPENED = "opened"
    HELD = "held"
    STAYED = "stayed"


@dataclass(frozen=True, slots=True)
class Pressure:
    """How hard a pool is pressed: the worst of its readings, each over its own limit."""

    worst: float | None
    by: str
    missing: tuple[Reading, ...]
    """Required readings that are stale or absent."""
    fitting: float | None = None
    """Openness at which what is offered fits what is free; None where it cannot be told."""
    age_s: float = 0.0
    """Of the oldest reading that is fresh."""

    @property
    def relax_step(self) -> float:
        """Tiers' worth of gate that may be opened for each actuation lag."""
        return RELAX_STEP if self.fitting is None else FITTED_RELAX_STEP


@dataclass(frozen=True, slots=True)
class Room:
    """What a pool could take: rates in requests a second, the cache's use as a share."""

    capacity_rps: float | None
    """Of the replicas that serve; None where none is heard."""
    kv_cache_use: Reading
    queue_wait: Reading
    offered_rps: Mapping[str, float] | None
    """By tier, admitted and refused, as the mean of the last OFFERED_OVER readings; None where
    it is not known."""


@dataclass(frozen=True, slots=True)
class GateDecision:
    """Where the gate stands from now on, and why."""

    move: Move
    state: GateState
    stale: bool
    openness: float
    ceilings: Mapping[str, float]
    moved_at: float
    pressure: Pressure
    reason: str
    retry_after_s: float


def weigh(readings: Iterable[tuple[Reading, float]], required: Iterable[str]) -> Pressure:
    """Find the worst of readings, each given with the limit at which it presses fully.

    A reading that is not fresh presses nothing; where it is required it is named in `missing`,
    and the gate may not reopen; so is a required one that was not given at all.
    """
    read = list(readings)
    needed = tuple(required)
    given = {reading.name for reading, _ in read}
    never_read = tuple(Reading(name, None, None, 0.0) for name in needed if name not in given)
    missing = tuple(r for r, _ in read if r.name in needed and r.freshness is not Freshness.FRESH)
    pressures = [
        (value / limit, reading.name)
        for reading, limit in read
        if (value := reading.fresh_value) is not None
    ]
    worst, by = max(pressures, default=(None, "nothing"))
    age_s = max((r.age_s or 0.0 for r, _ in read if r.freshness is Freshness.FRESH), default=0.0)
    return Pressure(worst, by, (*missing, *never_read), age_s=age_s)


def fit(pressure: Pressure, room: Room, tiers: Mapping[str, TierPolicy]) -> Pressure:
    """Add the openness at which a pool's offered demand fits: feed-forward beside the pressure.

    Nothing is added where a reading that this needs is not fresh.
    """
    use, wait_s = room.kv_cache_use.fresh_value, room.queue_wait.fresh_value
    if not room.capacity_rps or use is None or wait_s is None or room.offered_rps is None:
        return pressure
    left_rps = room.capacity_rps * share_of_room(use, wait_s)
    return replace(pressure, fitting=fitting_openness(left_rps, room.offered_rps, tiers))


def mean_by_tier(recent: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each tier that the newest reading names, over those that name it.

    A tier that a reading does not name was not known to it, which is not the same as no demand.
    """
    means: dict[str, float] = {}
    for name in recent[-1] if recent else ():
        known = [each[name] for each in recent if name in each]
        means[name] = sum(known) / len(known)
    return means


def share_of_room(kv_cache_use: float, queue_wait_s: float) -> float:
    """Tell what may be let in, in capacities: more while caches fill, less while requests queue.

    So stock is held, and not rate alone; a short queue may also be that prefill is behind.
    """
    spare = FULL - kv_cache_use
    if spare > 0.0:
        spare *= max(0.0, 1.0 - queue_wait_s / QUEUE_FULL_S)
    return 1.0 + FILL_GAIN * spare - queue_wait_s / QUEUE_DRAIN_S


def fitting_openness(
    left_rps: float, offered_rps: Mapping[str, float], tiers: Mapping[str, TierPolicy]
) -> float:
    """Share `left_rps` out: tiers that are not gated take theirs first, the gated ones by rank."""
    gated = _gated(tiers)
    left_rps -= sum(rps for tier, rps in offered_rps.items() if tier not in gated)
    openness = 0.0
    for name in gated:
        of_tier_rps = offered_rps.get(name, 0.0)
        if left_rps <= 0.0:
            return openness
        if of_tier_rps > left_rps:
            return openness + left_rps / of_tier_rps
        openness += 1.0
        left_rps -= of_tier_rps
    return openness


def derive_ceilings(openness: float, tiers: Mapping[str, TierPolicy]) -> dict[str, float]:
    """Share let in of each gated tier; the best-ranked are filled first.

    Monotone by construction: a lower tier is open at all only where every higher one is open
    whole, and a tier that is not gated has no ceiling.
    """
    return {name: min(1.0, max(0.0, openness - i)) for i, name in enumerate(_gated(tiers))}


def ceiling_in_force(
    tier: str, published: Mapping[str, float], safe_share: float, tiers: Mapping[str, TierPolicy]
) -> float:
    """Read the share of a gated tier that is let in, whoever wrote what is published.

    Never more than of a better-ranked tier. A tier that the gate does not know yet is let in like
    the next better one; the best-ranked like the next lower one, and up to the safe share.
    """
    ranked = _gated(tiers)
    above = ranked[: ranked.index(tier) + 1]
    known = [_share(published[name]) for name in above if name in published]
    if known:
        return min(known)
    below = [_share(published[name]) for name in ranked[len(above) :] if name in published]
    return max([_share(safe_share), *below[:1]])


def better_gated(tier: str, tiers: Mapping[str, TierPolicy]) -> tuple[str, ...]:
    """Name the gated tiers that are narrowed after this gated one."""
    ranked = _gated(tiers)
    return tuple(ranked[: ranked.index(tier)])


def _share(number: float) -> float:
    """Clip what should be a share; what is no number lets nobody in."""
    return min(number, 1.0) if number > 0.0 else 0.0


def _gated(tiers: Mapping[str, TierPolicy]) -> list[str]:
    """Name the gated tiers, the best-ranked first."""
    ranked = sorted((policy.rank, name) for name, policy in tiers.items() if policy.gated)
    return [name for _, name in ranked]


def decide_gate(
    pressure: Pressure,
    last: GatePart | None,
    tiers: Mapping[str, TierPolicy],
    pool: PoolIntent,
    now: float,
) -> GateDecision:
    """Move a pool's gate by at most one step at `now` (seconds since the epoch).

    Where it is known at which openness the demand fits, no step goes beyond that, but for a queue
    that is too long. One step for each actuation lag, so that the effect of a step is seen before
    the next, and none further open on readings from before the last step; a gate that nobody
    remembers begins at the safe share of the lowest tier.
    """
    widest = widest_openness(tiers)
    before = None if last is None else _carry_over(last, tiers)
    step = _step(pressure, before, pool, widest, now)
    ceilings = derive_ceilings(step.openness, tiers)
    steps_left = (widest - step.openness) / pressure.relax_step
    return GateDecision(
        move=step.move,
        state=_state(step, widest, ceilings, before),
        stale=bool(pressure.missing),
        openness=step.openness,
        ceilings=ceilings,
        moved_at=last.moved_at if last is not None and step.move in _AT_REST else now,
        pressure=pressure,
        reason=step.reason,
        retry_after_s=max(1.0, steps_left * pool.actuation_lag_s / 2.0),
    )


def widest_openness(tiers: Mapping[str, TierPolicy]) -> float:
    """Openness at which every gated tier is open whole: their number."""
    return float(sum(policy.gated for policy in tiers.values()))


def _carry_over(last: GatePart, tiers: Mapping[str, TierPolicy]) -> GatePart:
    """Read a gate's openness against the tiers of today, so that a changed catalogue opens none.

    Openness counts tiers: where one was added or dropped, the same number would mean another
    share of each. A tier that the gate did not know yet was not held back by it.
    """
    if derive_ceilings(last.openness, tiers) == dict(last.ceilings):
        return last
    openness = 0.0
    for name in _gated(tiers):
        ceiling = last.ceilings.get(name, 1.0)
        openness += ceiling
        if ceiling < 1.0:
            break
    return last.model_copy(update={"openness": openness})


_FITTED: Final = frozenset({"kv_cache_use", "demand"})
"""Readings that `fit` accounts for."""
_AT_REST: Final = frozenset({Move.STAYED, Move.HELD})


@dataclass(frozen=True, slots=True)
class _Step:
    move: Move
    openness: float
    reason: str


def _step(
    pressure: Pressure, last: GatePart | None, pool: PoolIntent, widest: float, now: float
) -> _Step:
    if last is None:
        safe = max(0.0, widest - 1.0 + pool.safe_share)
        return _Step(Move.STARTED, safe, "nobody remembers this gate: it begins at the safe share")
    stayed = _Step(Move.STAYED, last.openness, last.reason)
    worst, fitting, openness = pressure.worst, pressure.fitting, last.openness
    settling = now - last.moved_at < pool.actuation_lag_s
    # Use and rate are in what fits already, and closer than their levels tell.
    is_fitted = fitting is not None and pressure.by in _FITTED
    is_pressed = worst is not None and worst >= ENTER_PRESSURE and not is_fitted
    is_between = worst is not None and worst >= EXIT_PRESSURE
    too_wide = is_between and fitting is not None and fitting < openness
    if (is_pressed or too_wide) and openness > 0.0:
        return stayed if settling else _tightened(pressure, last)
    if openness >= widest:
        return replace(stayed, reason="open")
    if pressure.missing or worst is None:
        missing = "; ".join(r.explain() for r in pressure.missing) or "nothing is read"
        return _Step(Move.HELD, openness, f"not reopened: {missing}")
    eased = worst < EXIT_PRESSURE or (fitting is not None and not is_pressed)
    # What it let in last is in none of the readings that are older than that.
    is_visible = now - pressure.age_s > last.moved_at
    return _relaxed(pressure, last, widest) if eased and is_visible and not settling else stayed


def _tightened(pressure: Pressure, last: GatePart) -> _Step:
    """Close by a step, but not beyond what fits, unless the queue is too long all the same."""
    reason = f"{pressure.by} is at {pressure.worst or 0.0:.0%} of its limit"
    # Where the queue is too long though hardly less is said to fit, that was told wrong.
    fitting = last.openness if pressure.fitting is None else pressure.fitting
    is_pressed = (pressure.worst or 0.0) >= ENTER_PRESSURE and pressure.by not in _FITTED
    trusted = fitting <= last.openness - RELAX_STEP if is_pressed else fitting < last.openness
    least, step = (fitting, pressure.relax_step) if trusted else (0.0, RELAX_STEP)
    reached = max(least, last.openness - TIGHTEN_FASTER * step, 0.0)
    if reached == last.openness:
        return _Step(Move.STAYED, last.openness, last.reason)
    return _Step(Move.TIGHTENED, reached, reason)


def _relaxed(pressure: Pressure, last: GatePart, widest: float) -> _Step:
    """Open by a step, but not beyond what fits; a gate that stands further open stays."""
    reason = f"{pressure.by} is at {pressure.worst or 0.0:.0%} of its limit"
    if (pressure.worst or 0.0) < EXIT_PRESSURE:
        reason += f", below {EXIT_PRESSURE:.0%}"
    reached = min(widest, last.openness + pressure.relax_step)
    if pressure.fitting is not None and pressure.fitting < widest:
        reached = min(reached, max(last.openness, pressure.fitting))
    if reached == last.openness:
        return _Step(Move.STAYED, last.openness, last.reason)
    return _Step(Move.OPENED if reached >= widest else Move.RELAXED, reached, reason)


def _state(
    step: _Step, widest: float, ceilings: Mapping[str, float], last: GatePart | None
) -> GateState:
    if step.openness >= widest:
        return GateState.OPEN
    if step.move is Move.RELAXED:
        return GateState.REOPENING
    if step.move in _AT_REST and last is not None and last.state is GateState.REOPENING:
        return GateState.REOPENING  # a ramp goes on while it rests between two steps
    if any(ceiling == 0.0 for ceiling in ceilings.values()):
        return GateState.WAITLISTED
    if step.move in _AT_REST and last is not None:
        return last.state
    return GateState.THROTTLED
