"""Serves metrics to a real control plane, as an adapter of a metrics store does."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from embedded.ports import LOOPBACK, free_ports
from tests.embedded.until import until
from tests.kubernetes.cluster import Cluster
from tidegate.errors import TidegateError

_CUSTOM: Final = ("custom.metrics.k8s.io", "v1beta2")
_EXTERNAL: Final = ("external.metrics.k8s.io", "v1beta1")
_SERVICE: Final = "metrics"

Readings = Mapping[str, Mapping[str, float]]
"""By metric and by pod, or by series where it is external; absent if empty."""


@dataclass
class Syncs:
    """Those of an HPA, each of which waits for its readings."""

    first: str
    """The metric that a sync begins with."""
    waiting: "asyncio.Queue[asyncio.Future[Readings]]" = field(default_factory=asyncio.Queue)
    answer: "asyncio.Future[Readings] | None" = None

    async def next(self) -> "asyncio.Future[Readings]":
        """Wait for the next sync; the one before is over by then, for they follow each other."""
        return await asyncio.wait_for(self.waiting.get(), 20.0)


class MetricsApi:
    """Answers what a controller asks; at most one HPA in a namespace."""

    def __init__(self) -> None:
        self._syncs: dict[str, Syncs] = {}
        self.app = web.Application()
        for group in (_CUSTOM, _EXTERNAL):
            self.app.router.add_get(_path(group), _resources)
        namespace = "/namespaces/{namespace}"
        self.app.router.add_get(f"{_path(_CUSTOM)}{namespace}/pods/{{all}}/{{metric}}", self._pods)
        self.app.router.add_get(f"{_path(_EXTERNAL)}{namespace}/{{metric}}", self._external)

    def syncs(self, namespace: str, first: str) -> Syncs:
        """Expect the syncs of a namespace's HPA, whose first metric this is."""
        return self._syncs.setdefault(namespace, Syncs(first))

    async def _readings(self, request: web.Request) -> Mapping[str, float]:
        metric, syncs = request.match_info["metric"], self._syncs[request.match_info["namespace"]]
        if metric == syncs.first:
            syncs.answer = asyncio.get_running_loop().create_future()
            syncs.waiting.put_nowait(syncs.answer)
        assert syncs.answer is not None
        return (await syncs.answer)[metric]

    async def _pods(self, request: web.Request) -> web.Response:
        values = await self._readings(request)
        items = [
            {
                "describedObject": {"kind": "Pod", "apiVersion": "v1", "name": pod},
                "metric": {"name": request.match_info["metric"]},
                "timestamp": _now(),
                "value": f"{value:.9f}",
            }
            for pod, value in values.items()
        ]
        return _list(_CUSTOM, "MetricValueList", items)

    async def _external(self, request: web.Request) -> web.Response:
        values = await self._readings(request)
        items = [
            {
                "metricName": request.match_info["metric"],
                "metricLabels": {"series": series},
                "timestamp": _now(),
                "value": f"{value:.9f}",
            }
            for series, value in values.items()
        ]
        return _list(_EXTERNAL, "ExternalMetricValueList", items)


async def _resources(request: web.Request) -> web.Response:
    version = request.path.removeprefix("/apis/")
    told = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": []}
    return web.json_response(told)


def _list(group: tuple[str, str], kind: str, items: list[dict[str, Any]]) -> web.Response:
    told = {"kind": kind, "apiVersion": "/".join(group), "metadata": {}, "items": items}
    return web.json_response(told)


def _path(group: tuple[str, str]) -> str:
    return f"/apis/{'/'.join(group)}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@asynccontextmanager
async def serving(cluster: Cluster, folder: Path) -> AsyncIterator[MetricsApi]:
    """Serve metrics through the API server."""
    namespace = await cluster.namespace()
    certificate = _certificate(folder, f"{_SERVICE}.{namespace}.svc")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, folder / "metrics.key")
    metrics = MetricsApi()
    runner = web.AppRunner(metrics.app, shutdown_timeout=0.1)
    await runner.setup()
    (port,) = free_ports(1)
    await web.TCPSite(runner, LOOPBACK, port, ssl_context=tls).start()
    try:
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": _SERVICE},
            # An EndpointSlice may not tell an address of the loopback; a name may stand for one.
            "spec": {"type": "ExternalName", "externalName": LOOPBACK},
        }
        await cluster.api.post(f"/api/v1/namespaces/{namespace}/services", service)
        for group in (_CUSTOM, _EXTERNAL):
            await _register(cluster, group, namespace, port, certificate)
        yield metrics
    finally:
        await runner.cleanup()


async def _register(
    cluster: Cluster, group: tuple[str, str], namespace: str, port: int, certificate: Path
) -> None:
    """Have the API server pass on what it is asked of a group, and wait until it does."""
    name, version = group
    answered_by = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{version}.{name}"},
        "spec": {
            "group": name,
            "version": version,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"name": _SERVICE, "namespace": namespace, "port": port},
            "caBundle": base64.b64encode(certificate.read_bytes()).decode(),
        },
    }
    await cluster.api.post("/apis/apiregistration.k8s.io/v1/apiservices", answered_by)

    async def is_reached() -> bool:
        try:
            await cluster.api.get(_path(group))
        except TidegateError:
            return False
        groups = await cluster.api.get("/apis")
        return name in {each["name"] for each in groups["groups"]}

    await until(is_reached, 30.0)


def _certificate(folder: Path, name: str) -> Path:
    """Write a certificate that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _SERVICE)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "metrics.crt"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    written = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "metrics.key").write_bytes(written)
    return path
