"""The processes of the control plane, and who may talk to them."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from embedded.ports import LOOPBACK, free_ports
from embedded.processes import Supervisor

STAGES: Final = Path(__file__).with_name("stages.yaml")
POD_NETWORK: Final = "127.64.0.0/12"
"""Pods have addresses of the loopback, where whatever plays a pod can listen."""
_CONTROLLERS: Final = (
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "horizontal-pod-autoscaler-controller",
    "disruption-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "node-lifecycle-controller",
    "taint-eviction-controller",
    "validatingadmissionpolicy-status-controller",
)
_READY_WITHIN_S: Final = 60.0
_ADMIN: Final = "admin"


@dataclass(frozen=True, slots=True)
class KubernetesServers:
    """Where the control plane listens, and under which folder it keeps everything."""

    programs: Path
    folder: Path
    port: int
    etcd_port: int
    etcd_peer_port: int
    token: str = field(default_factory=secrets.token_urlsafe, repr=False)
    """Of the administrator."""
    hpa_period_s: float = 15.0
    """From one look of a HorizontalPodAutoscaler at its metrics to the next."""

    @property
    def url(self) -> str:
        """The API server's address."""
        return f"https://{LOOPBACK}:{self.port}"

    @property
    def authority(self) -> Path:
        """The certificate that clients trust; the server makes it when it first starts."""
        return self.folder / "certs" / "apiserver.crt"

    @property
    def kubeconfig(self) -> Path:
        """How the administrator gets in."""
        return self.kubeconfig_of(_ADMIN)

    def kubeconfig_of(self, user: str) -> Path:
        """Say where the kubeconfig of a user is."""
        return self.folder / f"{user}.kubeconfig"

    def write_kubeconfig(self, user: str, token: str, *, namespace: str = "default") -> Path:
        """Write how a user gets in with a token, and return where."""
        cluster = {"server": self.url, "certificate-authority": str(self.authority)}
        context = {"cluster": "local", "user": user, "namespace": namespace}
        told = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "local", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "local", "context": context}],
            "current-context": "local",
        }
        path = self.kubeconfig_of(user)
        path.touch(mode=0o600)
        path.write_text(json.dumps(told), encoding="utf-8")
        return path

    def etcd(self) -> list[str | Path]:
        """Return etcd's command line."""
        client = f"http://{LOOPBACK}:{self.etcd_port}"
        peer = f"http://{LOOPBACK}:{self.etcd_peer_port}"
        argv: list[str | Path] = [self.programs / "etcd", "--data-dir", self.folder / "etcd"]
        argv += ["--listen-client-urls", client, "--advertise-client-urls", client]
        argv += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        # A machine that loses its power loses the demo; a process that is killed does not.
        return [*argv, "--initial-cluster", f"default={peer}", "--unsafe-no-fsync"]

    def apiserver(self) -> list[str | Path]:
        """Return the API server's command line."""
        issuer = "https://kubernetes.default.svc"
        options: Mapping[str, str | Path] = {
            "etcd-servers": f"http://{LOOPBACK}:{self.etcd_port}",
            "bind-address": LOOPBACK,
            "secure-port": str(self.port),
            "cert-dir": self.folder / "certs",
            "token-auth-file": self.folder / "tokens.csv",
            "authorization-mode": "RBAC",
            "service-account-issuer": issuer,
            "service-account-signing-key-file": self.folder / "sa.key",
            "service-account-key-file": self.folder / "sa.key",
            "service-cluster-ip-range": "10.0.0.0/24",
            "disable-admission-plugins": "ServiceAccount",
            "endpoint-reconciler-type": "none",
            # Pods of a node that is gone are made anew within seconds, for those who watch.
            "default-not-ready-toleration-seconds": "3",
            "default-unreachable-toleration-seconds": "3",
        }
        return [self.programs / "kube-apiserver", *(f"--{k}={v}" for k, v in options.items())]

    def controller_manager(self) -> list[str | Path]:
        """Return the controllers' command line."""
        argv: list[str | Path] = [self.programs / "kube-controller-manager"]
        argv += [f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--secure-port=0"]
        argv += [
            f"--controllers={','.join(_CONTROLLERS)}",
            "--use-service-account-credentials=false",
        ]
        # A node that says nothing is given up on within seconds, for those who watch.
        argv += ["--node-monitor-period=1s", "--node-monitor-grace-period=50s"]
        argv += [f"--horizontal-pod-autoscaler-sync-period={self.hpa_period_s}s"]
        return [*argv, "--kube-api-qps=200", "--kube-api-burst=400"]

    def scheduler(self) -> list[str | Path]:
        """Return the scheduler's command line."""
        argv: list[str | Path] = [self.programs / "kube-scheduler", "--leader-elect=false"]
        return [*argv, f"--kubeconfig={self.kubeconfig}", "--secure-port=0"]

    def kwok(self, stages: Sequence[Path]) -> list[str | Path]:
        """Return the command line of what plays nodes and pods."""
        argv: list[str | Path] = [self.programs / "kwok", f"--kubeconfig={self.kubeconfig}"]
        argv += ["--manage-all-nodes=true", f"--cidr={POD_NETWORK}"]
        return [*argv, *(f"--config={each}" for each in stages)]

    async def is_ready(self) -> bool:
        """Say whether the API server answers that it is ready."""
        headers = {"authorization": f"Bearer {self.token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            # The certificate may not be written yet; nothing is told that matters.
            session.get(f"{self.url}/readyz", ssl=False) as answer,
        ):
            return answer.status == 200  # noqa: PLR2004


def kubernetes_under(folder: Path, programs: Path) -> KubernetesServers:
    """Choose ports, and write who may get in."""
    folder.mkdir(parents=True, exist_ok=True)
    port, etcd_port, peer_port = free_ports(3)
    servers = KubernetesServers(programs, folder, port, etcd_port, peer_port)
    tokens = folder / "tokens.csv"
    tokens.touch(mode=0o600)
    tokens.write_text(f'{servers.token},{_ADMIN},1,"system:masters"\n', encoding="utf-8")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    written = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    (folder / "sa.key").write_bytes(written)
    servers.write_kubeconfig(_ADMIN, servers.token)
    return servers


async def start_kubernetes(
    supervisor: Supervisor, servers: KubernetesServers, stages: Sequence[Path] = (STAGES,)
) -> None:
    """Start etcd and the API server, and then what works on them; raises Unavailable."""
    await supervisor.start("etcd", servers.etcd(), restarts=True)
    await supervisor.start(
        "kube-apiserver",
        servers.apiserver(),
        ready=servers.is_ready,
        ready_within_s=_READY_WITHIN_S,
        restarts=True,
    )
    for name, argv in (
        ("kube-controller-manager", servers.controller_manager()),
        ("kube-scheduler", servers.scheduler()),
        ("kwok", servers.kwok(stages)),
    ):
        await supervisor.start(name, argv, restarts=True)
