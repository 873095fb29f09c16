"""Whether the gateway is alive, whether it can answer, and what it counted."""

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from gateway.demand_meter import DemandPublisher
from gateway.evaluate import Evaluator
from gateway.replies import Reply, Request, json_reply
from gateway.tally import Tally
from tidegate.edges.follower import Follower
from tidegate.snapshot import INTENT, Snapshot, gate_part

_PREFIX: Final = "tidegate_gateway_"


class HealthHandler:
    """Serves `GET /healthz`, `/readyz` and `/metrics`."""

    def __init__(
        self,
        evaluator: Evaluator,
        follower: Follower,
        tally: Tally,
        publisher: DemandPublisher,
    ) -> None:
        self._evaluator = evaluator
        self._follower = follower
        self._registry = CollectorRegistry()
        self._registry.register(_GatewayCollector(evaluator, follower, tally, publisher))
        ProcessCollector(registry=self._registry)

    def alive(self, _: Request) -> Reply:
        """Say that the process serves."""
        return json_reply(200, {"alive": True})

    def ready(self, _: Request) -> Reply:
        """Say whether there is a snapshot to answer from, and how old its parts are."""
        held = self._evaluator.held()
        ages_s = _ages_s(held.snapshot, self._evaluator.now())
        body = {
            "ready": held.is_ready,
            "versions": held.snapshot.versions(),
            "age_s": {part: round(age_s, 3) for part, age_s in ages_s.items()},
            "redis_up": self._follower.redis_up is True,
        }
        return json_reply(200 if held.is_ready else 503, body)

    def metrics(self, _: Request) -> Reply:
        """Return the counts in Prometheus' text format."""
        body = generate_latest(self._registry)
        return Reply(200, body, ((b"content-type", CONTENT_TYPE_LATEST.encode()),))


def _ages_s(snapshot: Snapshot, now: float) -> dict[str, float]:
    ages_s = {gate_part(pool): now - gate.issued_at for pool, gate in snapshot.gates.items()}
    if snapshot.intent is not None:
        ages_s[INTENT] = now - snapshot.intent.issued_at
    return ages_s


class _GatewayCollector(Collector):
    """Reads the counts when scraped, so that a request only adds one to one number."""

    def __init__(
        self,
        evaluator: Evaluator,
        follower: Follower,
        tally: Tally,
        publisher: DemandPublisher,
    ) -> None:
        self._evaluator = evaluator
        self._follower = follower
        self._tally = tally
        self._publisher = publisher

    def collect(self) -> Iterator[Metric]:
        decisions = CounterMetricFamily(
            _PREFIX + "decisions", "Requests decided.", labels=["pool", "tier", "code"]
        )
        for kind, count in sorted(self._tally.counts.items()):
            decisions.add_metric(list(kind), count)
        yield decisions
        snapshot = self._evaluator.held().snapshot
        yield _by_part("snapshot_version", "Version held.", snapshot.versions())
        ages_s = _ages_s(snapshot, self._evaluator.now())
        yield _by_part("snapshot_age_seconds", "Seconds since it was issued.", ages_s)
        redis_up = 1.0 if self._follower.redis_up else 0.0
        yield GaugeMetricFamily(_PREFIX + "redis_up", "1 while Redis answers.", value=redis_up)
        yield CounterMetricFamily(
            _PREFIX + "readings_dropped",
            "Demand readings that could not be published.",
            value=self._publisher.dropped,
        )
        yield CounterMetricFamily(
            _PREFIX + "quota_uses_unknown",
            "Uses decided by a quota's onLost, since Redis could not be asked.",
            value=self._evaluator.quotas.unknown,
        )
        yield GaugeMetricFamily(
            _PREFIX + "quota_leases",
            "Leases of users' quotas held.",
            value=self._evaluator.quotas.leases,
        )


def _by_part(name: str, documentation: str, values: dict[str, float] | dict[str, int]) -> Metric:
    family = GaugeMetricFamily(_PREFIX + name, documentation, labels=["part"])
    for part, value in values.items():
        family.add_metric([part], value)
    return family
