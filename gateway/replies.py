"""What the gateway answers with: JSON, and RFC 9457 problem documents for every refusal."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

Header = tuple[bytes, bytes]

PROBLEM_BASE: Final = "https://tidegate.dev/problems/"
_JSON: Final = (b"content-type", b"application/json")
_PROBLEM_JSON: Final = (b"content-type", b"application/problem+json")


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request with its whole body; header names are in lower case."""

    method: str
    path: str
    query: bytes
    headers: Sequence[Header]
    body: bytes

    def header(self, name: bytes) -> str | None:
        """Return the first header of this name."""
        return next((v.decode("latin-1") for n, v in self.headers if n == name), None)


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP response."""

    status: int
    body: bytes
    headers: tuple[Header, ...]


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
        "type": PROBLEM_BASE + code,
        "title": TITLES[code],
        "status": status,
        "detail": detail,
        "code": code,
        **(more or {}),
    }
    return Reply(status, encode(document), (_PROBLEM_JSON, *headers))


def retry_after(seconds: int) -> Header:
    """Say when to come back, in whole seconds."""
    return (b"retry-after", str(seconds).encode())


def encode(document: object) -> bytes:
    """Write compact JSON in ASCII, so that no text of a caller's can fail to be encoded."""
    return json.dumps(document, separators=(",", ":")).encode()


TITLES: Final[Mapping[str, str]] = {
    "not-exposed": "The feature is not open for this user yet",
    "not-in-audience": "The feature is meant for others",
    "prerequisite": "Another feature is needed first",
    "layer-excluded": "Another feature of the same layer is in its place",
    "gate-shed": "Temporarily reduced capacity",
    "quota-exceeded": "The quota is used up",
    "rate-limited": "Too many requests in too short a time",
    "signups-suspended": "Sign-ups are suspended",
    "waitlisted": "There is a waitlist",
    "killed": "The feature is closed by order",
    "model-brownout": "The model is switched off for a while",
    "model-retired": "The model is retired",
    "surface-closed": "The feature is not offered on this surface",
    "intent-stale": "The feature is closed until it is heard of again",
    "tier-unknown": "No such tier",
    "feature-unknown": "No such feature",
    "malformed": "The request cannot be read",
    "too-large": "The request is too large",
    "too-slow": "The request took too long to arrive",
    "no-such-page": "No such page",
    "method-not-allowed": "This method is not served here",
    "not-ready": "No snapshot has been heard of yet",
}
"""A title for each problem code; a test holds that every code of a refusal has one."""
