"""A Deployment under a real HPA that syncs when a test lets it, beside the replay's model of it."""

import asyncio
import copy
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.replay.hpa import ExternalMetric, HpaController, HpaTerms, Metric, PodsMetric
from embedded.kubernetes.pod_runner import RUNS
from tests.embedded.until import until
from tests.kubernetes.cluster import Cluster, Manifest
from tests.kubernetes.metrics_api import MetricsApi, Readings, Syncs

TERMS: Final = HpaTerms(most=24, window_s=2.0, period_s=1.0)
METRICS: Final[Mapping[str, Metric]] = {
    "utilisation": PodsMetric(0.5),
    "waiting": PodsMetric(1.0),
    "requests": ExternalMetric(3.5),
}
_CLOCKS_S: Final = 0.2
"""The controller reads its clock at most so much later than the test does."""
_POOL: Final = "chat"
_MARKER: Final = "marker"


@dataclass(frozen=True, slots=True)
class Load:
    """What there is to read: means over the pods that serve, and a total; None if absent."""

    utilisation: float | None = None
    waiting: float | None = None
    requests: float | None = None
    still_loading: bool = False
    """Whether the pods that were added have no metric yet."""


@dataclass(frozen=True, slots=True)
class Synced:
    """One sync, and the replicas after it: by the model, and as they are written."""

    load: Load
    ready: int
    loading: int
    modelled: int
    written: int


@dataclass
class Autoscaled:
    """A Deployment, its HPA, and the course of their syncs."""

    cluster: Cluster
    namespace: str
    names: tuple[str, ...]
    """Of the HPA's metrics."""
    model: HpaController
    syncs: Syncs
    asked: "asyncio.Future[Readings]"
    """The sync that is under way, and waits for its readings."""
    serving: set[str] = field(default_factory=set)
    marker_is_ready: bool = False
    course: list[Synced] = field(default_factory=list)

    async def sync(self, load: Load) -> int:
        """Have the controller read this, and wait for its next sync; returns what it wrote."""
        pods = await self._pods_at_rest()
        if not load.still_loading:
            await asyncio.gather(*(self._say_ready(pod) for pod in pods - self.serving))
            self.serving |= pods
        await self._until_the_controllers_know()
        ready = len(pods & self.serving)
        seen = [getattr(load, name) for name in self.names], ready, len(pods) - ready
        await until(lambda: self._is_beyond_doubt(seen), 20.0)
        modelled = self.model.sync(*seen, time.monotonic())
        self.asked.set_result(self._readings(load, pods))
        self.asked = await self.syncs.next()
        written = await self._replicas()
        self.course.append(Synced(load, *seen[1:], modelled, written))
        return written

    async def sync_until(self, load: Load, holds: Callable[[int], bool]) -> list[int]:
        """Have it read the same until what it writes is so; returns all that it wrote."""
        written = [await self.sync(load)]
        while not holds(written[-1]):
            assert len(written) < 40, self.course
            written.append(await self.sync(load))
        return written

    def differences(self) -> list[Synced]:
        """Return the syncs at which the model does not write what the controller did."""
        return [each for each in self.course if each.modelled != each.written]

    def _is_beyond_doubt(self, seen: tuple[list[float | None], int, int]) -> bool:
        """Say whether a clock that is a little early or late would come to the same."""
        now = time.monotonic()
        early, late = (
            copy.deepcopy(self.model).sync(*seen, now + shift) for shift in (-_CLOCKS_S, _CLOCKS_S)
        )
        return early == late

    def _readings(self, load: Load, pods: set[str]) -> Readings:
        """Spread what is to be read; pods that are leaving have readings too, high ones."""
        leaving = dict.fromkeys(self.serving - pods, 9.0)
        told: dict[str, Mapping[str, float]] = {}
        for name in self.names:
            value = getattr(load, name)
            if value is None:
                told[name] = {}
            elif isinstance(METRICS[name], ExternalMetric):
                told[name] = {"here": min(value, 2.0), "there": value - min(value, 2.0)}
            else:
                told[name] = _around(value, sorted(pods & self.serving)) | leaving
        return told

    async def _replicas(self) -> int:
        found = await self.cluster.api.get(_in(self.namespace, "apps/v1", "deployments", _POOL))
        return int(found["spec"]["replicas"])

    async def _pods_at_rest(self) -> set[str]:
        """Return the pods once there are as many as are written, and all of them run."""
        replicas = await self._replicas()
        living: list[Mapping[str, Any]] = []

        async def are_there() -> bool:
            found = await self._pods(_POOL)
            living[:] = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
            running = [pod for pod in living if pod["status"]["phase"] == "Running"]
            return len(living) == len(running) == replicas

        await until(are_there, 30.0)
        return {pod["metadata"]["name"] for pod in living}

    async def _pods(self, app: str) -> list[Mapping[str, Any]]:
        query = {"labelSelector": f"app={app}"}
        found = await self.cluster.api.get(_in(self.namespace, "v1", "pods"), query=query)
        return list(found["items"])

    async def _say_ready(self, pod: str, *, is_ready: bool = True) -> None:
        """Write a pod's condition, as its kubelet would."""
        conditions = [{"type": "Ready", "status": "True" if is_ready else "False"}]
        path = f"{_in(self.namespace, 'v1', 'pods', pod)}/status"
        await self.cluster.api.merge(path, {"status": {"conditions": conditions}})

    async def _until_the_controllers_know(self) -> None:
        """Wait until the controllers' copy of the pods is as new as what is there now.

        All of them read one copy, which takes changes in their order: once a ReplicaSet counts a
        change that was made after all others, those are in it too.
        """
        self.marker_is_ready = not self.marker_is_ready
        (marker,) = await self._pods(_MARKER)
        await self._say_ready(marker["metadata"]["name"], is_ready=self.marker_is_ready)

        async def is_counted() -> bool:
            path = _in(self.namespace, "apps/v1", "replicasets", _MARKER)
            found = await self.cluster.api.get(path)
            return bool(found["status"].get("readyReplicas", 0)) is self.marker_is_ready

        await until(is_counted, 20.0)
        # What the next sync finds; the one under way has read it before.
        path = f"{_in(self.namespace, 'apps/v1', 'deployments', _POOL)}/scale"

        async def is_told() -> bool:
            scale = await self.cluster.api.get(path)
            return bool(scale["status"]["replicas"] == scale["spec"]["replicas"])

        await until(is_told, 20.0)


