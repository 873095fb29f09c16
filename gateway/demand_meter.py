"""Measuring what is asked for and what was turned away, and publishing it once a second."""

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Final

from gateway.desk import Desk
from gateway.tally import Kind, PoolTier, Tally
from tidegate.edges.redis import Redis, as_json
from tidegate.errors import Unavailable
from tidegate.holding import SnapshotHolder
from tidegate.readings import DemandReading, ModelUse, TierDemand
from tidegate.rules.exposure import threshold
from tidegate.rules.gated import Gated, gated
from tidegate.rules.outcome import Code
from tidegate.rules.retry import Spared
from tidegate.snapshot import Snapshot

PERIOD_S: Final = 1.0
WINDOW_S: Final = 2.0
"""Rates are means over about this long: since the newest sample at least as old, give or take."""
_SLACK_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class _Sample:
    taken_s: float
    counts: Counter[Kind]
    let_in: Mapping[PoolTier, float] = field(default_factory=dict)
    """The share in force."""
    spared: Mapping[PoolTier, float] = field(default_factory=dict)
    """The share that was counted by itself since the sample before; what is not named, was not."""
    spared_counts: Counter[PoolTier] = field(default_factory=Counter)


class DemandMeter:
    """Turns counts into rates over a sliding window; `taken_s` is of a monotonic clock."""

    def __init__(self, gateway: str, tally: Tally, desk: Desk, *, taken_s: float) -> None:
        self._gateway = gateway
        self._tally = tally
        self._desk = desk
        self._began_at: float | None = None
        self._samples: deque[_Sample] = deque([_Sample(taken_s, tally.counts)])
        self._lately = defaultdict[PoolTier, Spared](Spared)
        self._spared: Mapping[PoolTier, float] = {}

    def tick(self, snapshot: Snapshot, *, at: float, taken_s: float) -> DemandReading:
        """Take a sample and return the rates since the window began, with the snapshot held.

        `at` is in seconds since the epoch. Every tier of the catalogue is there for every pool
        that a feature uses: where nobody asked, a true zero.
        """
        in_force = _in_force(snapshot, at)
        let_in = {key: each.ceiling for key, each in in_force.items()}
        tally = self._tally
        self._samples.append(_Sample(taken_s, tally.counts, let_in, self._spared, tally.spared))
        self._spare(in_force, at)
        while self._samples[1].taken_s <= taken_s - WINDOW_S + _SLACK_S:
            self._samples.popleft()
        if self._began_at is None:
            self._began_at = at
        demand = _by_pool(snapshot, self._of_tier)
        return DemandReading(
            gateway=self._gateway,
            at=at,
            demand=demand,
            use=_by_model(snapshot, demand),
            seen=snapshot.versions(),
            gates={pool: as_json(gate) for pool, gate in snapshot.gates.items()},
            began_at=self._began_at,
            lanes=self._desk.uses,
            waitlists={name: as_json(part) for name, part in snapshot.waitlists.items()},
        )

    def _of_tier(self, pool: str, tier: str) -> TierDemand:
        first, last = self._samples[0], self._samples[-1]
        elapsed_s = max(last.taken_s - first.taken_s, _SLACK_S)

        def rps(code: Code) -> float:
            kind = Kind(pool, tier, code.value)
            return (last.counts[kind] - first.counts[kind]) / elapsed_s

        key = pool, tier
        spared = self._share_spared(key)
        spared_rps = (last.spared_counts[key] - first.spared_counts[key]) / elapsed_s
        return TierDemand(
            admitted_rps=rps(Code.ALLOWED),
            refused_by_gate_rps=rps(Code.GATE_SHED),
            not_exposed_rps=rps(Code.NOT_EXPOSED),
            let_in=self._let_in(key),
            spared=spared,
            spared_rps=None if spared is None else spared_rps,
        )

    def _spare(self, in_force: Mapping[PoolTier, Gated], at: float) -> None:
        """Have those whom no ceiling refused lately be counted by themselves until the next tick.

        A ceiling that came and went between two ticks was in force too briefly to be heard of.
        """
        found: dict[PoolTier, float] = {}
        for key, each in in_force.items():
            if each.ceiling < 1.0 or key in self._lately:
                share = self._lately[key].share(each.ceiling, each.retry_after_s, at)
                if share < 1.0:
                    found[key] = share
                else:
                    del self._lately[key]
        for gone in self._lately.keys() - in_force.keys():
            del self._lately[gone]
        self._spared = found
        self._tally.spared_below = {key: threshold(share) for key, share in found.items()}

    def _let_in(self, key: PoolTier) -> float | None:
        """Return the mean of the share in force over the window; None where it was not known."""
        shares = [each.let_in[key] for each in self._samples if key in each.let_in]
        return fmean(shares) if shares else None

    def _share_spared(self, key: PoolTier) -> float | None:
        """Return the mean over the window; None unless all of it was counted by itself."""
        of_window = list(self._samples)[1:]
        shares = [each.spared[key] for each in of_window if key in each.spared]
        return fmean(shares) if shares and len(shares) == len(of_window) else None


