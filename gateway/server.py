"""HTTP/1.1 on a bare asyncio protocol: httptools parses, handlers answer, mostly at once."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final, Protocol, cast

import httptools

from gateway.replies import Answer, Header, Reply, Request, Stream, problem

SWEEP_S: Final = 1.0
_BACKLOG: Final = 1024
"""Connections that may wait to be accepted; the kernel may allow fewer."""
_LENGTH_OF_CONTENT_LENGTH: Final = len("content-length")
_LENGTH_OF_EXPECT: Final = len("expect")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may ask of the server; sizes in bytes, times in seconds."""

    body: int = 16 * 1024
    head: int = 16 * 1024
    """Request line and headers together."""
    headers: int = 64
    idle_s: float = 65.0
    """Longer than the idle time of common proxies and clients, so that they hang up, and not we."""
    request_s: float = 10.0
    """From a request's first byte to its last; also for how long a client may not read."""
    drain_s: float = 5.0
    linger_s: float = 0.5
    """While ending, for how long a connection that asks nothing may still ask its last."""


class Application(Protocol):
    """Answers requests; the server knows nothing else of it."""

    def answer(self, request: Request) -> Answer | Stream:
        """Answer at once, or promise to."""

    def broken(self, request: Request, defect: BaseException) -> Reply:
        """Answer where a promise could not be kept."""


class _Refused(Exception):  # noqa: N818 - an answer, not an error
    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.reply = problem(status, code, detail)


