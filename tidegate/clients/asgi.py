"""ASGI middleware: a request that may not begin is answered before the application hears of it."""

import json
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from tidegate.clients.client import Client
from tidegate.rules.outcome import Outcome, Question
from tidegate.rules.refusals import (
    NOT_READY,
    NOT_READY_DETAIL,
    NOT_READY_TITLE,
    PROBLEM_BASE,
    problem_of,
    retry_after_s,
)
from tidegate.rules.retirement import headers_of_feature

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

STATE_KEY: Final = "tidegate"
_NOT_READY_RETRY_S: Final = 2
_POLICY_VIOLATION: Final = 1008

Ask = Callable[[Scope], Question | None]
"""Says what a request asks for, and who asks; None where it needs nobody's leave."""


class Gated:
    """Wraps an application; what was decided is in the scope's state, under "tidegate".

    A refusal is the gateway's: the same status, problem document and `Retry-After`.
    """

    def __init__(self, app: App, *, client: Client, ask: Ask) -> None:
        self._app = app
        self._client = client
        self._ask = ask

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        question = self._ask(scope)
        if question is None:
            await self._app(scope, receive, send)
            return
        held, now = self._client.held, time.time()
        if not held.is_ready:
            await _refuse(scope, receive, send, *_not_ready())
            return
        outcome = held.decider.answer(question, now)
        retiring = _encoded(headers_of_feature(held.snapshot.intent, outcome.feature, outcome.tier))
        if not outcome.allowed:
            document, headers = _refusal(outcome, question, now)
            await _refuse(scope, receive, send, document, [*headers, *retiring])
            return
        scope.setdefault("state", {})[STATE_KEY] = outcome

        async def send_with_headers(message: Message) -> None:
            if retiring and message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *retiring]
            await send(message)

        await self._app(scope, receive, send_with_headers)


Headers = list[tuple[bytes, bytes]]


def _refusal(outcome: Outcome, question: Question, now: float) -> tuple[dict[str, object], Headers]:
    wait_s = retry_after_s(outcome, question.user, now)
    headers = [] if wait_s is None else [(b"retry-after", str(wait_s).encode())]
    return problem_of(outcome, question.tier), headers


def _not_ready() -> tuple[dict[str, object], Headers]:
    document: dict[str, object] = {
        "type": PROBLEM_BASE + NOT_READY,
        "title": NOT_READY_TITLE,
        "status": 503,
        "detail": NOT_READY_DETAIL,
        "code": NOT_READY,
    }
    return document, [(b"retry-after", str(_NOT_READY_RETRY_S).encode())]


async def _refuse(
    scope: Scope, receive: Receive, send: Send, document: dict[str, object], headers: Headers
) -> None:
    if scope["type"] == "websocket":
        await receive()  # the request to connect, which a server wants to be taken first
        reason = str(document["code"])
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": reason})
        return
    body = json.dumps(document, separators=(",", ":")).encode()
    about = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
    ]
    status = document["status"]
    await send({"type": "http.response.start", "status": status, "headers": [*about, *headers]})
    await send({"type": "http.response.body", "body": body})


def _encoded(headers: Iterable[tuple[str, str]]) -> Headers:
    return [(name.encode("latin-1"), text.encode("latin-1")) for name, text in headers]
