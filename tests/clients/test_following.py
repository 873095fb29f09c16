"""Following a gateway's stream, with a loop and from a thread, through whatever it does."""

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from embedded.ports import LOOPBACK
from tests.gateway.asking import KEY
from tests.gateway.running import RunningGateway, running_gateway
from tests.real_redis import real_redis
from tests.tidegate.snapshots import gate, intent, snapshot
from tidegate.clients.client import Background, Client, follow, follow_in_background
from tidegate.edges.gateway_stream import StreamFollower
from tidegate.edges.redis import Redis
from tidegate.edges.stored import SnapshotFile
from tidegate.errors import PlanError
from tidegate.holding import SnapshotHolder
from tidegate.signing import load_keyring
from tidegate.snapshot import Snapshot

NOWHERE = f"http://{LOOPBACK}:1"


def published(version: int) -> Snapshot:
    now = time.time()
    return snapshot(intent(at=now, version=version), gate(at=now, version=version))


async def until(is_so: Callable[[], bool], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not is_so():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def publishing(folder: Path) -> AsyncIterator[tuple[Redis, RunningGateway]]:
    async with (
        real_redis(folder) as (server, redis),
        running_gateway(folder, server.server.url) as gateway,
    ):
        yield redis, gateway


async def publish(redis: Redis, version: int, *, is_open: bool) -> None:
    part = published(version).intent
    assert part is not None
    await redis.publish(part if is_open else part.model_copy(update={"features": {}}))


def may(client: Client) -> bool:
    return client.may_use("image", "ada", "pro").allowed


@pytest.mark.integration
async def test_a_gateways_stream_is_followed_and_outlived(tmp_path: Path) -> None:
    async with (
        publishing(tmp_path) as (redis, gateway),
        follow(gateway.url, tmp_path / "a", api_key=KEY, ready_within_s=0.05) as client,
    ):
        assert not client.is_ready
        await publish(redis, 1, is_open=True)
        await until(lambda: may(client))
        await publish(redis, 2, is_open=False)
        await until(lambda: not may(client))
        await publish(redis, 3, is_open=True)
        await until(lambda: may(client))
        await gateway.stop()
        assert may(client)
    async with follow(NOWHERE, tmp_path / "a", ready_within_s=0.05) as client:
        assert may(client)


@pytest.mark.integration
async def test_a_service_without_a_loop_follows_from_a_thread(tmp_path: Path) -> None:
    async with publishing(tmp_path) as (redis, gateway):
        await publish(redis, 1, is_open=True)

        def serve() -> list[bool]:
            with follow_in_background(gateway.url, tmp_path / "b", api_key=KEY) as client:
                return [may(client)]

        assert await asyncio.to_thread(serve) == [True]
        assert "tidegate" not in {thread.name for thread in threading.enumerate()}


def test_a_thread_that_hears_nothing_begins_in_time_and_closed(tmp_path: Path) -> None:
    began = time.monotonic()
    with follow_in_background(NOWHERE, tmp_path, ready_within_s=0.05) as client:
        assert not client.is_ready
        assert not may(client)
    assert time.monotonic() - began < 4.0


@pytest.mark.parametrize(
    ("address", "keys", "said"),
    [
        ("127.0.0.1:8080", None, 'address: got "127.0.0.1:8080", expected the URL of a gateway'),
        ("http://", None, 'address: got "http://", expected the URL'),
        ("http://gateway:no", None, 'address: got "http://gateway:no", expected the URL'),
        ("ftp://gateway", None, 'address: got "ftp://gateway", expected the URL'),
        (NOWHERE, "mistyped.json", "mistyped.json: got no such file, expected the keys"),
        ("redis://127.0.0.1:1/0", "mistyped.json", "mistyped.json: got no such file"),
        ("redis://127.0.0.1:1/0", "broken.json", "broken.json: got no keys"),
    ],
)
async def test_a_mistake_is_told_where_following_begins(
    tmp_path: Path, address: str, keys: str | None, said: str
) -> None:
    (tmp_path / "broken.json").write_text('{"keys": 1}')
    path = None if keys is None else tmp_path / keys
    with pytest.raises(PlanError, match=re.escape(said)):
        async with follow(address, tmp_path / "a", keys=path):
            pass
    with (
        pytest.raises(PlanError, match=re.escape(said)),
        follow_in_background(address, tmp_path / "b", keys=path),
    ):
        pass
    assert not (tmp_path / "mistyped.json").exists()


async def test_a_scheme_in_capitals_is_a_scheme(tmp_path: Path) -> None:
    async with strange_gateway(event(published(5).model_dump_json())) as url:
        address = url.replace("http://", "HTTP://")
        async with follow(address, tmp_path) as client:
            assert client.is_ready


def test_what_never_began_can_be_stopped_and_begun_again(tmp_path: Path) -> None:
    background = Background(NOWHERE, tmp_path, keys=tmp_path / "keys.json")
    for _ in range(2):
        with pytest.raises(PlanError):
            background.start()
        background.stop()
    load_keyring(tmp_path / "keys.json")
    for _ in range(2):
        background.start()
        background.stop()
        background.stop()


class Strange:
    """A server that says whatever it is told to, once for each who comes."""

    def __init__(self, *says: bytes) -> None:
        self._says = list(says)
        self.came = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        says = self._says[min(self.came, len(self._says) - 1)]
        self.came += 1
        writer.write(says)
        await writer.drain()
        if not says.endswith(b"\n\n"):
            writer.close()
            return
        await reader.read()  # until the other side hangs up
        writer.close()


@asynccontextmanager
async def strange_gateway(*says: bytes) -> AsyncIterator[str]:
    server = await asyncio.start_server(Strange(*says).serve, LOOPBACK, 0)
    try:
        yield f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def event(text: str) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    return head + b": open\n\n" + b"data: " + text.encode() + b"\n\n"


@pytest.mark.parametrize(
    "first",
    [
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nlocation: http://192.0.2.1/\r\ncontent-length: 0\r\n\r\n",
        b"no http at all",
        event('{"intent": 7}'),
        event("no json"),
        event("{}")[:-9],
        event('{"renewed": {"of": 3, "version": 4, "issued_at": 1, "expires_at": 2}}'),
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n: it hangs\n\n",
    ],
)
async def test_a_gateway_that_answers_strangely_is_left_and_asked_again(
    tmp_path: Path, first: bytes
) -> None:
    strange = Strange(first, event(published(5).model_dump_json()))
    server = await asyncio.start_server(strange.serve, LOOPBACK, 0)
    port = server.sockets[0].getsockname()[1]
    holder = SnapshotHolder()
    file = SnapshotFile(tmp_path / "client.json")
    follower = StreamFollower(f"http://{LOOPBACK}:{port}", holder, file, silent_s=0.3)
    following = asyncio.create_task(follower.run())
    try:
        await until(lambda: holder.now_held.is_ready)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        server.close()
    assert strange.came >= 2
    assert file.load().intent is not None
