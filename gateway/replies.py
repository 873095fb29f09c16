"""What the gateway answers with: JSON, and RFC 9457 problem documents for every refusal."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import Final

import msgspec

from tidegate.rules import refusals
from tidegate.rules.outcome import Outcome

Header = tuple[bytes, bytes]

_JSON: Final = (b"content-type", b"application/json")
_PROBLEM_JSON: Final = (b"content-type", b"application/problem+json")


class Request(msgspec.Struct, gc=False):
    """One HTTP request with its whole body; header names are as they were sent."""

    method: bytes
    target: bytes
    headers: Sequence[Header] = ()
    body: bytes = b""
    peer: str | None = None
    """The address that the request came from."""

    @property
    def path(self) -> bytes:
        """The target without its query, and without what a proxy writes before it."""
        target = self.target
        if not target.startswith(b"/"):
            target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
        return target.partition(b"?")[0]

    @property
    def query(self) -> bytes:
        """What follows the question mark."""
        return self.target.partition(b"?")[2]

    def header(self, name: bytes) -> str | None:
        """Return the first header of this name, given in lower case."""
        length = len(name)
        for each, value in self.headers:
            if len(each) == length and each.lower() == name:
                return value.decode("latin-1")
        return None


@dataclass(frozen=True)
class Reply:
    """One HTTP response."""

    status: int
    body: bytes
    headers: tuple[Header, ...]

    @cached_property
    def wire(self) -> bytes:
        """The response as it is sent, made once."""
        lines = [b"%s: %s\r\n" % header for header in self.headers]
        if self.status != HTTPStatus.NOT_MODIFIED:  # it has no body, and so no length
            lines.append(b"content-length: %d\r\n" % len(self.body))
        return b"".join((status_line(self.status), *lines, b"\r\n", self.body))


Answer = Reply | asyncio.Future[Reply]
"""What a handler answers at once, or in a while."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A response of server-sent events, which ends when either side hangs up."""

    open: Callable[[Callable[[bytes], None]], Callable[[], None]]
    """Given what sends a chunk, begins to send; returns what ends it."""

    @property
    def head(self) -> bytes:
        """What is sent before the first event."""
        return status_line(HTTPStatus.OK) + (
            b"content-type: text/event-stream\r\n"
            b"cache-control: no-store\r\n"
            b"connection: close\r\n\r\n"
        )


def as_asked(reply: Reply, method: bytes, *, keeps_alive: bool) -> bytes:
    """Return a reply as the unusual request wants it: without a body, or as the last one."""
    wire = reply.wire
    if method == b"HEAD":
        wire = wire[: wire.index(b"\r\n\r\n") + 4]
    if not keeps_alive:
        status, _, rest = wire.partition(b"\r\n")
        wire = status + b"\r\nconnection: close\r\n" + rest
    return wire


def status_line(status: int) -> bytes:
    """Return the first line of a response."""
    return b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode())


def json_reply(status: int, document: object, *headers: Header) -> Reply:
    """Answer with a JSON document."""
    return Reply(status, encode(document), (_JSON, *headers))


def problem(
    status: int,
    code: str,
    detail: str,
    more: Mapping[str, object] | None = None,
    *headers: Header,
) -> Reply:
    """Answer with a problem document whose type ends in `code`, which is stable."""
    document = {
        "type": refusals.PROBLEM_BASE + code,
        "title": TITLES[code],
        "status": status,
        "detail": detail,
        "code": code,
        **(more or {}),
    }
    return Reply(status, encode(document), (_PROBLEM_JSON, *headers))


def refusal(outcome: Outcome, tier: str, *headers: Header) -> Reply:
    """Answer with the problem document of a refusal; `tier` is the one that asked."""
    document = refusals.problem_of(outcome, tier)
    return Reply(refusals.STATUS[outcome.code], encode(document), (_PROBLEM_JSON, *headers))


def as_headers(headers: Iterable[tuple[str, str]]) -> tuple[Header, ...]:
    """Encode headers for the wire."""
    return tuple((name.encode("latin-1"), text.encode("latin-1")) for name, text in headers)


def retry_after(seconds: int) -> Header:
    """Say when to come back, in whole seconds."""
    return (b"retry-after", str(seconds).encode())


def encode(document: object) -> bytes:
    """Write compact JSON in ASCII, so that no text of a caller's can fail to be encoded."""
    return json.dumps(document, separators=(",", ":")).encode()


TITLES: Final[Mapping[str, str]] = {
    **refusals.TITLES,
    "malformed": "The request cannot be read",
    "too-large": "The request is too large",
    "too-slow": "The request took too long to arrive",
    "no-such-page": "No such page",
    "method-not-allowed": "This method is not served here",
    "caller-unknown": "The credential is not good here",
    "tier-not-vouched": "The caller may not vouch for this",
    "ticket-invalid": "The ticket is not good here",
    "ticket-expired": "The time to come is over",
    "waitlist-unavailable": "No numbers are given out now",
    "model-unknown": "No such model",
    refusals.NOT_READY: refusals.NOT_READY_TITLE,
    "too-many-streams": "Too many streams are open",
    "broken": "A defect of this gateway's",
}
"""A title for each problem code; a test holds that every code of a refusal has one."""
