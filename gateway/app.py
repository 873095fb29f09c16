"""The HTTP layer: a plain ASGI application that reads a request, finds its handler and replies."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final

from gateway.ofrep import FLAGS_PATH
from gateway.replies import Header, Reply, Request, problem

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Handler = Callable[[Request], Reply]
"""Answers at once: nothing on the way of a request waits for anything."""

BODY_LIMIT_BYTES: Final = 16 * 1024
BODY_WITHIN_S: Final = 10.0


class _Refused(Exception):  # noqa: N818 - an answer, not an error
    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


class App:
    """Routes by method and exact path; `one_flag` serves whatever is below the flags' path."""

    def __init__(self, routes: Mapping[tuple[str, str], Handler], one_flag: Handler) -> None:
        self._routes = routes
        self._one_flag = one_flag

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            handler = self._find(scope["method"], scope["path"])
            body = await _read_body(scope["headers"], receive)
            query = _short(scope["query_string"])
            path = scope["path"]
            reply = handler(Request(scope["method"], path, query, scope["headers"], body))
        except _Refused as refused:
            reply = refused.reply
        await _send(reply, send)

    def _find(self, method: str, path: str) -> Handler:
        # A HEAD is a GET whose body the server leaves out.
        served_as = "GET" if method == "HEAD" else method
        found = self._routes.get((served_as, path))
        if found is not None:
            return found
        is_one_flag = path.startswith(FLAGS_PATH + "/") and len(path) > len(FLAGS_PATH) + 1
        if is_one_flag and served_as == "POST":
            return self._one_flag
        allowed = {m for m, p in self._routes if p == path} | ({"POST"} if is_one_flag else set())
        if not allowed:
            raise _Refused(problem(404, "no-such-page", f"nothing is served at {path[:200]}"))
        allow = ", ".join(sorted(allowed | ({"HEAD"} if "GET" in allowed else set())))
        detail = f"{method} is not served here, {allow} is"
        header = (b"allow", allow.encode())
        raise _Refused(problem(405, "method-not-allowed", detail, None, header))


async def _read_body(headers: Sequence[Header], receive: Receive) -> bytes:
    announced = next((value for name, value in headers if name == b"content-length"), b"0")
    if len(announced) > len(str(BODY_LIMIT_BYTES)) or int(announced) > BODY_LIMIT_BYTES:
        raise _Refused(_too_large())
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        try:
            async with asyncio.timeout(BODY_WITHIN_S):
                body = await _read_rest(body, receive)
        except TimeoutError:
            detail = f"the body did not arrive within {BODY_WITHIN_S:g} s"
            raise _Refused(problem(408, "too-slow", detail)) from None
    if len(body) > BODY_LIMIT_BYTES:
        raise _Refused(_too_large())
    return body


async def _read_rest(body: bytes, receive: Receive) -> bytes:
    more = True
    while more and len(body) <= BODY_LIMIT_BYTES:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _short(query: bytes) -> bytes:
    if len(query) > BODY_LIMIT_BYTES:
        detail = f"the query is {len(query)} bytes long, at most {BODY_LIMIT_BYTES} are read"
        raise _Refused(problem(414, "too-large", detail))
    return query


def _too_large() -> Reply:
    return problem(413, "too-large", f"the body is over {BODY_LIMIT_BYTES} bytes")


async def _send(reply: Reply, send: Send) -> None:
    headers = [*reply.headers]
    if reply.status != 304:  # noqa: PLR2004 - it has no body, and so no length
        headers.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
