"""The least of two custom resources that pools may live with; their own controllers do not run."""

from collections.abc import Mapping
from typing import Any, Final

from tests.embedded.until import until
from tests.kubernetes.cluster import Cluster, Manifest
from tidegate.errors import TidegateError

_CRDS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_DISCOVERY: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_ANYTHING: Final = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_REPLICAS: Final = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.hpaPodSelector",
}


def _definition(
    group: str, version: str, kind: str, spec: Manifest, subresources: Manifest
) -> Manifest:
    plural = f"{kind.lower()}s"
    schema = {"type": "object", "properties": {"spec": spec, "status": _ANYTHING}}
    served = {
        "name": version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": subresources,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
            "versions": [served],
        },
    }


_TARGET: Final = {
    "type": "object",
    "required": ["name"],
    "properties": {key: {"type": "string"} for key in ("apiVersion", "kind", "name")},
}
SCALED_OBJECT: Final = _definition(
    "keda.sh",
    "v1alpha1",
    "ScaledObject",
    {**_ANYTHING, "required": ["scaleTargetRef"], "properties": {"scaleTargetRef": _TARGET}},
    {"status": {}},
)
"""KEDA's, which in a cluster of its own makes a HorizontalPodAutoscaler as well."""
LEADER_WORKER_SET: Final = _definition(
    "leaderworkerset.x-k8s.io",
    "v1",
    "LeaderWorkerSet",
    {**_ANYTHING, "properties": {"replicas": {"type": "integer", "default": 1}}},
    {"status": {}, "scale": _REPLICAS},
)


async def install(cluster: Cluster, *definitions: Manifest) -> None:
    """Define custom resources, and wait until whoever asks what there is hears of them."""
    for each in definitions:
        await cluster.api.post(_CRDS, each)

    async def are_told() -> bool:
        found = await cluster.api.get("/apis", accept=_DISCOVERY)
        kinds = {
            resource.get("responseKind", {}).get("kind")
            for group in found["items"]
            for resource in group["versions"][0]["resources"]
        }
        return all(each["spec"]["names"]["kind"] in kinds for each in definitions)

    await until(are_told, 30.0)


async def uninstall(cluster: Cluster, definition: Manifest) -> None:
    """Take a custom resource away, with all of its objects."""
    path = f"{_CRDS}/{definition['metadata']['name']}"
    await cluster.api.delete(path)

    async def is_gone() -> bool:
        try:
            await cluster.api.get(path)
        except TidegateError as error:
            return error.code == "not-found"
        return False

    await until(is_gone, 30.0)


def scaled_object(name: str, /, **target: str) -> Manifest:
    """Make a ScaledObject of this target."""
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name},
        "spec": {"scaleTargetRef": target, "maxReplicaCount": 9, "triggers": []},
    }


def leader_worker_set(pool: str, *, size: int, gpus: int) -> Manifest:
    """Make a LeaderWorkerSet of one group, with so many pods of so many GPUs."""
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": pool, "labels": {"tidegate.dev/pool": pool}},
        "spec": {
            "replicas": 1,
            "leaderWorkerTemplate": {"size": size, "workerTemplate": {"spec": _pod(gpus)}},
        },
    }


def group_pod(pool: str, worker: int, gpus: int) -> Manifest:
    """Make a pod of a group, as the controller of LeaderWorkerSets would."""
    labels = {
        "tidegate.dev/pool": pool,
        "leaderworkerset.sigs.k8s.io/name": pool,
        "leaderworkerset.sigs.k8s.io/group-index": "0",
        "leaderworkerset.sigs.k8s.io/worker-index": str(worker),
    }
    name = f"{pool}-0" if worker == 0 else f"{pool}-0-{worker}"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": _pod(gpus),
    }


def _pod(gpus: int) -> Mapping[str, Any]:
    limits = {"limits": {"nvidia.com/gpu": str(gpus)}}
    return {"containers": [{"name": "engine", "image": "engine", "resources": limits}]}
