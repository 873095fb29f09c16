"""The ASGI middleware before real applications: it refuses as a gateway does."""

import time
from collections.abc import MutableMapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.gateway.asking import Asked
from tests.tidegate.snapshots import NOW, POOL, feature, gate, intent, snapshot
from tidegate.clients.asgi import Gated, Scope
from tidegate.clients.client import Client
from tidegate.holding import SnapshotHolder
from tidegate.rules.outcome import Question
from tidegate.snapshot import ModelIntent, Snapshot

FAR = NOW + 4e9


def held(*, free: float = 1.0, **exposure: float) -> Snapshot:
    image = feature(exposure=exposure or {"pro": 1.0, "free": 1.0})
    part = intent({"image": image}, at=time.time(), expires_at=FAR)
    return snapshot(part, gate({"free": free}, at=time.time(), expires_at=FAR))


def client_of(snapshot: Snapshot | None) -> Client:
    holder = SnapshotHolder()
    client = Client(holder)
    if snapshot is not None:
        holder.take(snapshot)
    return client


def ask(scope: Scope) -> Question | None:
    if not scope["path"].startswith("/draw"):
        return None
    headers = dict(scope["headers"])
    return Question("image", headers[b"x-user"].decode(), headers[b"x-tier"].decode(), "api")


async def draw(request: Any) -> PlainTextResponse:  # noqa: ANN401 - Starlette's, or FastAPI's
    return PlainTextResponse(f"a picture, {request.state.tidegate.code}")


async def page(_: Any) -> PlainTextResponse:  # noqa: ANN401
    return PlainTextResponse("a page")


async def talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("a picture")
    await socket.close()


def starlette() -> Any:  # noqa: ANN401
    routes = [Route("/draw", draw), Route("/page", page), WebSocketRoute("/draw/live", talk)]
    return Starlette(routes=routes)


def fastapi() -> Any:  # noqa: ANN401
    application = FastAPI()

    @application.get("/draw")
    async def _(request: Request) -> str:
        return f"a picture, {request.state.tidegate.code}"

    @application.get("/page")
    async def _() -> str:
        return "a page"

    return application


async def get(
    application: Any,  # noqa: ANN401
    snapshot: Snapshot | None,
    path: str = "/draw",
    tier: str = "free",
) -> httpx.Response:
    gated = Gated(application, client=client_of(snapshot), ask=ask)
    transport = httpx.ASGITransport(app=gated)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
        return await http.get(path, headers={"X-User": "ada", "X-Tier": tier})


@pytest.mark.parametrize("make", [starlette, fastapi])
async def test_who_may_is_let_through_with_what_was_decided(make: Any) -> None:  # noqa: ANN401
    answer = await get(make(), held())
    assert answer.status_code == 200
    assert "a picture, allowed" in answer.text


@pytest.mark.parametrize("make", [starlette, fastapi])
async def test_a_refusal_is_the_gateways(make: Any) -> None:  # noqa: ANN401
    snapshot = held(free=0.0)
    refused = await get(make(), snapshot)
    admitted = await Asked(snapshot, now=time.time()).admit()
    assert refused.status_code == admitted.status == 429
    assert refused.json() == admitted.json
    assert refused.headers["content-type"] == admitted.headers["content-type"]
    assert refused.headers["retry-after"] == admitted.headers["retry-after"]


async def test_what_needs_nobodys_leave_is_let_through() -> None:
    assert (await get(starlette(), held(free=0.0), "/page")).text == "a page"


async def test_nothing_heard_is_neither_yes_nor_no() -> None:
    answer = await get(starlette(), None)
    assert (answer.status_code, answer.json()["code"]) == (503, "not-ready")
    assert answer.headers["retry-after"] == "2"
    assert answer.json() == (await Asked().admit()).json


async def test_a_model_that_goes_is_told_of_in_headers_of_both_answers() -> None:
    going = {POOL.model: ModelIntent(deprecated_at=NOW, sunset_at=FAR - 1.0, successor="image-3")}
    for tier, status in (("pro", 200), ("free", 429)):
        held_now = held(free=0.0)
        assert held_now.intent is not None
        part = held_now.intent.model_copy(update={"models": going})
        answer = await get(starlette(), held_now.model_copy(update={"intent": part}), tier=tier)
        assert answer.status_code == status
        assert answer.headers["deprecation"] == f"@{int(NOW)}"
        assert 'rel="successor-version"' in answer.headers["link"]


async def connect(snapshot: Snapshot) -> list[tuple[str, object]]:
    """Connect a websocket, as a server does; returns what the application sent."""
    gated = Gated(starlette(), client=client_of(snapshot), ask=ask)
    headers = [(b"x-user", b"ada"), (b"x-tier", b"free")]
    scope = {"type": "websocket", "path": "/draw/live", "headers": headers, "subprotocols": []}
    sent: list[tuple[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "websocket.connect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append((message["type"], message.get("text", message.get("reason"))))

    await gated(scope, receive, send)
    return sent


async def test_a_websocket_is_let_in_or_closed_before_it_opens() -> None:
    assert ("websocket.send", "a picture") in await connect(held())
    assert await connect(held(free=0.0)) == [("websocket.close", "gate-shed")]
