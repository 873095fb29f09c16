"""An answer that is waited for holds up its own connection, in order, and no other."""

import asyncio
import socket
import struct
from typing import Final

import pytest

from gateway.limits import Limits
from gateway.replies import Reply
from tests.gateway.test_server import GET, WITHIN_S, Running, read_answer, running

pytestmark = pytest.mark.integration

EXPECTING: Final = (
    b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
)
KEPT: Final = Reply(200, b"kept", ())


async def until_promised(server: Running, count: int = 1) -> None:
    async with asyncio.timeout(WITHIN_S):
        while len(server.echo.promised) < count:
            await asyncio.sleep(0.001)


async def until_gone(server: Running) -> None:
    async with asyncio.timeout(WITHIN_S):
        while server.server.connections:
            await asyncio.sleep(0.001)


async def test_a_promised_answer_is_sent_once_it_is_there() -> None:
    async with running() as server:
        reader, writer = await server.connect()
        writer.write(GET % b"later")
        await until_promised(server)
        server.echo.promised[0].set_result(KEPT)
        assert await read_answer(reader) == (200, b"kept")
        writer.write(GET % b"next")
        assert await read_answer(reader) == (200, b"GET /next ")
        writer.close()


async def test_requests_behind_a_promise_are_answered_after_it_and_in_their_order() -> None:
    async with running() as server:
        reader, writer = await server.connect()
        behind = [GET % name for name in (b"1", b"later2", b"3", b"later4", b"5")]
        writer.write(GET % b"later" + b"".join(behind))
        await until_promised(server)
        writer.write(GET % b"6" + (GET % b"7")[:10])
        await server.say(GET % b"other" + b"broken\r\n\r\n")  # answered meanwhile
        assert server.echo.heard == [b"/later", b"/other"]
        for count in (1, 2, 3):
            await until_promised(server, count)
            server.echo.promised[count - 1].set_result(Reply(200, b"kept %d" % count, ()))
        writer.write((GET % b"7")[10:])
        answers = [(await read_answer(reader))[1] for _ in range(8)]
        assert answers == [
            b"kept 1",
            b"GET /1 ",
            b"kept 2",
            b"GET /3 ",
            b"kept 3",
            b"GET /5 ",
            b"GET /6 ",
            b"GET /7 ",
        ]
        writer.close()


async def test_a_client_that_sends_on_is_not_read_from_while_it_waits() -> None:
    async with running() as server:
        reader, writer = await server.connect()
        writer.write(GET % b"later")
        await until_promised(server)
        count = 20_000
        writer.write(b"".join(GET % b"x" for _ in range(count)))
        await server.say(GET % b"a" + b"broken\r\n\r\n")
        (waiting,) = (each for each in server.server.connections if each._promised)
        assert len(waiting._behind) <= 1
        server.echo.promised[0].set_result(KEPT)
        assert (await read_answer(reader))[1] == b"kept"
        for _ in range(count):
            await read_answer(reader)
        writer.close()


async def test_a_promised_head_has_no_body_and_the_last_answer_says_so() -> None:
    async with running() as server:
        reader, writer = await server.connect()
        writer.write(b"HEAD /later HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + GET % b"b")
        await until_promised(server)
        server.echo.promised[0].set_result(KEPT)
        said = await asyncio.wait_for(reader.read(), WITHIN_S)
        assert said.count(b"HTTP/1.1 200") == 1
        assert b"connection: close\r\n" in said
        assert b"content-length: 4\r\n" in said
        assert said.endswith(b"\r\n\r\n")
        writer.close()


async def test_what_cannot_be_read_is_told_after_the_promise() -> None:
    async with running() as server:
        reader, writer = await server.connect()
        writer.write(GET % b"later" + b"no http\r\n\r\n")
        await until_promised(server)
        server.echo.promised[0].set_result(KEPT)
        assert await read_answer(reader) == (200, b"kept")
        assert (await read_answer(reader))[0] == 400
        assert await asyncio.wait_for(reader.read(), WITHIN_S) == b""
        writer.close()


@pytest.mark.parametrize("then", [b"no HTTP at all\r\n\r\n", GET % b"later", EXPECTING])
async def test_nothing_is_written_into_a_stream_but_its_events(then: bytes) -> None:
    async with running() as server:
        reader, writer = await server.connect()
        writer.write(GET % b"later" + GET % b"stream" + then)
        await until_promised(server)
        server.echo.promised[0].set_result(KEPT)
        assert await read_answer(reader) == (200, b"kept")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"text/event-stream" in head
        assert await reader.readuntil(b"\n\n") == b": open\n\n"
        server.echo.senders[0](b"data: 1\n\n")
        assert await reader.readuntil(b"\n\n") == b"data: 1\n\n"
        writer.close()


async def test_who_asks_first_behind_a_promise_is_told_to_go_on_after_it() -> None:
    async with running() as server:
        reader, writer = await server.connect()
        writer.write(GET % b"later" + EXPECTING)
        await until_promised(server)
        server.echo.promised[0].set_result(KEPT)
        assert await read_answer(reader) == (200, b"kept")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ok")
        assert await read_answer(reader) == (200, b"POST /a ok")
        writer.close()


async def test_a_promise_that_fails_is_a_defect_and_ends_nothing() -> None:
    async with running() as server:
        reader, writer = await server.connect()
        writer.write(GET % b"later" + GET % b"next")
        await until_promised(server)
        server.echo.promised[0].set_exception(ValueError("no"))
        assert await read_answer(reader) == (500, b"/later no")
        assert await read_answer(reader) == (200, b"GET /next ")
        writer.close()


async def test_a_client_that_sends_no_more_still_gets_a_promised_answer() -> None:
    async with running() as server:
        reader, writer = await server.connect()
        writer.write(GET % b"later" + GET % b"b")
        writer.write_eof()
        await until_promised(server)
        await server.say(GET % b"a" + b"broken\r\n\r\n")
        server.echo.promised[0].set_result(KEPT)
        said = await asyncio.wait_for(reader.read(), WITHIN_S)
        assert said.count(b"HTTP/1.1 200") == 2
        writer.close()


async def test_whoever_hangs_up_while_waiting_is_waited_for_no_more() -> None:
    async with running() as server:
        _, writer = await server.connect()
        writer.write(GET % b"later" + GET % b"never")
        await until_promised(server)
        hang_up(writer)
        await until_gone(server)
        assert server.echo.promised[0].cancelled()
        assert server.echo.heard == [b"/later"]


def hang_up(writer: asyncio.StreamWriter) -> None:
    """Reset the connection, as when a client dies."""
    held = writer.get_extra_info("socket")
    held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_no_promise_is_lost_when_the_server_ends() -> None:
    async with running(Limits(linger_s=0.0)) as server:
        reader, writer = await server.connect()
        writer.write(GET % b"later")
        await until_promised(server)
        _, idle = await server.connect()
        server.stop.set()
        async with asyncio.timeout(WITHIN_S):
            while len(server.server.connections) > 1:  # the idle one was hung up on
                await asyncio.sleep(0.001)
        server.echo.promised[0].set_result(KEPT)
        said = await asyncio.wait_for(reader.read(), WITHIN_S)
        assert said.startswith(b"HTTP/1.1 200")
        assert b"connection: close\r\n" in said
        for each in (writer, idle):
            each.close()
        await asyncio.wait_for(server.served, WITHIN_S)
