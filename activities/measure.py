"""Measure: look once at each of a stage's checks."""

from collections.abc import Callable, Mapping

from temporalio import activity

from tidegate.checks import TIER, CheckSpec
from tidegate.edges.prometheus import Prometheus
from tidegate.edges.redis import Redis
from tidegate.errors import Unavailable
from tidegate.messages.rollout import Measurement
from tidegate.rules.measures import queue_wait
from tidegate.rules.verdict import Look, Verdict, judge_queue_wait, judge_value, worst


def _now() -> float:
    return activity.info().started_time.timestamp()


class Measure:
    """Reads the pool's engines, asks Prometheus, and judges."""

    def __init__(
        self, redis: Redis, prometheus: Prometheus, clock: Callable[[], float] = _now
    ) -> None:
        """`clock` returns the instant that readings are as old as, in seconds since the epoch."""
        self._redis = redis
        self._prometheus = prometheus
        self._clock = clock

    @activity.defn(name="measure")
    async def measure(self, asked: Measurement) -> Mapping[str, Look]:
        """Return what each check says now, by name; what cannot be read is inconclusive."""
        return {
            check.name: await self._look(check, asked)
            for check in asked.checks
            if check.answer is None
        }

    async def _look(self, check: CheckSpec, asked: Measurement) -> Look:
        if check.query is None:
            nodes, _ = await self._redis.readings(gpus=False)
            read = queue_wait(nodes, asked.pool, now=self._clock(), limit_s=asked.limit_s)
            return judge_queue_wait(check, read)
        by_tier = TIER in check.query or TIER in (check.baseline or "")
        tiers = asked.tiers if by_tier else ("",)
        return worst([await self._ask(check, tier) for tier in tiers])

    async def _ask(self, check: CheckSpec, tier: str) -> Look:
        about = f"{tier}: " if tier else ""
        try:
            value = await self._prometheus.ask((check.query or "").replace(TIER, tier))
            baseline = (
                None
                if check.baseline is None
                else await self._prometheus.ask(check.baseline.replace(TIER, tier))
            )
        except Unavailable as error:
            return Look(Verdict.INCONCLUSIVE, f"{about}{error}")
        look = judge_value(check, value, baseline)
        return Look(look.verdict, f"{about}{look.reason}")
