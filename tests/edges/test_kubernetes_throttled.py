"""Asking an API server that says when it wants to be asked again."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import pytest
from aiohttp import web

from embedded.ports import LOOPBACK, free_ports
from tests.embedded.until import until
from tidegate.edges.kubernetes import KubernetesApi
from tidegate.edges.kubernetes.api import Throttled
from tidegate.edges.kubernetes.informer import Informer

_PODS = "/api/v1/namespaces/pools/pods"


class Crowded:
    """A server that refuses everything, and remembers when it was asked."""

    def __init__(self) -> None:
        self.asked_at: list[float] = []
        self.retry_after = "2"

    async def refuse(self, _: web.Request) -> web.Response:
        self.asked_at.append(asyncio.get_running_loop().time())
        told = {"kind": "Status", "message": "too many requests, please try again later"}
        headers = {"Retry-After": self.retry_after}
        return web.json_response(told, status=429, headers=headers)


@pytest.fixture
async def crowded(tmp_path: Path) -> AsyncIterator[tuple[Crowded, KubernetesApi]]:
    """Start one, and connect to it."""
    server = Crowded()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    (port,) = free_ports(1)
    await web.TCPSite(runner, LOOPBACK, port).start()
    told = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "it", "cluster": {"server": f"http://{LOOPBACK}:{port}"}}],
        "users": [{"name": "it", "user": {}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "current-context": "it",
    }
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(told))
    async with await KubernetesApi.connect(str(kubeconfig)) as api:
        yield server, api
    await runner.cleanup()


@pytest.mark.parametrize(("said", "seconds"), [("2", 2.0), ("Wed, 04 Mar 2026 09:00:00 GMT", 0.0)])
async def test_a_refusal_carries_when_to_ask_again(
    crowded: tuple[Crowded, KubernetesApi], said: str, seconds: float
) -> None:
    server, api = crowded
    server.retry_after = said
    with pytest.raises(Throttled, match="too many requests, please try again later") as raised:
        await api.get(_PODS)
    assert (raised.value.code, raised.value.retry_after_s) == ("kubernetes-throttled", seconds)
    assert len(server.asked_at) == 1, "a question is asked once"


@pytest.mark.parametrize(
    "ask",
    [
        lambda api: api.get(_PODS),
        lambda api: api.put(_PODS, {}),
        lambda api: api.merge(_PODS, {}),
        lambda api: api.apply(_PODS, {}, manager="it"),
        lambda api: api.update(_PODS, {}, manager="it"),
    ],
    ids=["get", "put", "merge", "apply", "update"],
)
async def test_a_read_or_a_write_is_asked_again_no_sooner_than_the_server_said(
    crowded: tuple[Crowded, KubernetesApi],
    ask: Callable[[KubernetesApi], Coroutine[object, object, object]],
) -> None:
    server, api = crowded
    server.retry_after = "1"

    async def is_sent() -> bool:
        with pytest.raises(Throttled) as raised:
            await ask(api)
        assert 0.0 < raised.value.retry_after_s <= 1.0
        return len(server.asked_at) == 2

    assert not await is_sent()
    await until(is_sent)
    first, second = server.asked_at
    assert second - first >= 1.0
    with pytest.raises(Throttled):
        await api.get("/api/v1/nodes")
    assert len(server.asked_at) == 3, "it says so of each question by itself"


async def test_whoever_follows_asks_again_no_sooner_than_it_was_told_to(
    crowded: tuple[Crowded, KubernetesApi],
) -> None:
    server, api = crowded
    informer = Informer(api, _PODS, lambda: None)
    following = asyncio.create_task(informer.follow())
    await until(lambda: len(server.asked_at) == 2)
    first, second = server.asked_at
    assert second - first >= 2.0
    assert informer.absent is not None
    assert informer.absent.code == "kubernetes-throttled"
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
