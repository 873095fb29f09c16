"""What the objects of a cluster say: pools and their pods, GPUs by type, who scales what."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tidegate.cluster import NodeGpus, Pod, PodPhase, PoolStatus
from tidegate.edges.kubernetes.api import Json

POOL_LABEL: Final = "tidegate.dev/pool"
"""On a workload and on its pods: the pool that they are."""
GPU_TYPE_LABEL: Final = "tidegate.dev/gpu-type"
"""On a node: the GPU type, as budgets call it. Without it, what the GPU operator found."""
_FOUND_LABEL: Final = "nvidia.com/gpu.product"
PORT_ANNOTATION: Final = "tidegate.dev/port"
"""On a pod: where its engine serves; without it, its first named port `http`, or the first."""
_GPUS: Final = "nvidia.com/gpu"
_LEADERS: Final = "leaderworkerset.sigs.k8s.io/worker-index"
"""A group of pods is one replica, and its leader stands for it."""
MANAGER: Final = "tidegate"


@dataclass(frozen=True, slots=True)
class Workload:
    """What a pool is in a cluster: an object with a `scale`."""

    pool: str
    kind: str
    name: str
    namespace: str
    path: str
    """Of the object; its scale is beneath."""
    uid: str
    version: str
    created_at: datetime
    replicas: int
    gpus_per_replica: int
    scaled: "ByHand | None"
    """The last change of its replicas that was not ours."""

    @property
    def told(self) -> str:
        """Its kind and name, as people write them."""
        return f"{self.kind} {self.name}"

    @property
    def is_custom(self) -> bool:
        """Whether its kind is none of Kubernetes' own."""
        return not self.path.startswith("/apis/apps/")


@dataclass(frozen=True, slots=True)
class ByHand:
    """A manager other than Tidegate that owns `replicas`, and since when, where that is kept."""

    manager: str
    at: datetime | None


def read_workload(found: Json, *, kind: str, collection: str) -> Workload | None:
    """Read a workload; None where it belongs to another, which is then the one that is scaled.

    `collection` is the path of its kind in its namespace.
    """
    meta, spec = found["metadata"], found.get("spec", {})
    if any(owner.get("controller") for owner in meta.get("ownerReferences", ())):
        return None
    created_at = datetime.fromisoformat(meta["creationTimestamp"])
    return Workload(
        pool=meta["labels"][POOL_LABEL],
        kind=kind,
        name=meta["name"],
        namespace=meta["namespace"],
        path=f"{collection}/{meta['name']}",
        uid=meta["uid"],
        version=meta["resourceVersion"],
        created_at=created_at,
        replicas=int(spec.get("replicas", 1)),
        gpus_per_replica=_gpus_of_replica(spec),
        scaled=_by_hand(meta.get("managedFields", ()), created_at),
    )


def _gpus_of_replica(spec: Json) -> int:
    """Count the GPUs of one replica, which may be a group of pods."""
    group = spec.get("leaderWorkerTemplate")
    if group is None:
        return max(1, _gpus_of_pod(spec.get("template", {}).get("spec", {})))
    workers = _gpus_of_pod(group["workerTemplate"]["spec"])
    leader = group.get("leaderTemplate")
    led = workers if leader is None else _gpus_of_pod(leader["spec"])
    return max(1, led + (int(group.get("size", 1)) - 1) * workers)


def _gpus_of_pod(spec: Json) -> int:
    containers = spec.get("containers", ())
    limits = (each.get("resources", {}).get("limits", {}) for each in containers)
    return sum(int(limit.get(_GPUS, 0)) for limit in limits)


def _by_hand(managed: Iterable[Json], created_at: datetime) -> ByHand | None:
    """Say who, other than Tidegate, has set `replicas` since the workload was created."""
    found = [
        ByHand(each["manager"], datetime.fromisoformat(each["time"]) if "time" in each else None)
        for each in managed
        if "f:replicas" in each.get("fieldsV1", {}).get("f:spec", {}) and each["manager"] != MANAGER
    ]
    later = [each for each in found if each.at is None or each.at > created_at]
    return max(later, key=lambda each: (each.at is None, each.at or created_at), default=None)


def read_pod(found: Json) -> Pod | None:
    """Read a pod of a pool; None where it is over, or stands for no replica of its own."""
    meta, status = found["metadata"], found.get("status", {})
    if status.get("phase") in {"Succeeded", "Failed"}:
        return None
    if meta.get("labels", {}).get(_LEADERS, "0") != "0":
        return None
    ready = _condition(status, "Ready")
    is_ready = ready is not None and ready["status"] == "True"
    return Pod(
        name=meta["name"],
        phase=_phase(found, is_ready=is_ready),
        address=_address(found),
        created_at=datetime.fromisoformat(meta["creationTimestamp"]).timestamp(),
        ready_at=_instant(ready) if is_ready and ready is not None else None,
        uid=meta["uid"],
    )


def _phase(found: Json, *, is_ready: bool) -> PodPhase:
    if "deletionTimestamp" in found["metadata"]:
        return PodPhase.DRAINING
    if is_ready:
        return PodPhase.READY
    return PodPhase.LOADING if found["spec"].get("nodeName") else PodPhase.PENDING


