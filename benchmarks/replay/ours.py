"""Tidegate as a contestant: the rules that the controllers call, fed with what they would read."""

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from benchmarks.replay.engine import capacity_rps
from benchmarks.replay.fluid import Seen
from benchmarks.replay.rivals import Pool
from tidegate.readings import Reading, TierDemand
from tidegate.rules.gate import (
    FULL,
    OFFERED_OVER,
    Room,
    decide_gate,
    fit,
    mean_by_tier,
    share_of_room,
    weigh,
)
from tidegate.rules.measures import offered
from tidegate.rules.retry import Spared
from tidegate.rules.sizing import Need, PoolSeen, decide_replicas
from tidegate.snapshot import GatePart, GateState, PoolIntent, TierPolicy

_LIMIT_S: Final = 15.0
_TICK_S: Final = 10
_TIERS: Final = {
    "pro": TierPolicy(rank=0, gated=False),
    "plus": TierPolicy(rank=1, gated=False),
    "free": TierPolicy(rank=2, gated=True),
}


def _free_rps(seen: Seen, spared: float) -> float:
    """What the controllers take Free's demand to be, from what a gateway tells.

    A gateway counts those who were `spared` up to the second before.
    """
    if spared >= 1.0 and seen.ceiling >= 1.0:
        return seen.offered_free_rps
    refused = seen.offered_free_rps - seen.admitted_free_rps
    told = TierDemand(
        admitted_rps=seen.admitted_free_rps,
        refused_by_gate_rps=refused,
        not_exposed_rps=0.0,
        let_in=seen.ceiling,
        spared=None if spared >= 1.0 else spared,
        spared_rps=None if spared >= 1.0 else seen.first_free_rps * spared,
    )
    return offered(told)


@dataclass(frozen=True, slots=True)
class OurSetting:
    """What a person writes for the pool, and nothing else."""

    target_utilisation: float
    scale_down_window_s: float
    gated_objective: float = 0.955
    queue_wait_target_s: float = 1.3
    actuation_lag_s: float = 1.0

    def told(self) -> dict[str, float]:
        """Return it as the report tells it."""
        return asdict(self)


SETTINGS: Final = {"fast": OurSetting(1.0, 60.0), "slow": OurSetting(0.96, 120.0)}
"""One setting for all traces of a set of cold starts, chosen on the training traces."""
STRICT_SETTINGS: Final = {"fast": OurSetting(0.865, 15.0), "slow": OurSetting(0.82, 120.0)}
"""Those where Free must attain STRICT_FREE or more: little may be missed while it learns."""
STRICT_FREE: Final = 0.98


def pool_of(setting: OurSetting, pool: Pool) -> PoolIntent:
    """Return the pool as the catalogue would have it."""
    return PoolIntent(
        model="replayed",
        gpu_type="gpu",
        gpus_per_replica=1,
        capacity_rps=pool.capacity_rps,
        target_utilisation=setting.target_utilisation,
        queue_wait_target_s=setting.queue_wait_target_s,
        min_replicas=1,
        max_replicas=pool.most,
        required_readings=("queue_wait",),
        reading_limit_s=_LIMIT_S,
        actuation_lag_s=setting.actuation_lag_s,
        cold_start_p50_s=pool.cold_start_s[0],
        cold_start_p90_s=pool.cold_start_s[1],
        scale_down_window_s=setting.scale_down_window_s,
        safe_share=0.2,
        gated_objective=setting.gated_objective,
        floor_gpus=0,
        ceiling_gpus=pool.most,
    )


