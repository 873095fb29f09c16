"""What gateways read once a second, drawn together for years of history."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from statistics import fmean
from typing import Final

from tidegate.edges.record import MeanDemand
from tidegate.readings import DemandReading, TierDemand

WINDOW_S: Final = 10
"""Long enough to keep years of means, short enough to see a burst in them."""

_Samples = dict[str, list[TierDemand]]
"""By gateway."""


class DemandHistory:
    """Collects readings and gives out the means of each window that is over.

    A gateway counts with the mean of what it read in the window, so that one that missed a second
    does not look like less demand, and nothing is said of a pool and tier that nobody read.
    """

    def __init__(self) -> None:
        self._window: datetime | None = None
        self._last_at: dict[str, float] = {}
        self._samples: dict[tuple[str, str], _Samples] = {}

    def hear(self, readings: Iterable[DemandReading], now: datetime) -> list[MeanDemand]:
        """Take what is new among the readings, and return the means of the window just over."""
        window = _window_of(now)
        finished = [] if window == self._window else self._finish()
        self._window = window
        for reading in readings:
            is_old = now.timestamp() - reading.at >= WINDOW_S
            if is_old or self._last_at.get(reading.gateway) == reading.at:
                continue
            self._last_at[reading.gateway] = reading.at
            for pool, tiers in reading.demand.items():
                for tier, demand in tiers.items():
                    samples = self._samples.setdefault((pool, tier), {})
                    samples.setdefault(reading.gateway, []).append(demand)
        return finished

    def _finish(self) -> list[MeanDemand]:
        finished = [
            _mean(self._window, pool, tier, samples)
            for (pool, tier), samples in self._samples.items()
            if self._window is not None
        ]
        self._samples = {}
        return finished


def _window_of(now: datetime) -> datetime:
    return datetime.fromtimestamp(now.timestamp() // WINDOW_S * WINDOW_S, tz=UTC)


def _mean(at: datetime, pool: str, tier: str, by_gateway: _Samples) -> MeanDemand:
    def total(rps: Callable[[TierDemand], float]) -> float:
        return sum(fmean(map(rps, samples)) for samples in by_gateway.values())

    return MeanDemand(
        at=at,
        pool=pool,
        tier=tier,
        admitted_rps=total(lambda each: each.admitted_rps),
        refused_rps=total(lambda each: each.refused_by_gate_rps),
        not_exposed_rps=total(lambda each: each.not_exposed_rps),
    )
