"""Two ways to the API server: by a kubeconfig, and from a pod by its service account."""

import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, Self

import aiohttp

from tidegate.errors import PlanError

_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_LINE_BYTES: Final = 2**21
_TOKEN_FOR_S: Final = 60.0
"""The kubelet writes a new token long before the old one ends; it is read anew after this."""


@dataclass(frozen=True, slots=True)
class Question:
    """One request, whose body is JSON."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: object = None


class Access(Protocol):
    """A way in; what goes wrong is raised as aiohttp does."""

    async def send(
        self, question: Question, timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """Ask, and return the answer as soon as its head is there."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class ConfigAccess:
    """By a kubeconfig, with all that one can say: certificates, tokens, programs that get them."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401 - of a library that is imported late
        self._client = client

    @classmethod
    async def load(cls, kubeconfig: str | None) -> Self:
        """Read a kubeconfig, else that of the user; raises PlanError where it is none."""
        # Not for pods, which need none of it: it takes 12 MB, and an agent must stay small.
        from kubernetes.aio.client import ApiClient, Configuration  # noqa: PLC0415
        from kubernetes.aio.config import ConfigException, load_kube_config  # noqa: PLC0415

        configuration = Configuration()
        try:
            await load_kube_config(kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
        except (ConfigException, OSError) as error:
            raise _no_way_in(error) from error
        return cls(ApiClient(configuration))

    async def send(
        self, question: Question, timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """Ask, and return the answer as soon as its head is there."""
        asked = await self._client.param_serialize(
            question.method,
            question.path,
            query_params=list(question.query.items()),
            header_params=dict(question.headers),
            body=question.body,
            auth_settings=["BearerToken"],
        )
        answer = await self._client.call_api(*asked, _request_timeout=timeout)
        response: aiohttp.ClientResponse = answer.response
        return response

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


class PodAccess:
    """From a pod, with the token and the authority that the kubelet puts into a folder."""

    def __init__(self, url: str, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._folder = folder
        self._clock = clock
        self._token: tuple[float, str] | None = None
        try:
            self._trusted = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        except OSError as error:
            raise _no_way_in(error) from error
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def found(cls, environment: Mapping[str, str]) -> Self | None:
        """Return the way of this pod; None outside of one, or where its account has no token."""
        host = environment.get("KUBERNETES_SERVICE_HOST")
        if host is None or not _SERVICE_ACCOUNT.exists():
            return None
        host = f"[{host}]" if ":" in host else host
        port = environment.get("KUBERNETES_SERVICE_PORT", "443")
        return cls(f"https://{host}:{port}", _SERVICE_ACCOUNT)

    async def send(
        self, question: Question, timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """Ask, and return the answer as soon as its head is there."""
        if self._session is None:
            # An event of a watch is one line, with an object of up to 1.5 MB in it.
            self._session = aiohttp.ClientSession(self._url, read_bufsize=_LINE_BYTES)
        token = {"Authorization": f"Bearer {self._read_token()}"}
        return await self._session.request(
            question.method,
            question.path,
            params=question.query,
            headers={"Content-Type": "application/json"} | dict(question.headers) | token,
            data=None if question.body is None else json.dumps(question.body),
            timeout=timeout,
            ssl=self._trusted,
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _read_token(self) -> str:
        now = self._clock()
        if self._token is None or now >= self._token[0] + _TOKEN_FOR_S:
            try:
                token = (self._folder / "token").read_text(encoding="utf-8").strip()
            except OSError as error:
                raise aiohttp.ClientError(f"no token: {error}") from error
            self._token = (now, token)
        return self._token[1]


def _no_way_in(error: Exception) -> PlanError:
    return PlanError(
        f"KUBECONFIG: {error}. Name a kubeconfig, or run in a pod with a service account.",
        code="kubernetes-config",
    )
