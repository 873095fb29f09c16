"""Surges: a gate that narrows starts one for its pool, and each of its moves is heard by it."""

from tidegate.catalogue import PoolSpec
from tidegate.edges.redis import Redis
from tidegate.edges.temporal import ControlPlane
from tidegate.messages.surge import GateMove, SurgeOrder
from tidegate.snapshot import GatePart, GateState

_NARROW = frozenset({GateState.THROTTLED, GateState.WAITLISTED})
"""A gate that reopens has been narrow before, or began at the safe share: no spike by itself."""


class Surges:
    """Reads the gates that are published; a pool that declares no surge has none."""

    def __init__(self, redis: Redis, plane: ControlPlane) -> None:
        self._redis = redis
        self._plane = plane
        self._told: dict[str, GateMove] = {}

    async def tick(self, now: float) -> None:  # noqa: ARG002 - the gates' parts carry the time
        """Tell each pool's surge how its gate stands, where that is news; starts it on a spike.

        Raises Unavailable, and then tells it again the next time.
        """
        gates = {
            name: gate
            for name, gate in (await self._redis.snapshot()).gates.items()
            if not gate.stale and self._told.get(name) != _move(gate)
        }
        if not gates:
            return
        catalogue = await self._plane.catalogue()
        pools = {} if catalogue is None else catalogue.declared.pools
        for name, gate in gates.items():
            order = _order(name, pools.get(name))
            if order is not None:
                await self._plane.tell_surge(order, _move(gate), starts=gate.state in _NARROW)
            self._told[name] = _move(gate)


def _move(gate: GatePart) -> GateMove:
    return GateMove(
        is_open=gate.state is GateState.OPEN,
        lowest_ceiling=min(gate.ceilings.values(), default=1.0),
    )


def _order(name: str, pool: PoolSpec | None) -> SurgeOrder | None:
    if pool is None or pool.surge is None:
        return None
    return SurgeOrder(
        name=name,
        spec=pool.surge,
        gpu_type=pool.gpu_type,
        lead_p50_s=pool.cold_start.p50.total_seconds(),
        lead_p90_s=pool.cold_start.p90.total_seconds(),
    )
