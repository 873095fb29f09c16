"""HTTP/1.1 with one client: httptools parses, handlers answer, and answers keep their order."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol, cast

import httptools

from gateway.limits import (
    Limits,
    Refused,
    body_too_large,
    head_too_large,
    malformed,
    padding_too_large,
    require_head,
    require_version,
    waits_to_go_on,
)
from gateway.replies import Answer, Header, Reply, Request, Stream, as_asked, problem

_LENGTH_OF_CONTENT_LENGTH: Final = len("content-length")
_LENGTH_OF_HOST: Final = len("host")
_UNUSUAL: Final = frozenset({b"expect", b"upgrade"})
_LENGTHS_OF_UNUSUAL: Final = frozenset(map(len, _UNUSUAL))


class Application(Protocol):
    """Answers requests; the server knows nothing else of it."""

    def answer(self, request: Request) -> Answer | Stream:
        """Answer at once, or promise to."""

    def broken(self, request: Request, defect: BaseException) -> Reply:
        """Answer where a promise could not be kept."""


@dataclass(slots=True)
class Serving:
    """What the connections of one server share."""

    application: Application
    limits: Limits
    connections: set["Connection"] = field(default_factory=set)
    is_draining: bool = False


class Connection(asyncio.Protocol):
    """One client; requests that it sends ahead are answered in their order."""

    def __init__(self, serving: Serving, loop: asyncio.AbstractEventLoop) -> None:
        self._serving = serving
        self._limits = limits = serving.limits
        self._most_at_once, self._most_headers = limits.head, limits.headers
        self._answer = serving.application.answer
        self._broken = serving.application.broken
        self._now = loop.time
        self._close_stream: Callable[[], None] | None = None
        self._is_stream = False
        self._promised: asyncio.Future[Reply] | None = None
        """The answer that is waited for; whatever came after its request waits behind it."""
        self._behind: deque[Callable[[], None]] = deque()
        self._is_closing = False
        self._stalled_at: float | None = None
        self._heard_at = loop.time()
        self._arrived = 0
        """Bytes of the request under way, without those that came together with one before it."""
        self._is_unusual = True  # a client's first request is looked at closer
        self._keeps_alive = True
        self.on_message_begin()
        self._began_at: float | None = None
        """When the request under way began to arrive; None between requests."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to listen to a client."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own kind of it
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if peer else None
        self._parser = httptools.HttpRequestParser(self)
        self._serving.connections.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        """Forget the client."""
        self._serving.connections.discard(self)
        self._is_closing = True
        if self._close_stream is not None:
            self._close_stream()
        if self._promised is not None:
            self._promised.cancel()
            self._behind.clear()

    def data_received(self, data: bytes) -> None:
        """Take what the client sent, and answer each request that is whole."""
        if self._is_closing or self._is_stream or self._promised is not None:
            self._set_aside(data)
            return
        if len(data) > self._most_at_once:
            self._receive_in_pieces(data)
            return
        self._heard_at = self._now()
        self._arrived += len(data)
        behind_offer = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offered:
            behind_offer = data[offered.args[0] :]
        except httptools.HttpParserError as error:
            self._refuse(error)
        if behind_offer is not None:
            # Not while that exception is handled: it would hide why a callback refuses.
            self._feed_without_offer(behind_offer)
        if self._began_at is not None:
            self._look_at_half()

    def _set_aside(self, data: bytes) -> None:
        """Keep what comes while an answer is waited for, and read no more; drop it at the end."""
        if not (self._is_closing or self._is_stream):
            self._behind.append(partial(self.data_received, data))
            self._transport.pause_reading()

    def _receive_in_pieces(self, data: bytes) -> None:
        """Take no more at once than a head may have, so that what is too large is seen as such."""
        size = self._most_at_once
        for start in range(0, len(data), size):
            self.data_received(data[start : start + size])

    def _look_at_half(self) -> None:
        """Refuse a request that is too large before it is whole."""
        limits = self._limits
        if self._has_head:
            if self._arrived > limits.request:
                self._end_with(padding_too_large(limits).reply)
        else:
            self._is_unusual = True
            if self._arrived > limits.head:
                self._end_with(head_too_large(self._url, limits).reply)

    def _refuse(self, error: httptools.HttpParserError) -> None:
        if not isinstance(error, httptools.HttpParserCallbackError):
            self._end_with(malformed(str(error)[:80]))
        elif isinstance(error.__context__, Refused):
            self._end_with(error.__context__.reply)
        else:
            raise error

    def _feed_without_offer(self, rest: bytes | None) -> None:
        """Read a request anew as if it offered no other protocol (RFC 9110, 7.8).

        The parser takes what follows such a head for the other protocol's; it is the body.
        """
        while rest is not None and self._is_offer:
            whole = self._head_without_offer() + rest
            rest = None
            self._parser = httptools.HttpRequestParser(self)
            try:
                self._parser.feed_data(whole)
            except httptools.HttpParserUpgrade as offered:
                rest = whole[offered.args[0] :]
            except httptools.HttpParserError as error:
                self._refuse(error)
        if rest is not None:
            self._in_turn(self._close)  # a CONNECT, which is answered; what follows is not read

    def _head_without_offer(self) -> bytes:
        parser = self._parser
        version = parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s\r\n" % (parser.get_method(), self._url, version)]
        lines += [b"%s: %s\r\n" % each for each in self._headers if each[0].lower() != b"upgrade"]
        return b"".join(lines) + b"\r\n"

    # --- called by the parser, in the order of a request ---

    def on_message_begin(self) -> None:
        """Let a request's time run."""
        self._began_at = self._heard_at
        self._url = b""
        self._headers: list[Header] = []
        self._body = b""
        self._hosts = 0
        self._has_head = False
        self._is_offer = False

    def on_url(self, url: bytes) -> None:
        """Take a part of the request's target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what is announced to be too large is refused before it is sent."""
        if self._has_head:
            return  # a trailer: whoever vouched for the headers has not seen what comes after
        self._headers.append((name, value))
        length = len(name)
        if length == _LENGTH_OF_CONTENT_LENGTH:
            if name.lower() == b"content-length" and (
                len(value) > 18 or int(value) > self._limits.body  # noqa: PLR2004 - digits
            ):
                raise body_too_large(self._limits)
        elif length == _LENGTH_OF_HOST:
            if name.lower() == b"host":
                self._hosts += 1
        elif length in _LENGTHS_OF_UNUSUAL and name.lower() in _UNUSUAL:
            self._is_unusual = True

    def on_headers_complete(self) -> None:
        """Look closer at a head that is unusual."""
        self._has_head = True
        self._keeps_alive = keeps_alive = self._parser.should_keep_alive()
        if (
            self._is_unusual
            or self._hosts != 1
            or not keeps_alive
            or len(self._headers) > self._most_headers
        ):
            self._look_closer()

    def _look_closer(self) -> None:
        """Refuse a head that is not as it should be; tell a client that asked first to go on.

        The version is looked at with a client's first request, and whenever it would not keep the
        connection; it costs too much to do so each time, and nobody changes it on the way.
        """
        parser = self._parser
        require_head(self._url, self._headers, self._limits)
        version = parser.get_http_version()
        require_version(version, self._hosts)
        if parser.should_upgrade():
            self._is_offer = parser.get_method() != b"CONNECT"
            self._keeps_alive = self._is_offer
        elif version != "1.0" and waits_to_go_on(self._headers):
            self._in_turn(self._tell_to_go_on)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body += body
        if len(self._body) > self._limits.body:
            raise body_too_large(self._limits)

    def on_message_complete(self) -> None:
        """Answer; after an answer that was to be the last, nothing more."""
        if self._is_closing or self._is_stream or self._is_offer:
            return
        method = self._parser.get_method()
        request = Request(method, self._url, self._headers, self._body, self._peer)
        may_keep = self._keeps_alive
        self._began_at = None
        self._arrived = 0
        self._is_unusual = False
        if self._promised is not None:
            self._behind.append(partial(self._answer_behind, request, may_keep=may_keep))
            return
        reply = self._answer(request)
        # As nearly all are: at the cost of one comparison, and no further call.
        if (
            type(reply) is Reply
            and may_keep
            and method != b"HEAD"
            and not self._serving.is_draining
        ):
            self._transport.write(reply.wire)
        else:
            self._give(request, reply, may_keep=may_keep)

    # --- answering, in the order of the requests ---

    def _give(self, request: Request, reply: Answer | Stream, *, may_keep: bool) -> None:
        if isinstance(reply, Stream):
            self._open(reply, request.method)
        elif isinstance(reply, Reply):
            keeps_alive = may_keep and not self._serving.is_draining
            self._transport.write(as_asked(reply, request.method, keeps_alive=keeps_alive))
            if not keeps_alive:
                self._close()
        else:
            self._promised = reply
            reply.add_done_callback(partial(self._keep_promise, request, may_keep=may_keep))

    def _answer_behind(self, request: Request, *, may_keep: bool) -> None:
        if not self._is_stream:
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

    def _tell_to_go_on(self) -> None:
        if not (self._is_closing or self._is_stream):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _end_with(self, reply: Reply) -> None:
        self._in_turn(partial(self._close_with, reply))

    # --- flow ---

    def pause_writing(self) -> None:
        """Read no more from a client that does not read its answers; one that follows asks none."""
        self._stalled_at = self._now()
        if not self._is_stream:
            self._transport.pause_reading()

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
        if self._promised is not None:
            return
        if self._stalled_at is not None or self._is_closing:
            since = self._heard_at if self._stalled_at is None else self._stalled_at
            if now - since > limits.request_s:
                self.abort()
        elif self._is_stream:
            return
        elif self._began_at is not None and now - self._began_at > limits.request_s:
            detail = f"the request did not arrive within {limits.request_s:g} s"
            self._close_with(problem(408, "too-slow", detail))
        elif self._began_at is None and unheard_s > limits.idle_s:
            self._close()

    def drain(self, *, is_last_call: bool) -> None:
        """End a stream at once, and an idle connection at the last call."""
        is_idle = self._began_at is None and self._promised is None
        if self._is_stream or (is_last_call and is_idle):
            self._close()

    def abort(self) -> None:
        """Hang up at once."""
        self._is_closing = True
        self._transport.abort()

    def _open(self, stream: Stream, method: bytes) -> None:
        self._transport.write(stream.head)
        if method == b"HEAD":
            self._close()
        else:
            self._is_stream = True
            self._close_stream = stream.open(self._send)

    def _send(self, chunk: bytes) -> None:
        if not self._is_closing:
            self._transport.write(chunk)

    def _close_with(self, reply: Reply) -> None:
        """Answer for the last time to a client that may be sending still.

        Closing at once would reset the connection and could take the answer with it; so what
        comes is read and dropped, until the client hangs up or its time is over.
        """
        if not (self._is_closing or self._is_stream):
            self._is_closing = True
            self._transport.write(as_asked(reply, b"", keeps_alive=False))
            self._transport.write_eof()

    def _close(self) -> None:
        self._is_closing = True
        self._transport.close()
