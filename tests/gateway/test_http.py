"""What clients really send to a server of HTTP/1.1, and what hostile ones do; on real sockets."""

import asyncio
import socket
import subprocess
from pathlib import Path
from typing import Final

import pytest

from embedded.ports import LOOPBACK
from gateway.limits import Limits
from tests.gateway.test_server import (
    GET,
    LARGER_THAN_BUFFERS,
    POST,
    WITHIN_S,
    read_answer,
    running,
)

pytestmark = pytest.mark.integration

UPGRADE: Final = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAA\r\n"


# --- another protocol is offered ---


async def test_an_offer_of_http2_is_passed_over_and_the_connection_goes_on() -> None:
    asked = POST + UPGRADE + b"Content-Length: 2\r\n\r\nok"
    chunked = POST + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    socket_asked = GET[:-2] % b"a" + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n"
    every = (asked, chunked, socket_asked, GET % b"b", asked)
    told = [b"POST / ok", b"POST / ok", b"GET /a ", b"GET /b ", b"POST / ok"]
    async with running() as server:
        reader, writer = await server.connect()
        for raw in every:
            writer.write(raw)
        assert [(await read_answer(reader))[1] for _ in told] == told
        for byte in b"".join(every):
            writer.write(bytes([byte]))
            await writer.drain()
        assert [(await read_answer(reader))[1] for _ in told] == told
        writer.write(asked * 2_000)
        assert {(await read_answer(reader))[1] for _ in range(2_000)} == {b"POST / ok"}
        writer.close()


async def test_who_offers_http2_and_asks_first_is_told_to_go_on_once() -> None:
    async with running() as server:
        reader, writer = await server.connect()
        writer.write(POST + UPGRADE + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ok")
        assert await read_answer(reader) == (200, b"POST / ok")
        writer.close()


async def test_what_comes_with_an_offer_is_refused_as_it_would_be_without() -> None:
    offer = POST + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n"
    async with running() as server:
        large = await server.say(offer + b"4001\r\n" + b"x" * 0x4001 + b"\r\n0\r\n\r\n")
        broken = await server.say(offer + b"zz\r\n")
        behind = await server.say(offer + b"0\r\n\r\n" + POST + UPGRADE + b"Host: a\r\n\r\n")
    assert large.startswith(b"HTTP/1.1 413")
    assert broken.startswith(b"HTTP/1.1 400")
    assert (behind.count(b"HTTP/1.1 200"), behind.count(b"HTTP/1.1 400")) == (1, 1)


async def test_curl_with_its_offer_of_http2_is_answered(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"x" * 9_000)
    async with running() as server:
        url = f"http://{LOOPBACK}:{server.port}/a"
        asked = ("curl", "--silent", "--http2", "--data-binary", f"@{body}", url)
        told = await asyncio.to_thread(subprocess.run, asked, capture_output=True, check=True)
    assert told.stdout == b"POST /a " + b"x" * 9_000


async def test_a_tunnel_is_refused_and_nothing_is_read_from_it() -> None:
    tunnel = b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"
    async with running() as server:
        first = await server.say(tunnel + GET % b"b")
        later = await server.say(GET % b"a" + tunnel + GET % b"b")
    assert b"connection: close\r\n" in first
    assert (first.count(b"HTTP/1.1 200"), later.count(b"HTTP/1.1 200")) == (1, 2)


# --- which HTTP it is ---


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n",
        b"GET / HTTP/2.0\r\nHost: a\r\n",
        b"GET / HTTP/2.0\r\nHost: a\r\nConnection: keep-alive\r\n",
        b"GET / HTTP/0.9\r\nHost: a\r\n",
        b"GET /\r\n",
    ],
)
async def test_another_http_and_a_host_that_is_not_named_once_are_refused(head: bytes) -> None:
    async with running() as server:
        first = await server.say(head + b"\r\n")
    assert first.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\n", b"GET / HTTP/2.0\r\nHost: a\r\n"])
async def test_they_are_refused_later_on_a_connection_too(head: bytes) -> None:
    async with running() as server:
        said = await server.say(GET % b"a" + head + b"\r\n")
    assert (said.count(b"HTTP/1.1 200"), said.count(b"HTTP/1.1 400")) == (1, 1)


