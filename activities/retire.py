"""Tell a model how it goes, look at pools, weigh use: what a retirement asks for."""

from temporalio import activity

from activities.refusing import refusals_are_final
from tidegate.edges.redis import Redis
from tidegate.edges.redis_use import UseLog
from tidegate.edges.temporal import ControlPlane
from tidegate.messages.retirement import ModelAct, PoolsQuestion, PoolsSeen, UseQuestion
from tidegate.readings import Absent
from tidegate.rules.ledger import Ledger, measured_gpus


class Retire:
    """Acts on models, and reads the budgets."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    @activity.defn(name="ask_model")
    async def ask_model(self, asked: ModelAct) -> None:
        """Have a model go as is said, or take over those who are pinned to another."""
        with refusals_are_final():
            if asked.go is not None:
                await self._plane.ask_model(asked.model, "go", asked.go)
            if asked.carry is not None:
                await self._plane.ask_model(asked.model, "carry", asked.carry)

    @activity.defn(name="look_at_pools")
    async def look_at_pools(self, asked: PoolsQuestion) -> PoolsSeen:
        """Return what these pools need and have to spare; unknown where one of them is."""
        needed, spare = [], []
        for ref in asked.pools:
            budget = await self._plane.budget(ref.gpu_type)
            book = Ledger() if budget is None else budget.ledger
            ready, need = book.ready.get(ref.pool), measured_gpus(book, ref.pool)
            needed.append(need)
            spare.append(None if ready is None or need is None else max(0, ready - need))
        return PoolsSeen(needed_gpus=_sum(needed), spare_gpus=_sum(spare))


class Weigh:
    """Reads what gateways counted."""

    def __init__(self, redis: Redis) -> None:
        self._use = UseLog(redis)

    @activity.defn(name="weigh_use")
    async def weigh_use(self, asked: UseQuestion) -> float | None:
        """Return requests a day, weighted by tier; None where a day was not counted."""
        limit = asked.limit
        today = activity.info().started_time.date()
        use = await self._use.use_of(asked.model, limit.over_days, today)
        if isinstance(use, Absent):
            return None
        weighted = (n.requests * limit.weights.get(tier, 1.0) for tier, n in use.items())
        return sum(weighted) / limit.over_days


def _sum(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
