"""The contest over one trace: every contestant's grid on one seed, its best point on all."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Final

from benchmarks.replay.bound import Plant, most_free_served
from benchmarks.replay.contestants import RIVALS, Contestant, tidegate, tidegate_gate
from benchmarks.replay.engine import capacity_rps, slots
from benchmarks.replay.fleet import Fleet, draw_cold_starts
from benchmarks.replay.fluid import START_S, first_replicas, run_fluid
from benchmarks.replay.oracle import Oracle, consult
from benchmarks.replay.rivals import Pool, Setting
from benchmarks.replay.scoring import PAID, Score, score
from benchmarks.replay.traces import PEAK_REPLICAS, Day, Trace, draw_day

COLD_STARTS: Final = {"fast": (22.7, 42.0), "slow": (190.0, 262.0)}
"""p50 and p90 of each set, in seconds: what a pool has measured."""
_MOST: Final = 2 * PEAK_REPLICAS
_CAPPED_AT: Final = int(0.3 * PEAK_REPLICAS)


@dataclass(frozen=True, slots=True)
class Contest:
    """What is replayed, with how many seeds, and what Free must attain."""

    trace: Trace
    seeds: int
    free: float


@dataclass(frozen=True, slots=True)
class Entry:
    """One run to be made."""

    contestant: str
    setting: Setting
    kind: str
    seed: int
    gated: bool
    most: int = _MOST


_held: Contest | None = None
"""In each process of the pool: what it replays."""


def _hold(contest: Contest) -> None:
    global _held  # noqa: PLW0603 - a worker process is told once what it works on
    _held = contest
    _day.cache_clear()


@cache
def _day(seed: int) -> Day:
    if _held is None:
        raise RuntimeError("no contest is held. Call hold_contest.")
    return draw_day(_held.trace, seed)


def pool_for(trace: Trace, kind: str, most: int = _MOST) -> Pool:
    """Return what everybody may know of the pool: its replica, as measured on the trace's sizes."""
    sizes = float(trace.input_tokens.mean()), float(trace.output_tokens.mean())
    return Pool(capacity_rps(*sizes), slots(*sizes), most, PEAK_REPLICAS, COLD_STARTS[kind])


def run_entry(entry: Entry) -> Score:
    """Make one run."""
    if _held is None:
        raise RuntimeError("no contest is held. Call hold_contest.")
    day = _day(entry.seed)
    pool = pool_for(_held.trace, entry.kind, entry.most)
    fleet = Fleet(draw_cold_starts(entry.kind, entry.seed), float(START_S))
    fleet.begin(min(entry.most, first_replicas(day, pool.capacity_rps)))
    sizer = _contestants(entry.kind, _held.free)[entry.contestant].make(pool, entry.setting)
    gate = tidegate_gate(entry.kind, pool) if entry.gated else None
    return score(day, run_fluid(day, fleet, sizer, gate, entry.most))


def consult_oracle(asked: tuple[str, int]) -> Oracle:
    """Ask the oracle about one set of cold starts and one seed."""
    if _held is None:
        raise RuntimeError("no contest is held. Call hold_contest.")
    kind, seed = asked
    pool = pool_for(_held.trace, kind)
    starts = draw_cold_starts(kind, seed)
    plant = Plant(pool.capacity_rps, pool.slots, starts, _MOST)
    return consult(_day(seed), plant, _held.free)


def _contestants(kind: str, free: float) -> dict[str, Contestant]:
    return {each.name: each for each in (tidegate(kind, free), *RIVALS)}


def hold_contest(contest: Contest, tell: Callable[[str], None]) -> dict[str, object]:
    """Hold the whole contest; returns what the command prints."""
    workers = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers, initializer=_hold, initargs=(contest,)) as pool:
        found: dict[str, object] = {
            kind: _hold_kind(contest, kind, pool, tell) for kind in COLD_STARTS
        }
        found["capped"] = _hold_capped(contest, pool, tell)
    return found


def _hold_kind(
    contest: Contest, kind: str, pool: ProcessPoolExecutor, tell: Callable[[str], None]
) -> dict[str, object]:
    grid = [
        Entry(each.name, setting, kind, 0, gated)
        for each in _contestants(kind, contest.free).values()
        for setting in each.grid
        for gated in (True, False)
    ]
    tried = dict(
        zip(map(_key, grid), zip(grid, pool.map(run_entry, grid), strict=True), strict=True)
    )
    tell(f"{kind}: {len(grid)} points of the grids run")
    asked = [(kind, seed) for seed in range(contest.seeds)]
    oracles = list(pool.map(consult_oracle, asked))
    tell(f"{kind}: the oracle was asked about {contest.seeds} seeds")
    policies: dict[str, object] = {}
    for name in _contestants(kind, contest.free):
        for gated in (True, False):
            points = [p for p in tried.values() if (p[0].contestant, p[0].gated) == (name, gated)]
            best = _best(points, contest.free)
            entries = [
                Entry(name, best.setting, kind, seed, gated) for seed in range(1, contest.seeds)
            ]
            scores = [tried[_key(best)][1], *pool.map(run_entry, entries)]
            figures = _figures(best, scores, oracles, contest.free)
            policies[name if gated else f"{name}_no_gate"] = figures
        tell(f"{kind}: {name} run on {contest.seeds} seeds")
    return {"oracle": _of_oracle(oracles), "policies": policies}


