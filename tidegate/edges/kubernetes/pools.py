"""Inference pools on Kubernetes: followed by informers, scaled through `scale` and nothing else."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Self

import structlog

from tidegate.cluster import ClusterState, Pod, PoolStatus
from tidegate.edges.kubernetes.api import DEADLINE_S, Conflict, Json, KubernetesApi, Throttled
from tidegate.edges.kubernetes.informer import Informer
from tidegate.edges.kubernetes.reading import (
    MANAGER,
    POOL_LABEL,
    Autoscaler,
    Workload,
    gpus_by_type,
    kept_by,
    read_autoscaler,
    read_nodes,
    read_pod,
    read_pool,
    read_workload,
    scaler_of,
)
from tidegate.errors import Refused, TidegateError, Unavailable
from tidegate.quantities import counted

log = structlog.get_logger()

RESPECTED: Final = timedelta(minutes=10)
"""How long a size that somebody else has set is left alone."""

_DISCOVER_EVERY_S: Final = 30.0
_TRIES: Final = 5
_DISCOVERY: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_OF_ANOTHER: Final = frozenset({"ReplicaSet", "ReplicationController"})
"""They have a scale, which is their Deployment's to write."""
_KEDA: Final = ("keda.sh", "ScaledObject")


@dataclass(frozen=True, slots=True)
class _Kind:
    kind: str
    name: str
    """Whatever its version: the group, and the resource."""
    collection: str
    """The path of its objects in the namespace."""
    is_scalable: bool


