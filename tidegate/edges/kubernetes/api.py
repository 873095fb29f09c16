"""The API server, asked in JSON: every question has a deadline, every error is one of ours."""

import json
import os
import time
from collections.abc import AsyncGenerator, Mapping
from http import HTTPStatus
from typing import Any, Final, Self

import aiohttp

from tidegate.edges.kubernetes.access import Access, ConfigAccess, PodAccess, Question
from tidegate.errors import Refused, Unavailable

Json = Mapping[str, Any]

OPENED: Final = "OPENED"
"""The first event of a watch, of no object: the server has taken it up."""
DEADLINE_S: Final = 5.0
_WATCH_S: Final = 10
"""A watch is asked for anew after this, so that a connection that died quietly is noticed."""
_SILENT_S: Final = 15.0


class Conflict(Refused):
    """The object has changed, or another manager owns the field."""


class Expired(Unavailable):
    """What a watch should go on from is forgotten: everything has to be listed again."""


class Throttled(Unavailable):
    """The server has too much to do."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message, code="kubernetes-throttled")
        self.retry_after_s = retry_after_s
        """When the server wants to be asked again."""


class KubernetesApi:
    """One API server, reached as `KUBECONFIG` says, or as a pod's service account may."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._not_before: dict[tuple[str, str], float] = {}
        """By method and path, when a server that throttles wants to be asked again."""

    @classmethod
    async def connect(cls, kubeconfig: str | None = None) -> Self:
        """Find out how to get in; raises PlanError where neither way is there."""
        pod = None if kubeconfig is not None else PodAccess.found(os.environ)
        return cls(pod or await ConfigAccess.load(kubeconfig))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._access.close()

    async def get(
        self, path: str, *, query: Mapping[str, str] | None = None, accept: str = "application/json"
    ) -> Json:
        """Return one object, or a list of them."""
        return await self._ask("GET", path, query=query, headers={"Accept": accept})

    async def post(self, path: str, body: Json) -> Json:
        """Create an object; raises Conflict where it is there already."""
        return await self._ask("POST", path, body=body)

    async def put(self, path: str, body: Json) -> Json:
        """Replace an object; raises Conflict where it is another than `body` was read from."""
        return await self._ask("PUT", path, body=body)

    async def delete(self, path: str, options: Json | None = None) -> Json:
        """Delete an object; what it owns is deleted after it."""
        return await self._ask("DELETE", path, body=options)

    async def merge(self, path: str, body: Json) -> Json:
        """Change some fields of an object; lists are merged by their items' names."""
        headers = {"Content-Type": "application/strategic-merge-patch+json"}
        return await self._ask("PATCH", path, body=body, headers=headers)

    async def apply(self, path: str, body: Json, *, manager: str, force: bool = False) -> Json:
        """Apply fields on the server's side; raises Conflict where another manager owns one."""
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        headers = {"Content-Type": "application/apply-patch+yaml"}
        return await self._ask("PATCH", path, query=query, body=body, headers=headers)

    async def update(self, path: str, body: Json, *, manager: str) -> Json:
        """Change some fields of an object; raises Conflict where it is another version by now."""
        headers = {"Content-Type": "application/merge-patch+json"}
        query = {"fieldManager": manager}
        return await self._ask("PATCH", path, query=query, body=body, headers=headers)

    async def watch(
        self, path: str, *, query: Mapping[str, str], after: str
    ) -> AsyncGenerator[tuple[str, Json]]:
        """Yield what becomes of the objects after a resource version, as (kind of event, object).

        Ends by itself after ten seconds. Raises Expired where `after` is too long ago, and
        Unavailable where the server is away or says nothing.
        """
        query = {
            **query,
            "watch": "true",
            "resourceVersion": after,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_S),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=DEADLINE_S, sock_read=_SILENT_S)
        try:
            response = await self._access.send(Question("GET", path, query, {}), timeout)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _away(path, error) from error
        try:
            if response.status >= HTTPStatus.BAD_REQUEST:
                _raise(path, response, await response.read())
            yield OPENED, {}
            async for line in response.content:
                yield _read_event(json.loads(line))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise _away(path, error) from error
        finally:
            response.close()

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        self._wait_no_less(method, path)
        timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
        try:
            question = Question(method, path, query or {}, headers or {}, body)
            response = await self._access.send(question, timeout)
            content = await response.read()
            if response.status >= HTTPStatus.BAD_REQUEST:
                _raise(path, response, content)
            answer: Json = json.loads(content)
        except Throttled as error:
            self._not_before[method, path] = time.monotonic() + error.retry_after_s
            raise
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise _away(path, error) from error
        return answer

    def _wait_no_less(self, method: str, path: str) -> None:
        """Raise Throttled where the server has asked to be left alone with this for longer."""
        left_s = self._not_before.get((method, path), 0.0) - time.monotonic()
        if left_s > 0.0:
            raise Throttled(_busy(f"kubernetes: {path}: not asked again yet"), retry_after_s=left_s)
        self._not_before.pop((method, path), None)


def _busy(told: str) -> str:
    return f"{told}. It has too much to do: nothing changes until it answers again."


def _read_event(told: Json) -> tuple[str, Json]:
    kind, what = str(told["type"]), told["object"]
    if kind == "ERROR":
        if what.get("code") == HTTPStatus.GONE:
            raise Expired(f"kubernetes: {what.get('message')}", code="kubernetes-expired")
        raise Unavailable(f"kubernetes: {what.get('message')}", code="kubernetes-unavailable")
    return kind, what


def _raise(path: str, response: Any, content: bytes) -> None:  # noqa: ANN401 - as `_send` returns
    """Raise what an answer of the server means."""
    try:
        message = json.loads(content)["message"]
    except (ValueError, TypeError, KeyError):
        message = content[:200].decode(errors="replace")
    told = f"kubernetes: {path}: {message}"
    match response.status:
        case HTTPStatus.CONFLICT:
            raise Conflict(told, code="kubernetes-conflict")
        case HTTPStatus.GONE:
            raise Expired(told, code="kubernetes-expired")
        case HTTPStatus.TOO_MANY_REQUESTS:
            asked = response.headers.get("Retry-After", "")
            raise Throttled(_busy(told), retry_after_s=float(asked) if asked.isdecimal() else 0.0)
        case HTTPStatus.NOT_FOUND:
            raise Refused(told, code="not-found")
        case HTTPStatus.FORBIDDEN | HTTPStatus.UNPROCESSABLE_ENTITY | HTTPStatus.BAD_REQUEST:
            raise Refused(told, code="kubernetes-refused")
        case _:  # 401 too: a token that has run out is read anew
            raise Unavailable(told, code="kubernetes-unavailable")


def _away(path: str, error: Exception) -> Unavailable:
    why = str(error) or type(error).__name__
    message = f"kubernetes: {path}: no answer ({why}). Check that the API server is running."
    return Unavailable(message, code="kubernetes-unavailable")
