"""Runs what the pods of a cluster say, as processes of this machine: KWOK's own run nothing.

`python -m embedded.kubernetes.pod_runner --state-dir DIR`, with KUBECONFIG. A pod with the
annotation `tidegate.dev/runs` gets its command, its environment, GPUs, a service account's token,
its readiness probe and its grace period. It gets no image, no volume, no limit, and no network of
its own: its address is one of the loopback, and it shares the machine with all others.
"""

import argparse
import asyncio
import os
import re
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from embedded.children import Child
from embedded.gpu_state import IDLE, write_gpu
from embedded.readiness import serves_http
from tidegate.edges.kubernetes import KubernetesApi
from tidegate.edges.kubernetes.api import Json
from tidegate.edges.kubernetes.informer import Informer
from tidegate.errors import Refused, Unavailable

_log = structlog.get_logger(__name__)

RUNS: Final = "tidegate.dev/runs"
_VARIABLE: Final = re.compile(r"\$\((\w+)\)")
_POLL_S: Final = 0.1
_AGAIN_AFTER_S: Final = 1.0


class PodRunner:
    """Follows all pods, and keeps a process for each that runs here."""

    def __init__(self, api: KubernetesApi, state_dir: Path) -> None:
        self._api = api
        self._logs, self._gpus = state_dir / "logs", state_dir / "gpus"
        self._tokens = state_dir / "tokens"
        self._gpus.mkdir(parents=True, exist_ok=True)
        self._tokens.mkdir(parents=True, exist_ok=True)
        self._informer = Informer(api, "/api/v1/pods", self._changed)
        self._lives = asyncio.TaskGroup()
        self._leaving: dict[str, asyncio.Event] = {}
        """By uid of each pod that is looked after: set once it has to go."""
        self._held: set[int] = set()
        """Numbers of GPUs under pods of this machine."""

    async def run(self) -> None:
        """Run pods until cancelled, or until one cannot be looked after; then end all of them."""
        async with self._lives:
            await self._informer.follow()

    def _changed(self) -> None:
        known = self._informer.objects
        for uid, pod in known.items():
            meta = pod["metadata"]
            goes, runs = "deletionTimestamp" in meta, pod["status"].get("phase") == "Running"
            if RUNS in meta.get("annotations", {}) and uid not in self._leaving and (goes or runs):
                self._leaving[uid] = asyncio.Event()
                life = self._live(pod) if runs else self._remove(pod)
                self._lives.create_task(life, name=meta["name"])
            if goes and uid in self._leaving:
                self._leaving[uid].set()
        for uid in self._leaving.keys() - known.keys():
            self._leaving.pop(uid).set()

    async def _live(self, pod: Json) -> None:
        """Run a pod's process, anew where it ends by itself, until the pod is deleted."""
        meta, spec = pod["metadata"], pod["spec"]
        container, leaving = spec["containers"][0], self._leaving[meta["uid"]]
        log = self._logs / f"{meta['name']}.log"
        gpus = self._take_gpus(container)
        try:
            environment = await self._environment(pod, container, gpus)
            argv = [_expand(word, environment) for word in container["command"]]
            while not leaving.is_set():
                child = await Child.spawn(argv, env=environment, log=log)
                _log.info("pod.started", pod=meta["name"], gpus=gpus)
                try:
                    await self._serve(pod, container, child, leaving)
                finally:
                    await child.end(grace_s=float(spec.get("terminationGracePeriodSeconds", 30)))
                if not leaving.is_set():
                    _log.warning("pod.ended", pod=meta["name"], exit_code=child.exit_code)
                    await self._say_ready(pod, is_ready=False)
                    await asyncio.sleep(_AGAIN_AFTER_S)
        finally:
            for gpu in gpus:
                write_gpu(self._gpus, gpu, IDLE)
            self._held.difference_update(gpus)
        await self._remove(pod)

    async def _serve(
        self, pod: Json, container: Json, child: Child, leaving: asyncio.Event
    ) -> None:
        """Have the pod be ready while its probe says so; returns when it ends or has to leave."""
        asked = container.get("readinessProbe", {}).get("httpGet")
        url = None if asked is None else f"http://{_ip(pod)}:{asked['port']}{asked['path']}"
        was_ready = False
        while child.exit_code is None and not leaving.is_set():
            is_ready = url is None or await serves_http(url, within_s=1.0)
            if is_ready is not was_ready and await self._say_ready(pod, is_ready=is_ready):
                was_ready = is_ready
            with suppress(TimeoutError):
                await asyncio.wait_for(leaving.wait(), 1.0 if was_ready else _POLL_S)

    async def _say_ready(self, pod: Json, *, is_ready: bool) -> bool:
        """Write the pod's conditions as a kubelet would; returns whether that was taken."""
        said = "True" if is_ready else "False"
        conditions = [{"type": kind, "status": said} for kind in ("Ready", "ContainersReady")]
        try:
            await self._api.merge(f"{_path(pod)}/status", {"status": {"conditions": conditions}})
        except (Refused, Unavailable):
            return False
        return True

    async def _remove(self, pod: Json) -> None:
        """Take away the object of a pod that is over."""
        while True:
            try:
                await self._api.delete(_path(pod), {"gracePeriodSeconds": 0})
            except Refused:  # it is gone
                return
            except Unavailable:
                await asyncio.sleep(_AGAIN_AFTER_S)
            else:
                return

    def _take_gpus(self, container: Json) -> list[int]:
        """Give a pod GPUs that no other has, as a device plugin would; any of the machine's."""
        wanted = int(container.get("resources", {}).get("limits", {}).get("nvidia.com/gpu", 0))
        gpus: list[int] = []
        number = 0
        while len(gpus) < wanted:
            if number not in self._held:
                gpus.append(number)
            number += 1
        self._held.update(gpus)
        return gpus

    async def _environment(self, pod: Json, container: Json, gpus: list[int]) -> dict[str, str]:
        """Return what the pod's process finds in its environment."""
        told = {
            "POD_IP": _ip(pod),
            "HOSTNAME": str(pod["metadata"]["name"]),
            "NVIDIA_VISIBLE_DEVICES": ",".join(map(str, gpus)),
        }
        account = pod["spec"].get("serviceAccountName")
        if account:
            told["SERVICE_ACCOUNT_TOKEN_FILE"] = str(await self._token(pod, account))
        for each in container.get("env", ()):
            told[each["name"]] = _expand(str(each.get("value", "")), told)
        return told

    async def _token(self, pod: Json, account: str) -> Path:
        """Ask for a token that is bound to the pod, and write it to a file."""
        meta = pod["metadata"]
        bound = {"kind": "Pod", "apiVersion": "v1", "name": meta["name"], "uid": meta["uid"]}
        asked = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"boundObjectRef": bound, "expirationSeconds": 3600, "audiences": []},
        }
        path = f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{account}/token"
        answer = await self._api.post(path, asked)
        file = self._tokens / str(meta["uid"])
        file.touch(mode=0o600)
        file.write_text(answer["status"]["token"])
        return file


def _path(pod: Json) -> str:
    meta = pod["metadata"]
    return f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"


def _ip(pod: Json) -> str:
    return str(pod["status"]["podIP"])


def _expand(word: str, variables: Mapping[str, str]) -> str:
    """Put variables in for `$(NAME)`, as Kubernetes does in a command."""
    return _VARIABLE.sub(lambda found: variables.get(found[1], found[0]), word)


async def _main(state_dir: Path) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with await KubernetesApi.connect(os.environ.get("KUBECONFIG")) as api:
        running = asyncio.create_task(PodRunner(api, state_dir).run())
        stopped = asyncio.create_task(stopping.wait())
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="embedded.kubernetes.pod_runner", description=__doc__)
    parser.add_argument("--state-dir", required=True, type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(_main(_arguments().state_dir))
