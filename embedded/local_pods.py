"""The life of one local replica: from its process's start to its end."""

import asyncio
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from embedded.children import Child
from embedded.ports import LOOPBACK, free_ports
from embedded.readiness import serves_http
from tidegate.cluster import PodPhase
from tidegate.edges.local_pools import LocalPoolSpec

_log = structlog.get_logger(__name__)

_POLL_S: Final = 0.1
_GRACE_S: Final = 4.0
"""Longer than the time that a replica gives to what runs."""


@dataclass(slots=True, eq=False)
class LocalPod:
    """One replica as its cluster sees it; `number` orders pods by age."""

    name: str
    pool: str
    number: int
    created_at: float
    phase: PodPhase = PodPhase.PENDING
    gpus: tuple[int, ...] = ()
    port: int | None = None
    ready_at: float | None = None
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it is to drain; a pending one is simply dropped."""

    @property
    def address(self) -> str | None:
        """Where it serves, from the moment that it has a process."""
        return None if self.port is None else f"http://{LOOPBACK}:{self.port}"

    def to_json(self) -> dict[str, object]:
        """Return what the state shows of it."""
        return {
            "name": self.name,
            "phase": self.phase.value,
            "gpu": self.gpus[0] if self.gpus else None,
            "address": self.address,
            "created_at": self.created_at,
            "ready_at": self.ready_at,
        }


@dataclass(frozen=True, slots=True)
class PodFolders:
    """Where a pod's process writes."""

    logs: Path
    gpus: Path


async def start_pod(
    pod: LocalPod, spec: LocalPoolSpec, cold_start_s: float, folders: PodFolders
) -> Child:
    """Start the process of a pod that has its GPUs."""
    (pod.port,) = free_ports(1)
    argv = [sys.executable, "-m", "embedded.replica", "--pool", pod.pool, "--name", pod.name]
    argv += ["--port", str(pod.port), "--gpu", ",".join(str(gpu) for gpu in pod.gpus)]
    argv += ["--gpu-dir", str(folders.gpus), "--cold-start-s", f"{cold_start_s:.3f}"]
    argv += ["--slots", str(spec.slots), "--service-s", str(spec.service_s)]
    argv += ["--kv-tokens", str(spec.kv_tokens)]
    _log.info("pod.started", pod=pod.name, gpus=pod.gpus, cold_start_s=round(cold_start_s, 2))
    return await Child.spawn(argv, env={}, log=folders.logs / f"{pod.name}.log")


async def until_ready(pod: LocalPod, child: Child) -> bool:
    """Wait until the pod serves; False when it ends or is told to leave first."""
    while child.exit_code is None and not pod.leaving.is_set():
        if await serves_http(f"{pod.address}/health", within_s=0.5):
            return True
        await asyncio.sleep(_POLL_S)
    return False


async def until_gone(pod: LocalPod, child: Child) -> int:
    """Wait until the process has ended, of itself or because the pod leaves."""
    ended = asyncio.create_task(child.wait())
    told = asyncio.create_task(pod.leaving.wait())
    try:
        await asyncio.wait({ended, told}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            await child.end(grace_s=_GRACE_S)
        return await ended
    finally:
        told.cancel()
        with suppress(asyncio.CancelledError):
            await told
