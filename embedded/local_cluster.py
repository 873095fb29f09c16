"""Local GPUs and the pools that share them, kept as they were asked to be."""

import asyncio
import json
import math
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from embedded.gpu_state import IDLE, write_count, write_gpu
from embedded.local_pods import LocalPod, PodFolders, start_pod, until_gone, until_ready
from tidegate.cluster import PodPhase
from tidegate.edges.local_pools import LocalPoolSpec
from tidegate.errors import Refused, Unavailable

_log = structlog.get_logger(__name__)

_NORMAL_P90: Final = 1.2815515655446004
_BACK_OFF_FIRST_S: Final = 0.5
_BACK_OFF_MOST_S: Final = 5.0


@dataclass(slots=True)
class _Pool:
    spec: LocalPoolSpec
    replicas: int
    random: random.Random
    pods: list[LocalPod] = field(default_factory=list)
    created: int = 0
    """Pods ever made: a name is never used twice."""
    crashes: int = 0
    """Since the last pod became ready."""
    may_start_at: float = 0.0
    """By the loop's clock."""


class LocalCluster:
    """Owns the GPUs, and starts and ends replicas until the pools are what was asked for.

    What was asked for is kept in `state_dir/pools.json`, so that a cluster that died goes on with
    it. `state_dir/gpus` is what the NVML stand-in reads.
    """

    def __init__(self, state_dir: Path, *, seed: int) -> None:
        self._folders = PodFolders(logs=state_dir / "logs", gpus=state_dir / "gpus")
        self._folders.gpus.mkdir(parents=True, exist_ok=True)
        self._asked_for = state_dir / "pools.json"
        self._seed = seed
        self._installed = 0
        self._pools: dict[str, _Pool] = {}
        self._lives: set[asyncio.Task[None]] = set()
        self._is_closing = False
        # Above every revision of a cluster that ran here before.
        self._revision = int(time.time() * 1000)
        self._changed = asyncio.Event()
        self._take_up()

    def declare(self, name: str, spec: LocalPoolSpec) -> None:
        """Create a pool, or change what its future replicas are; doing it twice changes nothing."""
        pool = self._pools.get(name)
        if pool is not None and pool.spec == spec:
            return
        if pool is None:
            self._pools[name] = self._new_pool(name, spec, spec.replicas)
        else:
            pool.spec = spec
        self._settle()

    def scale(self, name: str, replicas: int, manager: str) -> None:
        """Set how many replicas a pool has; raises Refused to all but the manager that owns it."""
        pool = self._pools.get(name)
        if pool is None:
            known = ", ".join(f'"{each}"' for each in self._pools) or "none"
            raise Refused(
                f'pool "{name}" is not declared, known are: {known}. Declare it first.',
                code="unknown_pool",
            )
        if pool.spec.scaled_by != manager:
            raise Refused(
                f'pool "{name}": "{pool.spec.scaled_by}" already scales it, not "{manager}". '
                "Delete that object or drop the pool.",
                code="scaled_by_another",
            )
        if pool.replicas != replicas:
            _log.info("pool.scaled", pool=name, before=pool.replicas, after=replicas)
            pool.replicas = replicas
            self._settle()

    def install(self, gpus: int) -> None:
        """Set how many GPUs there are; raises Refused for fewer than there were."""
        if gpus < self._installed:
            raise Refused(
                f"installed: got {gpus}, expected at least {self._installed}. "
                "Local GPUs only arrive.",
                code="gpus_only_arrive",
            )
        if gpus > self._installed:
            self._show_idle(range(self._installed, gpus))
            write_count(self._folders.gpus, gpus)
            self._installed = gpus
            self._settle()

    def state(self) -> dict[str, object]:
        """Return what is asked for and what is there."""
        return {
            "revision": self._revision,
            "gpus": {"local": self._installed},
            "pools": {
                name: {
                    "replicas": pool.replicas,
                    "gpus_per_replica": pool.spec.gpus_per_replica,
                    "scaled_by": pool.spec.scaled_by,
                    "pods": [pod.to_json() for pod in pool.pods],
                }
                for name, pool in self._pools.items()
            },
        }

    async def until_changed(self, after: int, wait_s: float) -> None:
        """Return when the revision is another than `after`, at the latest after `wait_s`."""
        if self._revision == after and not self._is_closing:
            try:
                await asyncio.wait_for(self._changed.wait(), wait_s)
            except TimeoutError:
                return

    async def close(self) -> None:
        """End every replica."""
        self._is_closing = True
        for pool in self._pools.values():
            for pod in pool.pods:
                pod.leaving.set()
        self._note_change()
        await asyncio.gather(*self._lives, return_exceptions=True)

    def _settle(self) -> None:
        """Bring pods nearer to what is asked for, as far as GPUs allow, and keep the asking."""
        for name, pool in self._pools.items():
            staying = [pod for pod in pool.pods if not pod.leaving.is_set()]
            for _ in range(pool.replicas - len(staying)):
                pool.pods.append(_new_pod(name, pool))
            for pod in _choose_leaving(staying, len(staying) - pool.replicas):
                self._let_go(pool, pod)
        self._start_pending()
        self._keep_asked_for()
        self._note_change()

    def _start_pending(self) -> None:
        loop = asyncio.get_running_loop()
        free = self._free_gpus()
        waiting = [
            (pod, pool)
            for pool in self._pools.values()
            for pod in pool.pods
            if pod.phase is PodPhase.PENDING
        ]
        # The oldest first, across pools; a small one may pass a large one that does not fit.
        for pod, pool in sorted(waiting, key=lambda each: each[0].created_at):
            needed = pool.spec.gpus_per_replica
            if needed <= len(free) and loop.time() >= pool.may_start_at:
                pod.gpus, free = tuple(free[:needed]), free[needed:]
                pod.phase = PodPhase.LOADING
                life = loop.create_task(self._live(pod, pool), name=pod.name)
                self._lives.add(life)
                life.add_done_callback(self._lives.discard)

    def _let_go(self, pool: _Pool, pod: LocalPod) -> None:
        pod.leaving.set()
        if pod.phase is PodPhase.PENDING:
            pool.pods.remove(pod)
        else:
            pod.phase = PodPhase.DRAINING
        _log.info("pod.leaving", pod=pod.name)

    async def _live(self, pod: LocalPod, pool: _Pool) -> None:
        """Run one pod from its start to its end, and settle what its end leaves undone."""
        cold_start_s = _draw_cold_start(pool)
        try:
            child = await start_pod(pod, pool.spec, cold_start_s, self._folders)
            self._note_change()
            if await until_ready(pod, child) and not pod.leaving.is_set():
                pod.phase, pod.ready_at = PodPhase.READY, time.time()
                pool.crashes = 0
                _log.info(
                    "pod.ready", pod=pod.name, after_s=round(pod.ready_at - pod.created_at, 2)
                )
                self._note_change()
            exit_code = await until_gone(pod, child)
            if not pod.leaving.is_set():
                self._note_crash(pod, pool, f"exit code {exit_code}")
        except (OSError, Unavailable) as error:
            self._note_crash(pod, pool, str(error))
        finally:
            pool.pods.remove(pod)
            self._show_idle(pod.gpus)
            if not self._is_closing:
                self._settle()

    def _note_crash(self, pod: LocalPod, pool: _Pool, reason: str) -> None:
        _log.warning("pod.died", pod=pod.name, reason=reason)
        if pod.ready_at is None:
            # One that never served will hardly serve at once when tried again.
            back_off_s = min(_BACK_OFF_FIRST_S * 2**pool.crashes, _BACK_OFF_MOST_S)
            pool.crashes += 1
            loop = asyncio.get_running_loop()
            pool.may_start_at = loop.time() + back_off_s
            loop.call_later(back_off_s, self._start_pending)

    def _free_gpus(self) -> list[int]:
        taken = {gpu for pool in self._pools.values() for pod in pool.pods for gpu in pod.gpus}
        return [gpu for gpu in range(self._installed) if gpu not in taken]

    def _show_idle(self, gpus: Iterable[int]) -> None:
        for gpu in gpus:
            write_gpu(self._folders.gpus, gpu, IDLE)

    def _note_change(self) -> None:
        self._revision += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def _new_pool(self, name: str, spec: LocalPoolSpec, replicas: int) -> _Pool:
        # A pool's cold starts are the same in every run, whatever other pools do.
        generator = random.Random(f"{self._seed} {name}")
        return _Pool(spec, replicas, generator)

    def _keep_asked_for(self) -> None:
        asked_for = {
            "installed": self._installed,
            "pools": {
                name: {
                    "spec": pool.spec.model_dump(),
                    "replicas": pool.replicas,
                    "created": pool.created,
                }
                for name, pool in self._pools.items()
            },
        }
        partial = self._asked_for.with_suffix(".partial")
        partial.write_text(json.dumps(asked_for, indent=2) + "\n")
        partial.replace(self._asked_for)

    def _take_up(self) -> None:
        """Go on with what a cluster before this one was asked for."""
        if not self._asked_for.exists():
            return
        asked_for = json.loads(self._asked_for.read_text())
        for name, kept in asked_for["pools"].items():
            spec = LocalPoolSpec.model_validate(kept["spec"])
            pool = self._new_pool(name, spec, kept["replicas"])
            pool.created = kept["created"]
            self._pools[name] = pool
        self.install(asked_for["installed"])


def _new_pod(name: str, pool: _Pool) -> LocalPod:
    pool.created += 1
    number = pool.created
    return LocalPod(f"{name}-{number}", name, number, created_at=time.time())


def _choose_leaving(pods: Sequence[LocalPod], excess: int) -> list[LocalPod]:
    """Choose those that wait for a GPU first, then the youngest."""
    order = sorted(pods, key=lambda pod: (pod.phase is not PodPhase.PENDING, -pod.number))
    return order[: max(0, excess)]


def _draw_cold_start(pool: _Pool) -> float:
    """Draw one from the log-normal distribution through the pool's two percentiles, in seconds."""
    spec = pool.spec
    sigma = math.log(spec.cold_start_p90_s / spec.cold_start_p50_s) / _NORMAL_P90
    return pool.random.lognormvariate(math.log(spec.cold_start_p50_s), sigma)
