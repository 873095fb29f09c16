"""Kubernetes: inference pools, and who leads."""

from tidegate.edges.kubernetes.api import KubernetesApi
from tidegate.edges.kubernetes.pools import KubernetesPools

__all__ = ["KubernetesApi", "KubernetesPools"]
