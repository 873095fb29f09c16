"""Where the pools of a story run: local processes, or pods of a real control plane."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from embedded.gpu_state import IDLE, write_count, write_gpu
from embedded.kubernetes.objects import PORT, gpu_node, pool_deployment
from embedded.kubernetes.pod_runner import RUNS
from embedded.kubernetes.programs import build_programs
from embedded.kubernetes.servers import KubernetesServers, kubernetes_under, start_kubernetes
from embedded.ports import free_ports
from embedded.processes import Supervisor
from embedded.readiness import serves_http
from tidegate.edges.kubernetes import KubernetesApi
from tidegate.edges.local_pools import LocalPools, LocalPoolSpec
from tidegate.errors import Broken
from tidegate.settings import cache_folder

_NAMESPACE: Final = "inference"
_GPUS_A_NODE: Final = 8
_READY_WITHIN_S: Final = 45.0
Say = Callable[[str], None]


class Ground(Protocol):
    """Has GPUs, and runs pools on them; whoever plays a story says how many and which."""

    pools: str
    """What TIDEGATE_POOLS says."""

    def environment(self) -> Mapping[str, str]:
        """Return what those who talk to it need, beside the settings."""
        ...

    async def start(self, supervisor: Supervisor, settings: Mapping[str, str]) -> None:
        """Start what it consists of; raises Unavailable."""
        ...

    async def declare(self, pool: str, spec: LocalPoolSpec) -> None:
        """Make a pool."""
        ...

    async def install(self, gpus: int, gpu_type: str) -> None:
        """Have that many GPUs of a type from now on, which are never fewer than before."""
        ...


class LocalGround:
    """Local processes, under one that owns the GPUs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (self._port,) = free_ports(1)
        self.pools = f"http://127.0.0.1:{self._port}"

    def environment(self) -> Mapping[str, str]:
        """Return nothing: the address is enough."""
        return {}

    async def start(self, supervisor: Supervisor, settings: Mapping[str, str]) -> None:
        """Start the process that owns the GPUs."""
        argv = [sys.executable, "-m", "embedded.pools", "--port", str(self._port)]
        await supervisor.start(
            "pools",
            [*argv, "--state-dir", str(self._folder)],
            env=settings,
            ready=lambda: serves_http(f"{self.pools}/v1/state"),
            ready_within_s=_READY_WITHIN_S,
            restarts=True,
        )

    async def declare(self, pool: str, spec: LocalPoolSpec) -> None:
        """Make a pool."""
        async with LocalPools(self.pools) as pools:
            await pools.declare(pool, spec)

    async def install(self, gpus: int, gpu_type: str) -> None:  # noqa: ARG002 - all are local
        """Have that many GPUs."""
        async with LocalPools(self.pools) as pools:
            await pools.install_gpus(gpus)


class KubernetesGround:
    """Pods of a real control plane, whose commands run as local processes."""

    pools = f"kubernetes://{_NAMESPACE}"

    def __init__(self, folder: Path, say: Say) -> None:
        self._folder = folder
        self._say = say
        self._servers: KubernetesServers | None = None
        self._installed = 0
        self._nodes = 0

    def environment(self) -> Mapping[str, str]:
        """Return how to get in."""
        return {"KUBECONFIG": str(self._started().kubeconfig)}

    async def start(self, supervisor: Supervisor, settings: Mapping[str, str]) -> None:
        """Build the control plane where that was not done yet, and start it."""
        programs = build_programs(cache_folder(os.environ), self._say)
        self._servers = kubernetes_under(self._folder / "kubernetes", programs)
        await start_kubernetes(supervisor, self._servers)
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}}
        async with await self._api() as api:
            await api.post("/api/v1/namespaces", namespace)
        argv = [sys.executable, "-m", "embedded.kubernetes.pod_runner"]
        await supervisor.start(
            "pod-runner",
            [*argv, "--state-dir", str(self._folder)],
            env={**settings, **self.environment()},
            restarts=True,
        )

    async def declare(self, pool: str, spec: LocalPoolSpec) -> None:
        """Create a Deployment without replicas; a pod's load takes as long as a cold start does."""
        command = [sys.executable, "-m", "embedded.replica", "--pool", pool]
        command += ["--name", "$(HOSTNAME)", "--host", "$(POD_IP)", "--port", str(PORT)]
        command += ["--gpu", "$(NVIDIA_VISIBLE_DEVICES)", "--gpu-dir", str(self._folder / "gpus")]
        command += ["--cold-start-s", "0", "--slots", str(spec.slots)]
        command += ["--service-s", str(spec.service_s), "--kv-tokens", str(spec.kv_tokens)]
        annotations = {
            RUNS: "true",
            "tidegate.dev/cold-start": f"{spec.cold_start_p50_s * 1000:.0f}ms",
            "tidegate.dev/cold-start-most": f"{spec.cold_start_p90_s * 1000:.0f}ms",
        }
        deployment = pool_deployment(
            pool,
            gpus=spec.gpus_per_replica,
            annotations=annotations,
            command=command,
            replicas=spec.replicas,
        )
        async with await self._api() as api:
            await api.post(f"/apis/apps/v1/namespaces/{_NAMESPACE}/deployments", deployment)

    async def install(self, gpus: int, gpu_type: str) -> None:
        """Add nodes until there are that many GPUs."""
        folder = self._folder / "gpus"
        for number in range(self._installed, gpus):
            write_gpu(folder, number, IDLE)
        write_count(folder, gpus)
        async with await self._api() as api:
            while self._installed < gpus:
                more = min(_GPUS_A_NODE, gpus - self._installed)
                node = gpu_node(f"gpu-{self._nodes}", more, gpu_type)
                await api.post("/api/v1/nodes", node)
                self._nodes += 1
                self._installed += more

    async def _api(self) -> KubernetesApi:
        return await KubernetesApi.connect(str(self._started().kubeconfig))

    def _started(self) -> KubernetesServers:
        if self._servers is None:
            raise Broken("Kubernetes is not started. Start it first.", code="started")
        return self._servers
