"""How many replicas a pool needs, from demand in requests a second, within the ledger's bounds."""

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, assert_never

from tidegate.readings import Freshness, Reading
from tidegate.snapshot import PoolIntent

BACKLOG_DRAIN_S = 30.0
"""A backlog is sized to be worked off within this time beside the demand."""
REACTION_S: Final = 240.0
"""What is left of it beside a cold start is the longest time that demand is averaged over."""
SMOOTHED_COLD_STARTS: Final = 6.0
"""Demand is averaged over so many cold starts, within REACTION_S."""
LEARNING_GAIN: Final = 0.05
"""Utilisation lost in one cold start in which the gate lets nobody in."""
USUAL_OVER_S: Final = 14_400.0
"""What a pool's demand usually is, is its mean over about this long."""
LEARNED_WITHIN: Final = (0.5, 1.25)
"""What is learned stays within these factors of the pool's `target_utilisation`."""
TOLERANCE: Final = 0.05
"""A pool with an objective stays as it is where its size differs from what the demand needs by no
more than this share: it would be booked, billed and drained for less than a forecast's error."""


class Limiter(StrEnum):
    """What decided the size."""

    DEMAND = "demand"
    RESERVATIONS = "reservations"
    MIN_REPLICAS = "min-replicas"
    MAX_REPLICAS = "max-replicas"
    BUDGET = "budget"
    BUDGET_UNKNOWN = "budget-unknown"
    SCALE_DOWN_WINDOW = "scale-down-window"
    TOLERANCE = "tolerance"
    COLD_STARTS = "cold-starts"
    READINGS = "readings"


@dataclass(frozen=True, slots=True)
class PoolSeen:
    """What a sizing decision is made from.

    `demand_rps` counts admitted and gate-refused requests, so that shedding never hides load.
    `required` are the readings without which nothing is taken away.
    """

    demand_rps: Reading
    waiting: Reading
    required: tuple[Reading, ...]
    booked_replicas: int
    """Replicas asked for by now, ready or not."""
    let_in: Reading | None = None
    """Share of the lowest gated tier that the gate lets in; None where nobody reads it."""
    waits_for_any: bool = False
    """Whether any replica would do for what waits: all serve one version of the model."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one tick found a pool to need, kept for the scale-down window."""

    at: float
    replicas: int
    """By demand alone."""
    wanted: int = 0
    """With what stages have reserved."""
    demand_rps: float | None = None
    """As read at that tick."""
    utilisation: float | None = None
    """As sized for."""
    has_grown: bool = False
    """Whether replicas were booked at that tick."""
    since: float = -math.inf
    """When the pool's sizing began, in seconds since the epoch."""
    usual_rps: float | None = None
    """What its demand usually is; None before that can be told."""


@dataclass(frozen=True, slots=True)
class SizingDecision:
    """How many replicas to book, what the demand alone needs, and why."""

    replicas: int
    needed_replicas: int
    limited_by: Limiter
    reason: str
    recent: tuple[Need, ...]
    is_demand_known: bool
    """Where it is not, `needed_replicas` is what was known last, or 0 where nothing ever was."""


def gpus_for(forecast_rps: float, capacity_rps: float, target_utilisation: float) -> int:
    """GPUs that serve a forecast at the target utilisation: ⌈forecast / (capacity × target)⌉."""
    return math.ceil(forecast_rps / (capacity_rps * target_utilisation) - 1e-9)


def demand_window_s(pool: PoolIntent) -> float:
    """Seconds that a pool's demand is averaged over: the reading limit, if it has no objective.

    With one, the gate bridges what is short for a while. A booking cannot meet a burst that is
    over before its cold start is; and the longer a cold start, the less time is left to be sure:
    what is averaged comes as late as half the window.
    """
    if pool.gated_objective is None:
        return pool.reading_limit_s
    p50_s = pool.cold_start_p50_s
    return max(pool.reading_limit_s, min(SMOOTHED_COLD_STARTS * p50_s, REACTION_S - p50_s))


