"""A gate that narrows starts its pool's surge, and every move of it is passed on, once."""

from dataclasses import dataclass, field

import pytest

from controllers.surges import Surges
from tests.tidegate.snapshots import NOW, gate
from tidegate.catalogue import PoolSpec
from tidegate.errors import Unavailable
from tidegate.manifests import Manifests
from tidegate.messages.catalogue import CatalogueState
from tidegate.messages.surge import GateMove, SurgeOrder
from tidegate.snapshot import GatePart, GateState, Snapshot

POOL = PoolSpec.model_validate(
    {
        "model": "image-2",
        "gpuType": "h100",
        "maxReplicas": 4,
        "capacityRps": 8,
        "queueWaitTarget": "1s",
        "coldStart": {"p50": "1m", "p90": "2m"},
        "readingLimit": "10s",
        "actuationLag": "1s",
        "scaleDownWindow": "20s",
        "surge": {"after": "10m", "calm": "1h"},
    }
)


@dataclass
class House:
    """What stands for Redis and for Temporal: a gate that is published, and what was told."""

    gate: GatePart
    pool: PoolSpec = POOL
    is_away: bool = False
    told: list[tuple[str, GateMove, bool]] = field(default_factory=list)

    async def snapshot(self) -> Snapshot:
        return Snapshot(gates={"image": self.gate})

    async def catalogue(self) -> CatalogueState:
        return CatalogueState(declared=Manifests(pools={"image": self.pool}))

    async def tell_surge(self, order: SurgeOrder, move: GateMove, *, starts: bool) -> None:
        if self.is_away:
            raise Unavailable("temporal: away", code="temporal-unavailable")
        self.told.append((order.plan_id, move, starts))

    def loop(self) -> Surges:
        return Surges(self, self)  # type: ignore[arg-type]


def at(state: GateState, ceiling: float, *, version: int = 1, stale: bool = False) -> GatePart:
    part = gate(ceilings={"free": ceiling}, version=version)
    return part.model_copy(update={"state": state, "stale": stale})


async def test_a_gate_that_narrows_starts_a_surge_and_renewed_it_is_no_news() -> None:
    house = House(at(GateState.THROTTLED, 0.3))
    loop = house.loop()
    await loop.tick(NOW)
    house.gate = at(GateState.THROTTLED, 0.3, version=2)
    await loop.tick(NOW + 1)
    assert house.told == [("surge/image", GateMove(is_open=False, lowest_ceiling=0.3), True)]


@pytest.mark.parametrize("state", [GateState.REOPENING, GateState.OPEN])
async def test_a_gate_that_reopens_is_passed_on_and_starts_none(state: GateState) -> None:
    house = House(at(state, 0.6))
    await house.loop().tick(NOW)
    assert [starts for _, _, starts in house.told] == [False]
    assert house.told[0][1].is_open is (state is GateState.OPEN)


async def test_what_a_temporal_that_was_away_has_not_heard_is_told_again() -> None:
    house = House(at(GateState.WAITLISTED, 0.0), is_away=True)
    loop = house.loop()
    with pytest.raises(Unavailable):
        await loop.tick(NOW)
    house.is_away = False
    await loop.tick(NOW + 1)
    assert len(house.told) == 1


async def test_a_gate_without_readings_and_a_pool_without_a_policy_say_nothing() -> None:
    blind = House(at(GateState.THROTTLED, 0.2, stale=True))
    await blind.loop().tick(NOW)
    plain = House(at(GateState.THROTTLED, 0.2), POOL.model_copy(update={"surge": None}))
    await plain.loop().tick(NOW)
    assert blind.told == plain.told == []