def _address(found: Json) -> str | None:
    ip = found.get("status", {}).get("podIP")
    port = found["metadata"].get("annotations", {}).get(PORT_ANNOTATION) or _port(found["spec"])
    if ip is None or port is None:
        return None
    return f"http://[{ip}]:{port}" if ":" in ip else f"http://{ip}:{port}"


def _port(spec: Json) -> str | None:
    ports = [port for each in spec.get("containers", ()) for port in each.get("ports", ())]
    named = [port for port in ports if port.get("name") == "http"]
    return str((named or ports)[0]["containerPort"]) if ports else None


def read_nodes(nodes: Iterable[Json]) -> Mapping[str, NodeGpus]:
    """Read the GPUs of every node; one that is ready and not cordoned takes pods."""
    return {node["metadata"]["name"]: _read_node(node) for node in nodes}


def _read_node(node: Json) -> NodeGpus:
    labels, status = node["metadata"].get("labels", {}), node.get("status", {})
    usable = int(status.get("allocatable", {}).get(_GPUS, 0))
    ready = _condition(status, "Ready")
    is_ready = ready is not None and ready["status"] == "True"
    return NodeGpus(
        gpu_type=labels.get(GPU_TYPE_LABEL) or labels.get(_FOUND_LABEL, "").lower() or None,
        usable=usable,
        withdrawn=max(0, int(status.get("capacity", {}).get(_GPUS, 0)) - usable),
        takes_pods=is_ready and not node.get("spec", {}).get("unschedulable", False),
    )


def gpus_by_type(nodes: Iterable[NodeGpus]) -> Mapping[str, int]:
    """Count GPUs by type; of a type whose nodes take no pods there are none."""
    gpus: dict[str, int] = {}
    for node in nodes:
        if node.gpu_type is not None and (node.usable or node.withdrawn):
            gpus[node.gpu_type] = gpus.get(node.gpu_type, 0) + node.counted
    return gpus


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """Somebody else that scales a workload."""

    kind: str
    name: str
    target: tuple[str, str]
    """Kind and name."""

    @property
    def told(self) -> str:
        """Its kind and name, as people write them."""
        return f"{self.kind} {self.name}"


def read_autoscaler(found: Json, *, kind: str) -> Autoscaler:
    """Read a HorizontalPodAutoscaler, or a KEDA ScaledObject, whose target is a Deployment."""
    target = found["spec"]["scaleTargetRef"]
    name = found["metadata"]["name"]
    return Autoscaler(kind, name, (target.get("kind", "Deployment"), target["name"]))


def scaler_of(workload: Workload, scalers: Iterable[Autoscaler]) -> Autoscaler | None:
    """Say who else scales a workload; None where nobody does."""
    target = (workload.kind, workload.name)
    return next((each for each in scalers if each.target == target), None)


def read_pool(
    workloads: Sequence[Workload], pods: Iterable[Pod], scalers: Iterable[Autoscaler]
) -> PoolStatus:
    """Put together what is known of one pool, by the oldest of its workloads."""
    first = workloads[0]
    owner = scaler_of(first, scalers)
    return PoolStatus(
        name=first.pool,
        replicas=first.replicas,
        gpus_per_replica=first.gpus_per_replica,
        pods=tuple(sorted(pods, key=lambda pod: (pod.created_at, pod.name))),
        scaled_by=MANAGER if owner is None else owner.told,
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """What a PodDisruptionBudget has stay of a pool's pods."""

    budget: str
    pods: int | None
    """None where its controller has not said yet."""


def kept_by(budgets: Iterable[Json], labels: Mapping[str, str]) -> Kept | None:
    """Say which PodDisruptionBudget has most pods with these labels stay; None where none does.

    By how many it wants healthy, and not by the disruptions that it allows: those are of before
    the last pods went.
    """
    found = [
        Kept(str(each["metadata"]["name"]), each.get("status", {}).get("desiredHealthy"))
        for each in budgets
        if _selects(each["spec"].get("selector") or {}, labels)
    ]
    unsaid = next((each for each in found if each.pods is None), None)
    return unsaid or max(found, key=lambda each: each.pods or 0, default=None)


def _selects(selector: Json, labels: Mapping[str, str]) -> bool:
    """Say whether a label selector takes in these labels; an empty one takes in all."""
    wanted = selector.get("matchLabels", {})
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_meets(each, labels) for each in selector.get("matchExpressions", ()))


def _meets(expression: Json, labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    match expression["operator"]:
        case "In":
            return value in expression["values"]
        case "NotIn":
            return value not in expression["values"]
        case "Exists":
            return value is not None
        case _:
            return value is None


def _condition(status: Json, kind: str) -> Json | None:
    conditions: Iterable[Json] = status.get("conditions", ())
    return next((each for each in conditions if each["type"] == kind), None)


def _instant(condition: Json) -> float | None:
    told = condition.get("lastTransitionTime")
    return None if told is None else datetime.fromisoformat(told).timestamp()