class Server:
    """Listens, keeps an eye on slow clients, and ends without losing a request."""

    def __init__(self, application: Application, limits: Limits | None = None) -> None:
        self.application = application
        self.limits = limits or Limits()
        self.connections: set[Connection] = set()
        self.is_draining = False

    async def serve(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain."""
        loop = asyncio.get_running_loop()
        # A second handle keeps the socket listening after the server has closed its own.
        waiting = listener.dup()
        server = await loop.create_server(
            lambda: Connection(self, loop), sock=listener, backlog=_BACKLOG
        )
        sweeping = loop.create_task(self._sweep())
        await stop.wait()
        self.is_draining = True
        server.close()
        await self._take_in(waiting)
        began = loop.time()
        while self.connections and loop.time() - began < self.limits.drain_s:
            for connection in tuple(self.connections):
                connection.drain(is_last_call=loop.time() - began > self.limits.linger_s)
            await asyncio.sleep(0.02)
        for connection in tuple(self.connections):
            connection.abort()
        sweeping.cancel()

    async def _take_in(self, waiting: socket.socket) -> None:
        """Accept whoever the kernel has accepted for us: closing would reset them unheard."""
        loop = asyncio.get_running_loop()
        waiting.setblocking(False)  # noqa: FBT003 - the standard library's
        with waiting:
            while True:
                try:
                    client, _ = waiting.accept()
                except ConnectionAbortedError:
                    continue
                except OSError:  # nobody waits, or no more can be held
                    return
                await loop.connect_accepted_socket(lambda: Connection(self, loop), client)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(SWEEP_S, self.limits.request_s / 4.0))
            now = loop.time()
            for connection in tuple(self.connections):
                connection.look_at_the_clock(now)


class Connection(asyncio.Protocol):
    """One client; requests that it sends ahead are answered in their order."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._limits = server.limits
        self._answer = server.application.answer
        self._broken = server.application.broken
        self._now = loop.time
        self._close_stream: Callable[[], None] | None = None
        self._promised: asyncio.Future[Reply] | None = None
        """The answer that is waited for; whatever came after its request waits behind it."""
        self._behind: deque[Callable[[], None]] = deque()
        self._is_closing = False
        self._stalled_at: float | None = None
        self._heard_at = loop.time()
        self._began_at: float | None = None
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: list[Header] = []
        self._body = b""
        self._head_bytes = 0
        self._has_head = False
        self._trailers = 0
        self._expects = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to listen to a client."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own kind of it
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if peer else None
        self._parser = httptools.HttpRequestParser(self)
        self._server.connections.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        """Forget the client."""
        self._server.connections.discard(self)
        self._is_closing = True
        if self._close_stream is not None:
            self._close_stream()
        if self._promised is not None:
            self._promised.cancel()
            self._behind.clear()

    def data_received(self, data: bytes) -> None:
        """Take what the client sent, and answer each request that is whole."""
        if self._is_closing or self._close_stream is not None:
            return
        if self._promised is not None:
            self._behind.append(partial(self.data_received, data))
            self._transport.pause_reading()
            return
        self._heard_at = self._now()
        if not self._has_head:
            if not self._head_bytes:
                self._began_at = self._heard_at
            self._head_bytes += len(data)
        last = self._parse(data)
        if last is not None:
            self._in_turn(last)

    def _parse(self, data: bytes) -> Callable[[], None] | None:
        """Feed the parser, which calls back; return what ends the connection, if anything does."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if not isinstance(cause, _Refused):
                raise
            return partial(self._close_with, cause.reply)
        except httptools.HttpParserUpgrade:
            # No other protocol is spoken: the request is answered, and what follows is not read.
            return self._close
        except httptools.HttpParserError as error:
            detail = f"what arrived is no HTTP/1.1 request ({str(error)[:80]})"
            return partial(self._close_with, problem(400, "malformed", detail))
        if not self._has_head and self._head_bytes > self._limits.head:
            return partial(self._close_with, _head_too_large(self._limits))
        return None

    # --- called by the parser, in the order of a request ---

    def on_url(self, url: bytes) -> None:
        """Take a part of the request's target."""
        self._url += url
        if len(self._url) > self._limits.head:
            raise _Refused(414, "too-large", f"the URL is over {self._limits.head} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what is announced to be too large is refused before it is sent."""
        if self._has_head:
            self._drop_trailer()
            return
        headers = self._headers
        headers.append((name, value))
        length = len(name)
        if length == _LENGTH_OF_CONTENT_LENGTH and name.lower() == b"content-length":
            if len(value) > 18 or int(value) > self._limits.body:  # noqa: PLR2004 - digits
                raise _Refused(*_too_large(self._limits))
        elif length == _LENGTH_OF_EXPECT and name.lower() == b"expect":
            self._expects = value.lower() == b"100-continue"
        elif len(headers) > self._limits.headers:
            raise _Refused(431, "too-large", f"there are over {self._limits.headers} headers")

    def _drop_trailer(self) -> None:
        """Count it and no more: whoever vouched for the headers has not seen what comes after."""
        self._trailers += 1
        if len(self._headers) + self._trailers > self._limits.headers:
            raise _Refused(431, "too-large", f"there are over {self._limits.headers} headers")

    def on_headers_complete(self) -> None:
        """Tell a client that asked first to go on."""
        self._has_head = True
        if self._expects:
            self._in_turn(partial(self._transport.write, b"HTTP/1.1 100 Continue\r\n\r\n"))

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body += body
        if len(self._body) > self._limits.body:
            raise _Refused(*_too_large(self._limits))

    def on_message_complete(self) -> None:
        """Answer; after an answer that was to be the last, nothing more."""
        if self._is_closing or self._close_stream is not None:
            return
        parser = self._parser
        method = parser.get_method()
        request = Request(method, self._url, self._headers, self._body, self._peer)
        may_keep = parser.should_keep_alive()
        self._began_at = None
        if self._promised is None:
            reply = self._answer(request)
            # As nearly all are: at the cost of one comparison, and no further call.
            if (
                type(reply) is Reply
                and may_keep
                and method != b"HEAD"
                and not self._server.is_draining
            ):
                self._transport.write(reply.wire)
            else:
                self._give(request, reply, may_keep=may_keep)
        else:
            self._behind.append(partial(self._answer_behind, request, may_keep=may_keep))
        self._reset()

    # --- answering, in the order of the requests ---

    def _give(self, request: Request, reply: Answer | Stream, *, may_keep: bool) -> None:
        if isinstance(reply, Stream):
            self._open(reply)
        elif isinstance(reply, Reply):
            keeps_alive = may_keep and not self._server.is_draining
            self._transport.write(_as_asked(reply, request.method, keeps_alive=keeps_alive))
            if not keeps_alive:
                self._close()
        else:
            self._promised = reply
            reply.add_done_callback(partial(self._keep_promise, request, may_keep=may_keep))

    def _answer_behind(self, request: Request, *, may_keep: bool) -> None:
        self._give(request, self._answer(request), may_keep=may_keep)

    def _keep_promise(
        self, request: Request, promised: asyncio.Future[Reply], *, may_keep: bool
    ) -> None:
        self._promised = None
        if promised.cancelled():  # whoever asked has hung up
            return
        defect = promised.exception()
        reply = promised.result() if defect is None else self._broken(request, defect)
        if not self._is_closing:
            self._give(request, reply, may_keep=may_keep)
            self._go_on()

    def _go_on(self) -> None:
        """Do what waited behind a promise that was kept, up to the next one."""
        while self._behind and self._promised is None and not self._is_closing:
            self._behind.popleft()()
        if self._promised is None and self._stalled_at is None and not self._is_closing:
            self._transport.resume_reading()

    def _in_turn(self, act: Callable[[], None]) -> None:
        """Do it once all that was asked before is answered."""
        if self._promised is None:
            act()
        else:
            self._behind.append(act)

    # --- flow ---

    def pause_writing(self) -> None:
        """Read no more from a client that does not read its answers."""
        self._stalled_at = self._now()
        if self._close_stream is None:
            self._transport.pause_reading()
        else:
            # What it missed it could not catch up with; it comes back and asks anew.
            self.abort()

    def resume_writing(self) -> None:
        """Go on with a client that reads again."""
        self._stalled_at = None
        if not self._is_closing and self._promised is None:
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        """End with a client that sends no more: all that it asked whole is answered."""
        if self._promised is None:
            return False
        self._behind.append(self._close)
        return True

    def look_at_the_clock(self, now: float) -> None:
        """Hang up on who is idle or slow."""
        limits, unheard_s = self._limits, now - self._heard_at
        if self._close_stream is not None or self._promised is not None:
            return
        if self._stalled_at is not None or self._is_closing:
            since = self._heard_at if self._stalled_at is None else self._stalled_at
            if now - since > limits.request_s:
                self.abort()
        elif self._began_at is not None and now - self._began_at > limits.request_s:
            detail = f"the request did not arrive within {limits.request_s:g} s"
            self._close_with(problem(408, "too-slow", detail))
        elif unheard_s > (limits.request_s if self._head_bytes else limits.idle_s):
            self._close()

    def drain(self, *, is_last_call: bool) -> None:
        """End a stream at once, and an idle connection at the last call."""
        is_idle = self._began_at is None and self._promised is None
        if self._close_stream is not None or (is_last_call and is_idle):
            self._close()

    def abort(self) -> None:
        """Hang up at once."""
        self._is_closing = True
        self._transport.abort()

    def _open(self, stream: Stream) -> None:
        self._transport.write(stream.head)
        self._close_stream = stream.open(self._send)

    def _send(self, chunk: bytes) -> None:
        if not self._is_closing:
            self._transport.write(chunk)

    def _close_with(self, reply: Reply) -> None:
        """Answer for the last time to a client that may be sending still.

        Closing at once would reset the connection and could take the answer with it; so what
        comes is read and dropped, until the client hangs up or its time is over.
        """
        if not self._is_closing:
            self._is_closing = True
            self._transport.write(_as_asked(reply, b"", keeps_alive=False))
            self._transport.write_eof()

    def _close(self) -> None:
        self._is_closing = True
        self._transport.close()


def _too_large(limits: Limits) -> tuple[int, str, str]:
    return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", f"the body is over {limits.body} bytes"


def _head_too_large(limits: Limits) -> Reply:
    return problem(431, "too-large", f"request line and headers are over {limits.head} bytes")


def _as_asked(reply: Reply, method: bytes, *, keeps_alive: bool) -> bytes:
    """Return a reply as the unusual request wants it: without a body, or as the last one."""
    wire = reply.wire
    if method == b"HEAD":
        wire = wire[: wire.index(b"\r\n\r\n") + 4]
    if not keeps_alive:
        status, _, rest = wire.partition(b"\r\n")
        wire = status + b"\r\nconnection: close\r\n" + rest
    return wire