def _in_force(snapshot: Snapshot, at: float) -> dict[PoolTier, Gated]:
    """Read what the gate means at an instant for every tier at every pool of a feature."""
    intent = snapshot.intent
    if intent is None:
        return {}
    found: dict[PoolTier, Gated] = {}
    for pool in _pools(snapshot):
        gate = snapshot.gates.get(pool)
        is_heard = gate is not None and at < gate.expires_at
        for tier in intent.tiers:
            each = gated(pool, tier, gate, intent)
            found[pool, tier] = (
                each if is_heard else replace(each, ceiling=each.ceiling_after_expiry)
            )
    return found


def _pools(snapshot: Snapshot) -> list[str]:
    return (
        []
        if snapshot.intent is None
        else sorted({f.pool for f in snapshot.intent.features.values()})
    )


def _by_pool(
    snapshot: Snapshot, of_tier: Callable[[str, str], TierDemand]
) -> dict[str, dict[str, TierDemand]]:
    tiers = () if snapshot.intent is None else tuple(snapshot.intent.tiers)
    return {pool: {tier: of_tier(pool, tier) for tier in tiers} for pool in _pools(snapshot)}


def _by_model(
    snapshot: Snapshot, demand: Mapping[str, Mapping[str, TierDemand]]
) -> dict[str, dict[str, ModelUse]]:
    """Add up what pools of the same model admit."""
    pools = {} if snapshot.intent is None else snapshot.intent.pools
    rates: dict[str, dict[str, float]] = {}
    for pool, tiers in demand.items():
        if pool in pools:
            of_model = rates.setdefault(pools[pool].model, {})
            for tier, asked in tiers.items():
                of_model[tier] = of_model.get(tier, 0.0) + asked.admitted_rps
    return {
        model: {tier: ModelUse(rps=rps) for tier, rps in tiers.items()}
        for model, tiers in rates.items()
    }


class DemandPublisher:
    """Publishes a reading each period; one that cannot be published is dropped, never queued."""

    def __init__(self, redis: Redis, holder: SnapshotHolder, meter: DemandMeter) -> None:
        self._redis = redis
        self._holder = holder
        self._meter = meter
        self.dropped = 0

    async def run(self) -> None:
        """Measure and publish until cancelled, and then once more."""
        try:
            while True:
                await asyncio.sleep(PERIOD_S)
                await self._publish()
        finally:
            await self._publish()

    async def _publish(self) -> None:
        reading = self._meter.tick(
            self._holder.now_held.snapshot, at=time.time(), taken_s=time.monotonic()
        )
        try:
            await self._redis.publish_reading(reading)
        except Unavailable:
            self.dropped += 1  # the follower tells that Redis is lost
