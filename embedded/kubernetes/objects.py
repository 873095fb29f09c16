"""What a cluster is filled with: nodes with GPUs, and the Deployment of a pool."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tidegate.edges.kubernetes.reading import GPU_TYPE_LABEL, POOL_LABEL

PORT: Final = 8000
"""Where an engine serves; each pod has an address of its own."""

Manifest = Mapping[str, Any]


def gpu_node(name: str, gpus: int, gpu_type: str) -> Manifest:
    """Return a node that KWOK plays; it takes only as many pods as it has GPUs for."""
    there = {"cpu": "128", "memory": "1Ti", "pods": "110", "nvidia.com/gpu": str(gpus)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {GPU_TYPE_LABEL: gpu_type, "kubernetes.io/hostname": name},
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "status": {"allocatable": there, "capacity": there},
    }


def pool_deployment(
    pool: str,
    *,
    gpus: int = 1,
    annotations: Mapping[str, str] | None = None,
    command: Sequence[str] = ("serve",),
    replicas: int = 1,
) -> Manifest:
    """Return the Deployment of a pool; from its first `replicas` on, Tidegate says how many."""
    labels = {POOL_LABEL: pool}
    container = {
        "name": "engine",
        "image": "engine",
        "command": list(command),
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": {"limits": {"nvidia.com/gpu": str(gpus)}},
        "readinessProbe": {"httpGet": {"path": "/health", "port": PORT}, "periodSeconds": 1},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": pool, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            # An engine that is replaced gives up its GPUs first: there may be no others.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0}},
            "template": {
                "metadata": {"labels": labels, "annotations": dict(annotations or {})},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 5},
            },
        },
    }