def learn_utilisation(
    seen: PoolSeen, pool: PoolIntent, recent: tuple[Need, ...], now: float
) -> float:
    """Return the utilisation to size for: the pool's, or what its `gated_objective` has taught.

    Adaptive conformal inference (Gibbs and Candès, 2021) on who is not let in: each second moves
    the utilisation by gain · demand / usual · (1 − objective − missed), so that over any long time
    the mean of what is missed, request by request, comes to 1 − objective, whatever demand does.
    The gain is LEARNING_GAIN over the cold start. Nothing is learned before a size that was asked
    for could be seen, nor where the pool could not book more anyway, nor blindly.
    """
    if pool.gated_objective is None or not recent:
        return pool.target_utilisation
    last = recent[-1]
    before = pool.target_utilisation if last.utilisation is None else last.utilisation
    let_in = None if seen.let_in is None else seen.let_in.fresh_value
    demand_rps = seen.demand_rps.fresh_value
    if let_in is None or demand_rps is None or last.usual_rps is None:
        return before
    if seen.booked_replicas >= most_replicas(pool):
        return before
    passed_s = min(max(0.0, now - last.at), pool.reading_limit_s)
    gain = LEARNING_GAIN / max(pool.cold_start_p50_s, pool.reading_limit_s)
    weight = demand_rps / last.usual_rps
    learned = before + gain * passed_s * weight * (let_in - pool.gated_objective)
    low, high = (factor * pool.target_utilisation for factor in LEARNED_WITHIN)
    return min(high, max(low, learned))


def usual_rps(pool: PoolIntent, recent: tuple[Need, ...], rps: float, now: float) -> float | None:
    """Return the mean of a pool's demand over about USUAL_OVER_S, with what was read now.

    None until a slow cold start and a window of demand have passed since its sizing began, when
    what was asked for first can be seen; it begins with the mean of that window.
    """
    last = recent[-1] if recent else None
    settled_s = pool.cold_start_p90_s + demand_window_s(pool)
    if pool.gated_objective is None or last is None or now - last.since < settled_s:
        return None
    if not last.usual_rps:
        known = [n.demand_rps for n in recent if n.demand_rps is not None]
        return (sum(known) + rps) / (len(known) + 1) or None
    passed_s = min(max(0.0, now - last.at), pool.reading_limit_s)
    return last.usual_rps + (rps - last.usual_rps) * passed_s / USUAL_OVER_S