@asynccontextmanager
async def autoscaled(
    cluster: Cluster, metrics: MetricsApi, *names: str, replicas: int
) -> AsyncIterator[Autoscaled]:
    """Put a Deployment under an HPA on these metrics, and take the HPA away afterwards."""
    namespace = await cluster.namespace()
    syncs = metrics.syncs(namespace, names[0])
    model = HpaController(TERMS, [METRICS[name] for name in names])
    for kind, app, size in (("ReplicaSet", _MARKER, 1), ("Deployment", _POOL, replicas)):
        path = _in(namespace, "apps/v1", f"{kind.lower()}s")
        await cluster.api.post(path, _workload(kind, app, size))
    path = _in(namespace, "autoscaling/v2", _HPAS)
    await cluster.api.post(path, _hpa(names))
    asked = await syncs.next()
    it = Autoscaled(cluster, namespace, names, model, syncs, asked)
    yield it
    await cluster.api.delete(f"{path}/{_POOL}")
    it.asked.set_result({name: {} for name in names})


_HPAS: Final = "horizontalpodautoscalers"


def _in(namespace: str, version: str, resource: str, name: str | None = None) -> str:
    root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    path = f"{root}/namespaces/{namespace}/{resource}"
    return path if name is None else f"{path}/{name}"


def _around(mean: float, pods: list[str]) -> dict[str, float]:
    """Return readings of which this is the mean, whole thousandths apart."""
    apart = min(40, int(mean * 1000)) / 1000
    shifts = [apart, -apart] * (len(pods) // 2) + [0.0] * (len(pods) % 2)
    return {pod: mean + shift for pod, shift in zip(pods, shifts, strict=True)}


def _workload(kind: str, app: str, replicas: int) -> Manifest:
    labels = {"app": app}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": app},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                # It runs at once, and is ready when the test says so.
                "metadata": {"labels": labels, "annotations": {RUNS: "here"}},
                "spec": {"containers": [{"name": "engine", "image": "engine"}]},
            },
        },
    }


def _hpa(names: tuple[str, ...]) -> Manifest:
    period_s, window_s = int(TERMS.period_s), int(TERMS.window_s)
    up = [
        {"type": kind, "value": value, "periodSeconds": period_s}
        for kind, value in (("Pods", 4), ("Percent", 100))
    ]
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": _POOL},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": _POOL},
            "maxReplicas": TERMS.most,
            "metrics": [_metric(name, METRICS[name]) for name in names],
            "behavior": {
                "scaleUp": {"policies": up},
                "scaleDown": {"stabilizationWindowSeconds": window_s},
            },
        },
    }


def _metric(name: str, metric: Metric) -> Manifest:
    assert isinstance(metric, PodsMetric | ExternalMetric)
    kind = "Pods" if isinstance(metric, PodsMetric) else "External"
    target = {"type": "AverageValue", "averageValue": f"{metric.target * 1000:.0f}m"}
    return {"type": kind, kind.lower(): {"metric": {"name": name}, "target": target}}