def _of_oracle(oracles: Sequence[Oracle]) -> dict[str, object]:
    """Tell the largest figure over the seeds; None where the oracle itself found nothing."""
    achieved = [each.achieved_gpu_hours for each in oracles]
    bound = [each.bound_gpu_hours for each in oracles]
    return {"achieved_gpu_hours": _largest(achieved), "bound_gpu_hours": _largest(bound)}


def _largest(figures: Sequence[float | None]) -> float | None:
    known = [each for each in figures if each is not None]
    return round(max(known), 4) if len(known) == len(figures) else None


def _key(entry: Entry) -> tuple[str, str, bool]:
    return entry.contestant, repr(entry.setting), entry.gated


def _best(points: Sequence[tuple[Entry, Score]], free: float) -> Entry:
    """Return the cheapest that holds, or else the one that misses by least."""
    return min(points, key=lambda p: (p[1].lacks(free), p[1].gpu_hours))[0]


def _figures(
    entry: Entry, scores: Sequence[Score], oracles: Sequence[Oracle], free: float
) -> dict[str, object]:
    """Tell the worst of the seeds in every figure; a run that misses a constraint has no ratio."""
    holds = all(each.holds(free) for each in scores)
    achieved = [each.achieved_gpu_hours for each in oracles]
    bound = [each.bound_gpu_hours for each in oracles]
    return {
        "setting": dict(entry.setting),
        "gate": entry.gated,
        "holds": holds,
        "ratio_to_oracle": _worst_ratio(scores, achieved) if holds else None,
        "ratio_to_bound": _worst_ratio(scores, bound) if holds else None,
        **worst_of(scores),
    }


def _worst_ratio(scores: Sequence[Score], against: Sequence[float | None]) -> float | None:
    """Return the largest ratio over the seeds, each to the oracle's figure for the same seed."""
    pairs = zip(scores, against, strict=True)
    return _largest([None if hours is None else s.gpu_hours / hours for s, hours in pairs])


def worst_of(scores: Sequence[Score]) -> dict[str, float]:
    """Return each figure at its worst over the seeds."""

    def least(of: Callable[[Score], float]) -> float:
        return round(min(map(of, scores)), 4)

    def most(of: Callable[[Score], float]) -> float:
        return round(max(map(of, scores)), 4)

    return {
        "pro_attainment": least(lambda s: s.attainment[0]),
        "plus_attainment": least(lambda s: s.attainment[1]),
        "paid_attainment": least(lambda s: s.paid_attainment),
        "free_attainment": least(lambda s: s.attainment[2]),
        "free_attainment_by_tokens": least(lambda s: s.by_tokens[2]),
        "free_worst_hour": least(lambda s: min(s.free_hours)),
        "free_refused": most(lambda s: s.free_refused),
        "gpu_hours": most(lambda s: s.gpu_hours),
        "bookings": most(lambda s: s.bookings),
        "p99_wait_paid_s": most(lambda s: s.p99_wait_paid_s),
    }


def _bound_capped(seed: int) -> float | None:
    """Ask how many Free requests a second could attain under the cap."""
    if _held is None:
        raise RuntimeError("no contest is held. Call hold_contest.")
    pool = pool_for(_held.trace, "fast", _CAPPED_AT)
    starts = draw_cold_starts("fast", seed)
    plant = Plant(pool.capacity_rps, pool.slots, starts, _CAPPED_AT)
    return most_free_served(_day(seed), plant, PAID)


def _hold_capped(
    contest: Contest, pool: ProcessPoolExecutor, tell: Callable[[str], None]
) -> dict[str, object]:
    """Run ours with at most a share of the peak's replicas."""
    setting = tidegate("fast", contest.free).grid[0]
    entries = [
        Entry("tidegate", setting, "fast", seed, gated=True, most=_CAPPED_AT)
        for seed in range(contest.seeds)
    ]
    scores = list(pool.map(run_entry, entries))
    bounds = list(pool.map(_bound_capped, range(contest.seeds)))
    tell("capped: run")
    pairs = list(zip(scores, bounds, strict=True))

    def least(rps: Callable[[Score], float]) -> float | None:
        found = [None if most is None else rps(s) / max(most, 1e-9) for s, most in pairs]
        known = [each for each in found if each is not None]
        return round(min(known), 4) if len(known) == len(found) else None

    scored_h = (_day_seconds(contest) - START_S) / 3600.0
    return {
        "replicas": _CAPPED_AT,
        "free_served_to_bound": least(lambda s: s.free_served_rps),
        "free_served_at_either_try_to_bound": least(
            lambda s: s.free_served_rps + s.free_came_back_rps
        ),
        "gpu_hours_to_cap": round(max(s.gpu_hours for s in scores) / (_CAPPED_AT * scored_h), 4),
        **worst_of(scores),
    }


def _day_seconds(contest: Contest) -> int:
    return draw_day(contest.trace, 0).seconds