def most_replicas(pool: PoolIntent) -> int:
    """Replicas that the pool and the ledger allow; none more where the budget is unknown."""
    if pool.ceiling_gpus is None:
        return 0
    return min(pool.max_replicas, pool.ceiling_gpus // pool.gpus_per_replica)


def decide_replicas(
    seen: PoolSeen, pool: PoolIntent, recent: tuple[Need, ...], now: float
) -> SizingDecision:
    """Size a pool at `now` (seconds since the epoch), remembering needs in `recent`.

    Demand, as the mean of what was read within `demand_window_s`, is sized at the utilisation
    that `learn_utilisation` gives, and a backlog to be worked off within BACKLOG_DRAIN_S; where
    any replica would do for it, replicas are kept for that, and booked only as far as those booked
    could not work it off, running full, within a cold start. With an objective, no change is made
    within TOLERANCE. Reservations of stages about to open are a floor. A smaller size waits
    until it is the largest of the scale-down window, and until what was booked last had the time
    of a slow cold start: Kubernetes takes pods away first that are not ready yet, and what they
    have loaded would be lost. Nothing shrinks, and no need is forgotten, on readings that are
    stale or absent; a pool that is held so may stay above its bounds, and never grows beyond them.
    """
    asked = dict.fromkeys((*seen.required, seen.demand_rps, seen.waiting))
    missing = [r for r in asked if r.freshness is not Freshness.FRESH]
    utilisation = learn_utilisation(seen, pool, recent, now)
    demanded = _demanded(seen, pool, recent, now, utilisation)
    kept = counted = recent
    if demanded is not None:
        needs = (*recent, _need(demanded, utilisation, seen, pool, recent, now))
        counted = tuple(n for n in needs if now - n.at <= pool.scale_down_window_s)
        kept = _remembered(needs, pool, now)
    needed = max((n.replicas for n in counted), default=0)
    wanted, limiter = _over_the_window(demanded, needed, counted, pool)
    if _is_tolerated(wanted, limiter, seen, pool):
        wanted, limiter = seen.booked_replicas, Limiter.TOLERANCE
    if not missing and wanted < seen.booked_replicas and _may_load(pool, recent, now):
        wanted, limiter = seen.booked_replicas, Limiter.COLD_STARTS
    if pool.min_replicas > wanted:
        wanted, limiter = pool.min_replicas, Limiter.MIN_REPLICAS
    unbounded = wanted
    wanted, limiter = _within_bounds(wanted, limiter, seen, pool)
    if missing and wanted < seen.booked_replicas:
        wanted, limiter = seen.booked_replicas, Limiter.READINGS
    reason = _reason(limiter, _Sizes(demanded, needed, unbounded), pool, missing)
    if demanded is not None and wanted > seen.booked_replicas:
        kept = (*kept[:-1], replace(kept[-1], has_grown=True))
    return SizingDecision(wanted, needed, limiter, reason, kept, demanded is not None)


def _is_tolerated(wanted: int, limiter: Limiter, seen: PoolSeen, pool: PoolIntent) -> bool:
    """Whether a size is as good as what is booked, to a pool whose gate bridges what is short.

    A gate bridges no reservation: whatever demand asks for beside it, stages get all of theirs.
    """
    by_demand = limiter in (Limiter.DEMAND, Limiter.SCALE_DOWN_WINDOW)
    floor, _ = _with_reservations(0, pool)
    if pool.gated_objective is None or not by_demand or seen.booked_replicas < floor:
        return False
    change = abs(wanted - seen.booked_replicas)
    return 0 < change <= TOLERANCE * seen.booked_replicas


def _kept_s(pool: PoolIntent) -> float:
    """Seconds for which a need still tells something."""
    kept_s = max(pool.scale_down_window_s, pool.cold_start_p90_s)
    return kept_s if pool.gated_objective is None else max(kept_s, demand_window_s(pool))


def _remembered(needs: tuple[Need, ...], pool: PoolIntent, now: float) -> tuple[Need, ...]:
    """Leave out what no tick will count: it is too old, or a later one needed as much.

    At a tick a second a window of ten minutes would be 600 needs, looked through at each tick.
    """
    kept: list[Need] = []
    kept_s, averaged_s = _kept_s(pool), demand_window_s(pool)
    replicas = wanted = -1
    has_grown = False
    for need in reversed(needs):
        age_s = now - need.at
        is_largest = need.replicas > replicas or need.wanted > wanted
        tells_more = is_largest or (need.has_grown and not has_grown)
        if age_s <= kept_s and (age_s <= averaged_s or tells_more):
            kept.append(need)
            replicas, wanted = max(replicas, need.replicas), max(wanted, need.wanted)
            has_grown = has_grown or need.has_grown
    return tuple(reversed(kept))


def _may_load(pool: PoolIntent, recent: tuple[Need, ...], now: float) -> bool:
    """Whether a booking is younger than a slow cold start."""
    return any(n.has_grown and now - n.at <= pool.cold_start_p90_s for n in recent)


def _need(
    demanded: int,
    utilisation: float,
    seen: PoolSeen,
    pool: PoolIntent,
    recent: tuple[Need, ...],
    now: float,
) -> Need:
    wanted, _ = _with_reservations(demanded, pool)
    # Whoever starts anew has forgotten the window: what is booked was wanted, until it is past.
    booked = 0 if recent else seen.booked_replicas
    rps = seen.demand_rps.fresh_value
    return Need(
        now,
        demanded,
        max(wanted, booked),
        rps,
        utilisation=utilisation,
        since=recent[-1].since if recent else now,
        usual_rps=None if rps is None else usual_rps(pool, recent, rps, now),
    )


def _over_the_window(
    demanded: int | None, needed: int, counted: tuple[Need, ...], pool: PoolIntent
) -> tuple[int, Limiter]:
    """Replicas for the largest need that still counts."""
    wanted, limiter = _with_reservations(needed, pool)
    if demanded is None and limiter is Limiter.DEMAND:
        limiter = Limiter.READINGS
    lately = max((n.wanted for n in counted), default=0)
    shrinks = demanded is not None and demanded < needed and limiter is Limiter.DEMAND
    if lately > wanted or shrinks:
        return max(lately, wanted), Limiter.SCALE_DOWN_WINDOW
    return wanted, limiter


def _with_reservations(demanded: int, pool: PoolIntent) -> tuple[int, Limiter]:
    """Replicas for the demand, or for what the ledger keeps ready where that is more."""
    floor = math.ceil(pool.floor_gpus / pool.gpus_per_replica)
    return (floor, Limiter.RESERVATIONS) if floor > demanded else (demanded, Limiter.DEMAND)


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Replicas that a reason names: by demand now, by the window, and before any bound."""

    demanded: int | None
    needed: int
    unbounded: int


def _demanded(
    seen: PoolSeen, pool: PoolIntent, recent: tuple[Need, ...], now: float, utilisation: float
) -> int | None:
    read_rps = seen.demand_rps.fresh_value
    if read_rps is None:
        return None
    averaged_s = demand_window_s(pool)
    fresh = (n.demand_rps for n in recent if now - n.at <= averaged_s)
    lately = [rps for rps in fresh if rps is not None]
    mean_rps = (sum(lately) + read_rps) / (len(lately) + 1)
    backlog = seen.waiting.fresh_value or 0.0
    soon = gpus_for(mean_rps + backlog / BACKLOG_DRAIN_S, pool.capacity_rps, utilisation)
    if not seen.waits_for_any:
        return soon
    # A queue grows for as long as replicas load. Were each tick to book for it anew, a pool would
    # double and double again: others would serve no earlier than what is booked is done with it.
    drain_s = max(BACKLOG_DRAIN_S, pool.cold_start_p50_s)
    full = max(1.0, utilisation)
    in_time = gpus_for(mean_rps + backlog / drain_s, pool.capacity_rps, full)
    least = max(gpus_for(mean_rps, pool.capacity_rps, utilisation), in_time)
    return max(least, min(soon, seen.booked_replicas))


def _within_bounds(
    wanted: int, limiter: Limiter, seen: PoolSeen, pool: PoolIntent
) -> tuple[int, Limiter]:
    if wanted > pool.max_replicas:
        wanted, limiter = pool.max_replicas, Limiter.MAX_REPLICAS
    if pool.ceiling_gpus is None:
        if wanted > seen.booked_replicas:
            return seen.booked_replicas, Limiter.BUDGET_UNKNOWN
        return wanted, limiter
    affordable = pool.ceiling_gpus // pool.gpus_per_replica
    return (affordable, Limiter.BUDGET) if wanted > affordable else (wanted, limiter)


def _reason(limiter: Limiter, sizes: _Sizes, pool: PoolIntent, missing: list[Reading]) -> str:
    by_demand = "its demand is unknown"
    if sizes.demanded is not None:
        by_demand = f"demand needs {sizes.needed}"
    match limiter:
        case Limiter.DEMAND:
            return f"demand needs {sizes.needed} replicas"
        case Limiter.TOLERANCE:
            return f"demand needs {sizes.needed} replicas, within {TOLERANCE:.0%} of those booked"
        case Limiter.RESERVATIONS:
            return f"stages have reserved {sizes.unbounded} replicas, {by_demand}"
        case Limiter.MIN_REPLICAS:
            return f"never fewer than {pool.min_replicas} replicas, {by_demand}"
        case Limiter.MAX_REPLICAS:
            return f"{sizes.unbounded} replicas are needed, never more than {pool.max_replicas}"
        case Limiter.BUDGET:
            allowed = f"the ledger allows {pool.ceiling_gpus} GPUs"
            return f"{sizes.unbounded} replicas are needed, {allowed}"
        case Limiter.BUDGET_UNKNOWN:
            return "nobody has counted the GPUs yet, so nothing grows"
        case Limiter.SCALE_DOWN_WINDOW | Limiter.COLD_STARTS | Limiter.READINGS:
            return _reason_to_keep(limiter, sizes, pool, missing)
        case never:
            assert_never(never)


def _reason_to_keep(
    limiter: Limiter, sizes: _Sizes, pool: PoolIntent, missing: list[Reading]
) -> str:
    if limiter is Limiter.SCALE_DOWN_WINDOW:
        window_s = pool.scale_down_window_s
        return f"needed {sizes.unbounded} replicas within the last {window_s:.0f} s"
    if limiter is Limiter.COLD_STARTS:
        booked = f"booked within the last {pool.cold_start_p90_s:.0f} s"
        return f"nothing is taken away: what was {booked} may still load"
    return "nothing is taken away: " + "; ".join(r.explain() for r in missing)