@pytest.mark.parametrize(
    "raw",
    [
        b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\n\r\n",
        POST + b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_nobody_is_told_to_go_on_who_has_no_body_or_does_not_know_of_it(raw: bytes) -> None:
    async with running() as server:
        assert (await server.say(raw)).startswith(b"HTTP/1.1 200")


# --- sizes ---


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (GET[:-2] % b"a" + b"A: " + b"a" * 60_000 + b"\r\n\r\n", b"431"),
        (GET[:-2] % b"a" + b"A: aaaaaa\r\n" * 60 + b"B: " + b"b" * 15_800 + b"\r\n\r\n", b"431"),
        (GET[:-2] % b"a" + b"A: b\r\n" * 65 + b"\r\n", b"431"),
        (GET[:-2] % b"a" + b"Expect: a\r\n" * 200 + b"\r\n", b"431"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n2;" + b"a" * 200_000 + b"\r\nok\r\n", b"413"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 40_000, b"413"),
    ],
)
async def test_what_is_too_large_is_refused_though_it_comes_at_once(
    raw: bytes, status: bytes
) -> None:
    async with running() as server:
        assert (await server.say(raw)).startswith(b"HTTP/1.1 " + status)
        behind = await server.say(GET % b"a" + raw)
        assert behind.startswith(b"HTTP/1.1 200")
        assert b"HTTP/1.1 " + status in behind


async def test_a_body_in_chunks_of_one_byte_and_a_head_near_its_limit_are_no_fault() -> None:
    large = GET[:-2] % b"a" + b"A: " + b"a" * 15_000 + b"\r\n\r\n"
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 16_000 + b"0\r\n\r\n"
    async with running() as server:
        reader, writer = await server.connect()
        writer.write((large + chunked) * 5)
        for _ in range(5):
            assert await read_answer(reader) == (200, b"GET /a ")
            assert await read_answer(reader) == (200, b"POST / " + b"x" * 16_000)
        writer.close()


# --- half a request behind a whole one ---


async def test_half_a_request_behind_a_whole_one_is_timed_out_like_any() -> None:
    async with running(Limits(request_s=0.2)) as server:
        for half in (b"G", POST[:-8], POST + b"Content-Length: 2\r\n\r\no"):
            said = await server.say(GET % b"a" + half)
            assert (said.count(b"HTTP/1.1 200"), said.count(b"HTTP/1.1 408")) == (1, 1)


async def test_half_a_request_behind_a_whole_one_is_not_lost_when_the_server_ends() -> None:
    async with running(Limits(linger_s=0.0)) as server:
        reader, writer = await server.connect()
        writer.write(GET % b"a" + b"GE")
        assert await read_answer(reader) == (200, b"GET /a ")
        idle, idle_writer = await server.connect()
        server.stop.set()
        assert await asyncio.wait_for(idle.read(), WITHIN_S) == b""  # the last call has come
        writer.write(b"T /b HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await read_answer(reader) == (200, b"GET /b ")
        for each in (writer, idle_writer):
            each.close()


# --- streams ---


async def test_a_head_of_a_stream_has_no_event_and_ends() -> None:
    async with running() as server:
        said = await server.say(b"HEAD /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        assert server.echo.senders == []
    assert b"text/event-stream" in said
    assert said.endswith(b"\r\n\r\n")


async def test_who_follows_and_does_not_read_is_hung_up_on() -> None:
    async with running(Limits(request_s=0.3)) as server:
        for path in (b"stream", b"flood"):
            client = socket.create_connection((LOOPBACK, server.port))
            client.sendall(GET % path)
            async with asyncio.timeout(WITHIN_S):
                while not server.echo.senders:
                    await asyncio.sleep(0.01)
                (send,) = server.echo.senders
                while server.server.connections:
                    send(b"x" * 65_536)
                    await asyncio.sleep(0.001)
            assert server.echo.closed == 1
            server.echo.senders.clear()
            server.echo.closed = 0
            client.close()


async def test_who_follows_and_reads_slowly_gets_a_first_event_larger_than_all_buffers() -> None:
    async with running(Limits(request_s=WITHIN_S)) as server:
        reader, writer = await server.connect()
        writer.write(GET % b"flood")
        await reader.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(WITHIN_S):
            first = await reader.readexactly(LARGER_THAN_BUFFERS)
            assert first.count(b"x") == LARGER_THAN_BUFFERS
            assert await reader.readuntil(b"\n\n") == b": whole\n\n"
            assert await reader.readuntil(b"\n\n") == b": open\n\n"
            server.echo.senders[0](b"data: 1\n\n")
            assert await reader.readuntil(b"\n\n") == b"data: 1\n\n"
            writer.close()
            while not server.echo.closed:
                await asyncio.sleep(0.01)
