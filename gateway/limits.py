"""What one client may ask of the server, and how it is refused what it may not."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from gateway.replies import Header, Reply, problem

_FRAMING: Final = 8
"""A body in chunks of one byte is six times as large on the wire; beyond eight it is padding."""
_LINE: Final = len(": \r\n")
_VERSIONS: Final = frozenset({"1.0", "1.1"})


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds."""

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

    @property
    def request(self) -> int:
        """What a whole request may take on the wire, with how its body is divided."""
        return self.head + _FRAMING * self.body


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """What arrives is not to be answered by the application, and nothing after it is."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.reply = problem(status, code, detail)


def malformed(why: str) -> Reply:
    """Refuse what is no request, or could be read as two different ones."""
    return problem(400, "malformed", f"what arrived is no HTTP/1.1 request ({why})")


def body_too_large(limits: Limits) -> Refused:
    """Refuse a body that is too large or announced to be."""
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    return Refused(status, "too-large", f"the body is over {limits.body} bytes")


def padding_too_large(limits: Limits) -> Refused:
    """Refuse a body that comes in chunks which are mostly something else."""
    detail = f"the request takes over {limits.request} bytes. Send its body in larger chunks"
    return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", detail)


def head_too_large(url: bytes, limits: Limits) -> Refused:
    """Refuse a head that is too large, and say so if its URL alone is."""
    if len(url) > limits.head:
        return Refused(414, "too-large", f"the URL is over {limits.head} bytes")
    detail = f"request line and headers are over {limits.head} bytes"
    return Refused(431, "too-large", detail)


def require_head(url: bytes, headers: Sequence[Header], limits: Limits) -> None:
    """Raise Refused where a head that is whole is too large."""
    if len(headers) > limits.headers:
        raise Refused(431, "too-large", f"there are over {limits.headers} headers")
    if len(url) + sum(len(name) + len(value) + _LINE for name, value in headers) > limits.head:
        raise head_too_large(url, limits)


def require_version(version: str, hosts: int) -> None:
    """Raise Refused for another HTTP, and where not one header says which host is meant."""
    if version not in _VERSIONS:
        raise Refused(400, "malformed", f"HTTP/{version} is not spoken here, HTTP/1.1 is")
    if hosts > 1 or (hosts == 0 and version != "1.0"):
        detail = f"the header Host comes {hosts or 'no'} times, expected once"
        raise Refused(400, "malformed", detail)


def waits_to_go_on(headers: Sequence[Header]) -> bool:
    """Say whether a body is announced that is sent only once it is asked for."""
    said = {name.lower(): value.lower() for name, value in headers}
    has_body = b"transfer-encoding" in said or said.get(b"content-length", b"0").strip(b"0") != b""
    return has_body and said.get(b"expect") == b"100-continue"