class KubernetesPools:
    """A `Cluster` of the workloads in one namespace that carry the label of a pool.

    `observe` raises Unavailable from the moment that one of its watches is broken: nobody decides
    on what may be old.
    """

    def __init__(
        self, api: KubernetesApi, namespace: str, discover_every_s: float = _DISCOVER_EVERY_S
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._discover_every_s = discover_every_s
        self._kinds: dict[str, _Kind] = {}
        self._workloads: dict[str, Informer] = {}
        self._scalers: dict[str, Informer] = {}
        # Above every revision of whoever followed before.
        self._revision = int(time.time() * 1000)
        self._changed = asyncio.Event()
        core = f"/api/v1/namespaces/{namespace}"
        self._pods = self._informer(f"{core}/pods", selector=POOL_LABEL)
        self._nodes = self._informer("/api/v1/nodes")
        self._budgets = self._informer(
            f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"
        )
        self._written: dict[str, tuple[int, int]] = {}
        """By uid, what was written last: its resource version, and the replicas."""
        self._noticed: dict[tuple[str, str, int], datetime] = {}
        """When a size of somebody else's was first seen, where the server does not say."""
        self._following: asyncio.Task[None] | None = None
        self._state: ClusterState | None = None
        """As of the last revision that was asked for."""

    async def __aenter__(self) -> Self:
        self._following = asyncio.create_task(self._follow(), name="follow the cluster")
        self._following.add_done_callback(lambda _: self._note_change())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    async def observe(self, *, after: int | None = None, wait_s: float = 0.0) -> ClusterState:
        """Return the state, at the latest when `wait_s` has passed without one newer than `after`.

        Raises Unavailable while any of it may be old, and Refused where it may not be read.
        """
        if self._state is None:
            await self._until(lambda: self._absent() is None, DEADLINE_S)
        await self._until(lambda: self._revision != after, wait_s)
        absent = self._absent()
        if absent is not None:
            raise Unavailable(str(absent), code=absent.code)
        if self._state is None or self._state.revision != self._revision:
            nodes = read_nodes(self._nodes.objects.values())
            self._state = ClusterState(
                revision=self._revision,
                gpus=gpus_by_type(nodes.values()),
                pools=self._read_pools(),
                nodes=nodes,
            )
        return self._state

    async def scale(self, pool: str, replicas: int) -> None:
        """Write the pool's `scale`, as the field manager `tidegate`, and nothing else.

        Goes as far down as PodDisruptionBudgets allow now. Raises Refused where another scales
        the pool, where somebody has changed it by hand lately, or where it has changed since it
        was read; Unavailable when nobody answers.
        """
        first = self._only_workload(pool)
        for _ in range(_TRIES):
            workload = self._only_workload(pool)
            self._refuse_what_another_scales(workload)
            self._refuse_what_was_changed_by_hand(workload, datetime.now(UTC))
            if workload.replicas != first.replicas:
                break
            try:
                await self._write(workload, self._as_far_as_budgets_allow(workload, replicas))
            except Conflict:  # most often its status alone
                await self._until_newer(workload)
            else:
                return
        message = f'pool "{pool}": {first.told} has changed since it was looked at.'
        raise Refused(message, code="changed-meanwhile")

    async def _write(self, workload: Workload, replicas: int) -> None:
        """Write a size, onto the very version that was decided on."""
        meta = {"name": workload.name, "namespace": self._namespace, "uid": workload.uid}
        scale = {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {**meta, "resourceVersion": workload.version},
            "spec": {"replicas": replicas},
        }
        path = f"{workload.path}/scale"
        if workload.is_custom:
            # The server takes no server-side apply to the scale of a custom resource: error 500.
            written = await self._api.update(path, scale, manager=MANAGER)
        else:
            written = await self._api.apply(path, scale, manager=MANAGER, force=True)
        self._written[workload.uid] = (int(written["metadata"]["resourceVersion"]), replicas)
        self._note_change()

    # What another decides.

    def _refuse_what_another_scales(self, workload: Workload) -> None:
        scaler = scaler_of(workload, self._read_scalers())
        if scaler is not None:
            raise Refused(
                f'pool "{workload.pool}": {scaler.told} already scales {workload.told}, not '
                f'"{MANAGER}". Delete that object or drop the pool.',
                code="scaled_by_another",
            )

    def _refuse_what_was_changed_by_hand(self, workload: Workload, now: datetime) -> None:
        changed = workload.scaled
        if changed is None:
            return
        key = (workload.uid, changed.manager, workload.replicas)
        at = changed.at or self._noticed.setdefault(key, now)
        if now < at + RESPECTED:
            raise Refused(
                f'pool "{workload.pool}": {changed.manager} set {workload.told} to '
                f"{counted(workload.replicas, 'replica')} at {at:%H:%M:%S}, which is respected "
                f"until {at + RESPECTED:%H:%M:%S} UTC.",
                code="changed-by-hand",
            )

    def _as_far_as_budgets_allow(self, workload: Workload, replicas: int) -> int:
        """Return how far a pool may shrink now; raises Refused where it may not at all."""
        pods = (each for each in self._pods.objects.values() if _pool_of(each) == workload.pool)
        pod = next(pods, None)
        if replicas >= workload.replicas or pod is None:
            return replicas
        kept = kept_by(self._budgets.objects.values(), pod["metadata"]["labels"])
        if kept is None:
            return replicas
        if kept.pods is None or kept.pods >= workload.replicas:
            stay = "has not said yet how many" if kept.pods is None else f"has {kept.pods}"
            raise Refused(
                f'pool "{workload.pool}": PodDisruptionBudget {kept.budget} {stay} stay, so none '
                f"of {counted(workload.replicas, 'replica')} is taken away.",
                code="disruption-budget",
            )
        return max(replicas, kept.pods)

    # Reading.

    def _read_pools(self) -> Mapping[str, PoolStatus]:
        scalers = list(self._read_scalers())
        pods: dict[str, list[Pod]] = defaultdict(list)
        for found in self._pods.objects.values():
            pod = read_pod(found)
            if pod is not None:
                pods[_pool_of(found)].append(pod)
        return {
            name: read_pool(workloads, pods.get(name, ()), scalers)
            for name, workloads in self._read_workloads().items()
        }

    def _read_workloads(self, pool: str | None = None) -> Mapping[str, list[Workload]]:
        """Read the workloads of each pool, or of one, the oldest first."""
        found: dict[str, list[Workload]] = defaultdict(list)
        for path, informer in self._workloads.items():
            for each in informer.objects.values():
                if pool is not None and _pool_of(each) != pool:
                    continue
                workload = read_workload(each, kind=self._kinds[path].kind, collection=path)
                if workload is not None:
                    found[workload.pool].append(self._as_written(workload))
        for workloads in found.values():
            workloads.sort(key=lambda each: (each.created_at, each.name))
        return found

    def _as_written(self, workload: Workload) -> Workload:
        """Return a workload as this wrote it last, where the watch has not told of that yet."""
        version, replicas = self._written.get(workload.uid, (0, 0))
        if version <= int(workload.version):
            return workload
        return replace(workload, version=str(version), replicas=replicas, scaled=None)

    def _read_scalers(self) -> Iterator[Autoscaler]:
        for path, informer in self._scalers.items():
            for each in informer.objects.values():
                yield read_autoscaler(each, kind=self._kinds[path].kind)

    def _only_workload(self, pool: str) -> Workload:
        workloads = self._read_workloads(pool).get(pool)
        if not workloads:
            raise Refused(
                f'pool "{pool}": nothing in the namespace "{self._namespace}" has the label '
                f'"{POOL_LABEL}: {pool}". Label its Deployment, and its pods.',
                code="unknown_pool",
            )
        if len(workloads) > 1:
            told = ", ".join(each.told for each in workloads)
            raise Refused(
                f'pool "{pool}": {told} all have the label "{POOL_LABEL}". Leave it on one.',
                code="ambiguous-pool",
            )
        return workloads[0]

    # Following.

    async def _follow(self) -> None:
        """Find out which kinds have a scale, and follow them and all that bears on them.

        Goes on to look for kinds: one may be installed, or taken out and installed again, later.
        """
        async with asyncio.TaskGroup() as group:
            for informer in (self._pods, self._nodes, self._budgets):
                group.create_task(informer.follow())
            while True:
                asked_s = 0.0
                try:
                    await self._discover(group)
                except Unavailable as error:
                    log.warning("kubernetes.not_followed", path="/apis", reason=str(error))
                    asked_s = error.retry_after_s if isinstance(error, Throttled) else 0.0
                # Until the first answer nothing is known, and all is held.
                await asyncio.sleep(max(self._discover_every_s if self._kinds else 1.0, asked_s))

    async def _discover(self, group: asyncio.TaskGroup) -> None:
        """Follow each kind that was not known yet."""
        found = await self._api.get("/apis", accept=_DISCOVERY)
        # By another version the same objects would be seen twice: it is followed when this is gone.
        known = {each.name for each in self._kinds.values()}
        new = [each for each in self._kinds_in(found) if each.name not in known]
        for kind in new:
            path = kind.collection
            self._kinds[path] = kind
            if kind.is_scalable:
                informer = self._workloads[path] = self._informer(path, selector=POOL_LABEL)
                group.create_task(self._follow_where_allowed(path, informer))
            else:
                informer = self._scalers[path] = self._informer(path)
                group.create_task(self._follow_where_there(path, informer))
        if new:
            self._note_change()

    async def _follow_where_allowed(self, path: str, informer: Informer) -> None:
        """Follow a kind of workload; one that may not be read, or that is gone, is no pool's.

        What is gone may come back; a role that names another kind takes a new start.
        """
        try:
            await informer.follow()
        except Refused as refusal:
            log.info("kubernetes.not_followed", path=path, reason=str(refusal))
            del self._workloads[path]
            if refusal.code == "not-found":
                del self._kinds[path]
            self._note_change()

    async def _follow_where_there(self, path: str, informer: Informer) -> None:
        """Follow a kind of autoscaler; one that was taken out of the cluster scales nothing more.

        Raises Refused where it may not be read: nobody could say then who scales a pool.
        """
        try:
            await informer.follow()
        except Refused as refusal:
            if refusal.code != "not-found":
                raise
            log.info("kubernetes.not_followed", path=path, reason=str(refusal))
            del self._scalers[path], self._kinds[path]
            self._note_change()

    def _kinds_in(self, found: Json) -> Iterator[_Kind]:
        for group in found["items"]:
            name, preferred = group["metadata"]["name"], group["versions"][0]
            for each in preferred["resources"]:
                beneath = {sub["subresource"] for sub in each.get("subresources", ())}
                kind = each.get("responseKind", {}).get("kind", "")
                is_scalable = "scale" in beneath and kind not in _OF_ANOTHER
                is_scaler = kind == "HorizontalPodAutoscaler" or (name, kind) == _KEDA
                if each["scope"] == "Namespaced" and (is_scalable or is_scaler):
                    version = f"/apis/{name}/{preferred['version']}"
                    path = f"{version}/namespaces/{self._namespace}/{each['resource']}"
                    yield _Kind(kind, f"{name}/{each['resource']}", path, is_scalable)

    def _informer(self, path: str, *, selector: str | None = None) -> Informer:
        return Informer(self._api, path, self._note_change, selector=selector)

    def _informers(self) -> list[Informer]:
        more = (*self._workloads.values(), *self._scalers.values())
        return [self._pods, self._nodes, self._budgets, *more]

    def _absent(self) -> Unavailable | None:
        """Return why what is known may be old; raises what has ended the following."""
        following = self._following
        if following is not None and following.done() and not following.cancelled():
            _raise_first(following.exception())
        if not self._kinds:
            message = "kubernetes: the API server has not answered yet. Check that it is running."
            return Unavailable(message, code="kubernetes-unavailable")
        return next((each.absent for each in self._informers() if each.absent is not None), None)

    async def _until_newer(self, workload: Workload) -> None:
        """Wait until the watch has told of a newer version."""
        await self._until(
            lambda: self._only_workload(workload.pool).version != workload.version, 1.0
        )

    async def _until(self, condition: Callable[[], bool], within_s: float) -> None:
        """Wait for a condition that only a change can make true, at most for a while."""
        try:
            async with asyncio.timeout(within_s):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return

    def _note_change(self) -> None:
        self._revision += 1
        self._changed.set()


def _raise_first(error: BaseException | None) -> None:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TidegateError):
        raise error
    if error is not None:
        raise error


def _pool_of(found: Json) -> str:
    return str(found["metadata"]["labels"][POOL_LABEL])
