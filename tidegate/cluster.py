"""What controllers see of the place where replicas run, whatever it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class PodPhase(StrEnum):
    """Where a replica is between being wanted and being gone."""

    PENDING = "pending"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Pod:
    """One replica; times are seconds since the epoch, None until they happen."""

    name: str
    phase: PodPhase
    address: str | None
    created_at: float
    ready_at: float | None = None
    gpu: int | None = None
    uid: str | None = None


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """A pool as its cluster reports it: replicas wanted, and the pods that exist."""

    name: str
    replicas: int
    gpus_per_replica: int
    pods: tuple[Pod, ...]
    scaled_by: str | None = None

    def count(self, phase: PodPhase) -> int:
        """Say how many pods are in this phase."""
        return sum(1 for pod in self.pods if pod.phase is phase)

    @property
    def ready_gpus(self) -> int:
        """GPUs under replicas that can serve now."""
        return self.count(PodPhase.READY) * self.gpus_per_replica


@dataclass(frozen=True, slots=True)
class NodeGpus:
    """The GPUs of one node, as its cluster sees them."""

    gpu_type: str | None
    usable: int
    withdrawn: int = 0
    """Those that are not usable: the node's device plugin has found them unhealthy."""
    takes_pods: bool = True

    @property
    def counted(self) -> int:
        """How many of the state's `gpus` are here."""
        return self.usable if self.takes_pods and self.gpu_type is not None else 0


@dataclass(frozen=True, slots=True)
class ClusterState:
    """GPUs installed by type and every pool, at one revision."""

    revision: int
    gpus: Mapping[str, int]
    pools: Mapping[str, PoolStatus]
    nodes: Mapping[str, NodeGpus] | None = None
    """Every node there is; None from a cluster that does not tell them apart."""


class Cluster(Protocol):
    """Where replicas run: local processes or Kubernetes."""

    async def observe(self, *, after: int | None = None, wait_s: float = 0.0) -> ClusterState:
        """Return the state, at the latest when `wait_s` has passed without one newer than `after`.

        Raises Unavailable when the cluster does not answer.
        """
        ...

    async def scale(self, pool: str, replicas: int) -> None:
        """Write the pool's `scale`, as the field manager `tidegate`, and nothing else.

        Raises Refused when another manager owns it, Unavailable when nobody answers.
        """
        ...


class Beside(Protocol):
    """Who knows which pods run where an agent does."""

    async def pods(self) -> Mapping[str, Sequence[Pod]]:
        """Return the pods by pool; raises Unavailable when that is not known."""
        ...


class EveryPod:
    """Where a cluster is one machine, every pod of it is beside the agent."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def pods(self) -> Mapping[str, Sequence[Pod]]:
        """Return the pods by pool; raises Unavailable when the cluster does not answer."""
        seen = await self._cluster.observe()
        return {pool.name: pool.pods for pool in seen.pools.values()}
