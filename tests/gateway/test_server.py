"""The server on real sockets: what HTTP/1.1 allows is served, and what it forbids is refused."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import pytest

from embedded.ports import LOOPBACK
from gateway.limits import Limits
from gateway.replies import Answer, Reply, Request, Stream
from gateway.server import Server

pytestmark = pytest.mark.integration

WITHIN_S: Final = 5.0
GET: Final = b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n"
POST: Final = b"POST / HTTP/1.1\r\nHost: a\r\n"
LARGER_THAN_BUFFERS: Final = 16 * 1024 * 1024


class Echo:
    """Answers with the method, the target and the body that it was asked with."""

    def __init__(self) -> None:
        self.senders: list[Callable[[bytes], None]] = []
        self.closed = 0
        self.heard: list[bytes] = []
        self.promised: list[asyncio.Future[Reply]] = []

    def answer(self, request: Request) -> Answer | Stream:
        self.heard.append(request.target)
        if request.target == b"/stream":
            return Stream(self._open)
        if request.target.startswith(b"/later"):
            self.promised.append(asyncio.get_running_loop().create_future())
            return self.promised[-1]
        if request.target == b"/flood":
            return Stream(self._flood)
        if request.target == b"/large":
            return Reply(200, b"x" * 100_000, ())
        said = b" ".join((request.method, request.target, request.body))
        if request.target == b"/headers":
            said = b",".join(name for name, _ in request.headers)
        return Reply(200, said, ((b"content-type", b"text/plain"),))

    def broken(self, request: Request, defect: BaseException) -> Reply:
        return Reply(500, request.target + b" " + str(defect).encode(), ())

    def _flood(self, send: Callable[[bytes], None]) -> Callable[[], None]:
        send(b"x" * LARGER_THAN_BUFFERS + b": whole\n\n")
        return self._open(send)

    def _open(self, send: Callable[[bytes], None]) -> Callable[[], None]:
        self.senders.append(send)
        send(b": open\n\n")

        def close() -> None:
            self.closed += 1

        return close


class Running:
    def __init__(self, server: Server, echo: Echo, port: int, stop: asyncio.Event) -> None:
        self.server, self.echo, self.port, self.stop = server, echo, port, stop
        self.served: asyncio.Task[None]

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(LOOPBACK, self.port)

    async def say(self, raw: bytes) -> bytes:
        """Send bytes and return all that is answered until the server hangs up."""
        reader, writer = await self.connect()
        writer.write(raw)
        try:
            return await asyncio.wait_for(reader.read(), WITHIN_S)
        finally:
            writer.close()


@asynccontextmanager
async def running(limits: Limits | None = None) -> AsyncIterator[Running]:
    listener = socket.create_server((LOOPBACK, 0))
    echo, stop = Echo(), asyncio.Event()
    server = Server(echo, limits)
    held = Running(server, echo, listener.getsockname()[1], stop)
    held.served = asyncio.create_task(server.serve(listener, stop))
    try:
        yield held
    finally:
        stop.set()
        await asyncio.wait_for(held.served, WITHIN_S)


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    async with asyncio.timeout(WITHIN_S):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        return int(head.split()[1]), await reader.readexactly(length)


async def test_a_connection_serves_one_request_after_the_other() -> None:
    async with running() as server:
        reader, writer = await server.connect()
        for n in (b"1", b"2", b"3"):
            writer.write(GET % n)
            assert await read_answer(reader) == (200, b"GET /" + n + b" ")
        writer.close()


async def test_requests_sent_ahead_are_answered_in_their_order() -> None:
    async with running() as server:
        reader, writer = await server.connect()
        writer.write(b"".join(GET % str(n).encode() for n in range(500)))
        answers = [(await read_answer(reader))[1] for _ in range(500)]
        assert answers == [f"GET /{n} ".encode() for n in range(500)]
        writer.close()


async def test_a_request_may_come_byte_by_byte_and_in_chunks() -> None:
    whole = POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    async with running() as server:
        reader, writer = await server.connect()
        for byte in whole:
            writer.write(bytes([byte]))
            await writer.drain()
        assert await read_answer(reader) == (200, b"POST / abcde")
        writer.close()


async def test_trailers_are_headers_neither_of_their_request_nor_of_the_next() -> None:
    chunked = b"POST /headers HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    async with running() as server:
        reader, writer = await server.connect()
        writer.write(chunked + b"X-Api-Key: a\r\nY:\r\n\r\n" + GET % b"headers")
        assert await read_answer(reader) == (200, b"Host,Transfer-Encoding")
        assert await read_answer(reader) == (200, b"Host")
        writer.close()


async def test_a_head_has_the_length_of_the_body_and_no_body() -> None:
    async with running() as server:
        said = await server.say(b"HEAD /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert b"content-length: 8\r\n" in said
    assert said.endswith(b"\r\n\r\n")


async def test_the_last_answer_says_so_and_what_follows_is_not_answered() -> None:
    last = b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    async with running() as server:
        said = await server.say(last + GET % b"b")
        old = await server.say(b"GET /a HTTP/1.0\r\n\r\n")
    for answer in (said, old):
        assert answer.count(b"HTTP/1.1 200") == 1
        assert b"connection: close\r\n" in answer


async def test_who_asks_first_is_told_to_go_on() -> None:
    async with running() as server:
        reader, writer = await server.connect()
        writer.write(POST + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ok")
        assert await read_answer(reader) == (200, b"POST / ok")
        writer.close()


async def test_who_asks_first_with_too_much_is_told_not_to() -> None:
    async with running() as server:
        said = await server.say(POST + b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 413")


async def test_a_client_that_sends_no_more_still_gets_its_answers() -> None:
    async with running() as server:
        reader, writer = await server.connect()
        writer.write(GET % b"a" + GET % b"b")
        writer.write_eof()
        said = await asyncio.wait_for(reader.read(), WITHIN_S)
        assert said.count(b"HTTP/1.1 200") == 2
        writer.close()


SMUGGLED: Final = {
    "length and encoding": POST + b"Content-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "same length twice": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    "lengths in a list": POST + b"Content-Length: 5, 6\r\n\r\nabcdef",
    "signed length": POST + b"Content-Length: +5\r\n\r\nabcde",
    "chunked is not last": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked, oddly": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "space before the colon": POST + b"Content-Length : 5\r\n\r\nabcde",
    "folded header": POST + b"A: b\r\n Content-Length: 5\r\n\r\nabcde",
    "bare line feeds": b"POST / HTTP/1.1\nContent-Length: 5\n\nabcde",
    "zero byte": b"GET / HTTP/1.1\r\nHost: a\r\nA: b\x00c\r\n\r\n",
    "bad chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    "chunk too long": POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("raw", SMUGGLED.values(), ids=SMUGGLED)
async def test_what_two_servers_could_read_differently_is_refused(raw: bytes) -> None:
    async with running() as server:
        said = await server.say(raw)
    assert said.count(b"content-length: ") == 1
    assert said.startswith(b"HTTP/1.1 400")
    assert b"connection: close\r\n" in said


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"a" * 20_000, b"431"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 65 + b"\r\n", b"431"),
        (POST + b"Content-Length: 20000\r\n\r\n", b"413"),
        (POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", b"4"),
    ],
)
async def test_what_is_too_large_is_refused_as_soon_as_that_is_known(
    raw: bytes, status: bytes
) -> None:
    async with running() as server:
        assert (await server.say(raw)).startswith(b"HTTP/1.1 " + status)


async def test_a_refused_upload_is_told_though_it_goes_on() -> None:
    async with running() as server:
        reader, writer = await server.connect()
        writer.write(POST + b"Content-Length: 5000000\r\n\r\n" + b"x" * 200_000)
        assert (await read_answer(reader))[0] == 413
        writer.write(b"x" * 200_000)
        await writer.drain()
        writer.close()


async def test_a_request_that_drips_is_timed_out_and_an_idle_client_hung_up_on() -> None:
    async with running(Limits(request_s=0.2, idle_s=0.2)) as server:
        assert (await server.say(POST + b"Content-")).startswith(b"HTTP/1.1 408")
        body = POST + b"Content-Length: 5\r\n\r\nab"
        assert (await server.say(body)).startswith(b"HTTP/1.1 408")
        assert await server.say(b"") == b""


async def test_a_client_that_does_not_read_is_not_read_from_and_then_hung_up_on() -> None:
    async with running(Limits(request_s=0.3)) as server:
        reader, writer = await server.connect()
        asked = b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n" * 2_000

        async def ask_without_end() -> None:
            while True:
                writer.write(asked)
                await writer.drain()

        asking = asyncio.create_task(ask_without_end())
        async with asyncio.timeout(WITHIN_S):
            while not any(c._stalled_at for c in server.server.connections):
                await asyncio.sleep(0.01)
            while server.server.connections:
                await asyncio.sleep(0.01)
        asking.cancel()
        writer.close()
        assert reader is not None


async def test_a_stream_is_sent_to_until_the_client_hangs_up() -> None:
    async with running() as server:
        reader, writer = await server.connect()
        writer.write(GET % b"stream")
        assert b"text/event-stream" in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readuntil(b"\n\n") == b": open\n\n"
        server.echo.senders[0](b"data: 1\n\n")
        assert await reader.readuntil(b"\n\n") == b"data: 1\n\n"
        writer.close()
        async with asyncio.timeout(WITHIN_S):
            while not server.echo.closed:
                await asyncio.sleep(0.01)


async def test_no_request_is_lost_when_the_server_ends() -> None:
    async with running() as server:
        under_way, writer = await server.connect()
        writer.write(POST + b"Content-Length: 2\r\n\r\no")
        idle, idle_writer = await server.connect()
        stream, stream_writer = await server.connect()
        stream_writer.write(GET % b"stream")
        await stream.readuntil(b"\n\n")
        server.stop.set()
        assert await asyncio.wait_for(stream.read(), WITHIN_S) == b""
        idle_writer.write(GET % b"last")
        assert await read_answer(idle) == (200, b"GET /last ")
        writer.write(b"k")
        assert await read_answer(under_way) == (200, b"POST / ok")
        assert await asyncio.wait_for(under_way.read(), WITHIN_S) == b""
        for each in (writer, idle_writer, stream_writer):
            each.close()
        await asyncio.wait_for(server.served, WITHIN_S)
