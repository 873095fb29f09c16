"""A gateway without requests: the demand's rates, decided by the real snapshot, share by share."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tidegate.demand import Demand, rate_at
from tidegate.edges.redis import as_json
from tidegate.readings import DemandReading, TierDemand
from tidegate.rules.decision import Decider
from tidegate.rules.exposure import FULL
from tidegate.rules.outcome import Outcome
from tidegate.snapshot import Snapshot

_LOOKS_A_STEP: Final = 4


@dataclass(frozen=True, slots=True)
class Shares:
    """How a tier's requests are answered, each 0 to 1; what is left over counts for no pool."""

    admitted: float
    refused_by_gate: float
    not_exposed: float


NOBODY: Final = Shares(admitted=0.0, refused_by_gate=0.0, not_exposed=0.0)


@dataclass(frozen=True, slots=True)
class Counted:
    """What a gateway counted of a tier since the rehearsal began, in requests."""

    admitted: float = 0.0
    refused_by_gate: float = 0.0
    not_exposed: float = 0.0

    def whole(self) -> "Counted":
        """Return the counts without their last, unfinished request."""
        return Counted(
            admitted=math.floor(self.admitted),
            refused_by_gate=math.floor(self.refused_by_gate),
            not_exposed=math.floor(self.not_exposed),
        )

    def plus(self, rates: TierDemand, over_s: float) -> "Counted":
        """Return the counts after these rates have gone on for a while."""
        return Counted(
            admitted=self.admitted + rates.admitted_rps * over_s,
            refused_by_gate=self.refused_by_gate + rates.refused_by_gate_rps * over_s,
            not_exposed=self.not_exposed + rates.not_exposed_rps * over_s,
        )


def shares(decider: Decider, feature: str, tier: str, now: float) -> Shares:
    """Return what the compiled snapshot does with a tier's users at `now`, on average.

    The places of a user under exposure and under shedding are independent, so that shares
    multiply; `Decider.decide` on many users comes to the same. What only some attributes pass is
    taken as passed: a trace knows tiers alone.
    """
    intent = decider.snapshot.intent
    described = None if intent is None else intent.features.get(feature)
    if described is None:
        return NOBODY
    rule = decider.rule(feature, tier, described.surfaces[0])
    if isinstance(rule, Outcome):
        return NOBODY
    if any(start <= now < end for start, end in decider.closed_between(rule)):
        return NOBODY
    ceiling = decider.ceiling_below(rule, now) / FULL
    exposed = rule.exposed_below / FULL
    return Shares(
        admitted=exposed * ceiling,
        refused_by_gate=exposed * (1.0 - ceiling),
        not_exposed=1.0 - exposed,
    )


class SimulatedGateway:
    """Decides rates instead of requests; what it admits is exact, and the same in every run.

    `demands` are by feature, with their time 0 at `started_at`, in seconds since the epoch.
    Bursts shorter than a step are not seen.
    """

    def __init__(self, name: str, demands: Mapping[str, Demand], *, started_at: float) -> None:
        self.name = name
        self._demands = demands
        self._started_at = started_at
        self._snapshot = Snapshot()
        self._decider = Decider(self._snapshot)
        self._rates: dict[str, dict[str, TierDemand]] = {}
        self.counted: dict[tuple[str, str], Counted] = {}
        """By pool and tier."""

    def take(self, snapshot: Snapshot) -> None:
        """Hold what is published now, until the next step; a part that is lost stays as it was."""
        self._snapshot = Snapshot(
            intent=snapshot.intent or self._snapshot.intent,
            gates={**self._snapshot.gates, **snapshot.gates},
        )
        self._decider = Decider(self._snapshot)

    def flow(self, now: float, step_s: float) -> dict[str, float]:
        """Decide the step that ends at `now`; returns the requests a second admitted to each pool.

        Decided at the step's beginning, by what was published then: within a step, the loops
        that would renew it stand still.
        """
        began_at = now - step_s
        self._rates = self._zeros()
        for feature, demand in self._demands.items():
            described = self._snapshot.intent and self._snapshot.intent.features.get(feature)
            if not described:
                continue
            asked_rps = _mean_rps(demand, began_at - self._started_at, step_s)
            for tier, of_all in demand.tiers.items():
                answered = shares(self._decider, feature, tier, began_at)
                self._add(described.pool, tier, answered, asked_rps * of_all)
        for pool, tiers in self._rates.items():
            for tier, rates in tiers.items():
                before = self.counted.get((pool, tier), Counted())
                self.counted[pool, tier] = before.plus(rates, step_s)
        return {
            pool: sum(rates.admitted_rps for rates in tiers.values())
            for pool, tiers in self._rates.items()
        }

    def reading(self, now: float) -> DemandReading:
        """Return what was counted in the last step, with versions and gates as held."""
        return DemandReading(
            gateway=self.name,
            at=now,
            demand=self._rates,
            seen=self._snapshot.versions(),
            gates={pool: as_json(gate) for pool, gate in self._snapshot.gates.items()},
        )

    def _zeros(self) -> dict[str, dict[str, TierDemand]]:
        """Begin with every tier for every pool that a feature uses: where nobody asks, a zero."""
        intent = self._snapshot.intent
        if intent is None:
            return {}
        zero = TierDemand(admitted_rps=0.0, refused_by_gate_rps=0.0, not_exposed_rps=0.0)
        return {
            feature.pool: dict.fromkeys(intent.tiers, zero) for feature in intent.features.values()
        }

    def _add(self, pool: str, tier: str, answered: Shares, asked_rps: float) -> None:
        before = self._rates[pool].get(tier)
        if before is None:
            return
        self._rates[pool][tier] = TierDemand(
            admitted_rps=before.admitted_rps + asked_rps * answered.admitted,
            refused_by_gate_rps=before.refused_by_gate_rps + asked_rps * answered.refused_by_gate,
            not_exposed_rps=before.not_exposed_rps + asked_rps * answered.not_exposed,
        )


def _mean_rps(demand: Demand, from_s: float, length_s: float) -> float:
    slice_s = length_s / _LOOKS_A_STEP
    return sum(rate_at(demand, from_s + (n + 0.5) * slice_s) for n in range(_LOOKS_A_STEP)) / (
        _LOOKS_A_STEP
    )