class TidegateSizer:
    """`decide_replicas`, every ten seconds, as the capacity loop calls it."""

    def __init__(self, pool: PoolIntent) -> None:
        self._pool = pool
        self._recent: tuple[Need, ...] = ()
        self._spared = Spared()
        self._share_spared = 1.0
        self._offered = self._let_in = 0.0
        self._wanted = 0

    def size(self, seen: Seen) -> int:
        """Decide at each tick; stay in between."""
        booked = seen.ready + seen.loading
        # Work, in requests as the pool's capacity was measured with: sizes drift within hours.
        full_rps = capacity_rps(seen.input_tokens, seen.output_tokens)
        asked_rps = seen.offered_rps - seen.offered_free_rps
        asked_rps += _free_rps(seen, self._share_spared)
        self._share_spared = self._spared.share(seen.ceiling, seen.retry_after_s, seen.now)
        asked_rps *= self._pool.capacity_rps / full_rps
        self._offered += asked_rps
        self._let_in += asked_rps * seen.ceiling
        if seen.now % _TICK_S != 0.0:
            return self._wanted or booked
        demand = Reading("demand", self._offered / _TICK_S, 0.5, _LIMIT_S)
        # Where nobody asked, nobody was refused either.
        share = self._let_in / self._offered if self._offered else seen.ceiling
        let_in = Reading("let_in", share, 0.5, _LIMIT_S)
        self._offered = self._let_in = 0.0
        waiting = Reading("waiting", seen.waiting, 0.5, _LIMIT_S)
        pool_seen = PoolSeen(demand, waiting, (demand,), booked, let_in, waits_for_any=True)
        decision = decide_replicas(pool_seen, self._pool, self._recent, seen.now)
        self._recent = decision.recent
        self._wanted = decision.replicas
        return decision.replicas


class TidegateGate:
    """`decide_gate`, every second, as the gate loop calls it."""

    def __init__(self, pool: PoolIntent) -> None:
        self._pool = pool
        self.retry_after_s = 1.0
        self._offered: deque[Mapping[str, float]] = deque(maxlen=OFFERED_OVER)
        self._last = GatePart(
            pool="replayed",
            version=1,
            issued_at=0.0,
            expires_at=10.0,
            state=GateState.OPEN,
            stale=False,
            openness=1.0,
            ceilings={"free": 1.0},
            moved_at=-3600.0,
            reason="open",
            retry_after_s=1.0,
            safe_share=pool.safe_share,
        )

    def ceiling(self, seen: Seen) -> float:
        """Move by at most one step; an open gate that nothing presses stays as it is."""
        last, pool = self._last, self._pool
        paid_rps = seen.offered_rps - seen.offered_free_rps
        self._offered.append({"pro": paid_rps, "free": seen.offered_free_rps})
        capacity_rps = seen.ready * pool.capacity_rps
        room_rps = capacity_rps * share_of_room(seen.use, seen.wait_s)
        if last.openness >= 1.0 and seen.offered_rps <= room_rps and seen.wait_s == 0.0:
            return 1.0  # as the law would say: nothing queues, and all that is offered fits
        wait = Reading("queue_wait", seen.wait_s, 0.5, _LIMIT_S)
        kv_cache = Reading("kv_cache_use", seen.use, 0.5, _LIMIT_S)
        load = Reading("demand", seen.admitted_rps / max(1.0, capacity_rps), 0.5, _LIMIT_S)
        offered_rps = mean_by_tier(self._offered)
        read = [(wait, pool.queue_wait_target_s), (load, 1.0), (kv_cache, FULL)]
        pressure = weigh(read, pool.required_readings)
        pressure = fit(pressure, Room(capacity_rps, kv_cache, wait, offered_rps), _TIERS)
        decision = decide_gate(pressure, last, _TIERS, self._pool, seen.now)
        if (decision.openness, decision.state) == (last.openness, last.state):
            return decision.ceilings["free"]  # nothing that the next decision is made from
        self._last = last.model_copy(
            update={
                "state": decision.state,
                "openness": decision.openness,
                "ceilings": decision.ceilings,
                "moved_at": decision.moved_at,
                "reason": decision.reason,
                "retry_after_s": decision.retry_after_s,
            }
        )
        self.retry_after_s = decision.retry_after_s
        return decision.ceilings["free"]
