"""A hundred thousand hostile requests: no fault is the gateway's, and its memory does not grow."""

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from embedded.ports import LOOPBACK
from tests.gateway.running import RunningGateway, running_gateway
from tests.gateway.test_models import held

pytestmark = pytest.mark.integration

REQUESTS: Final = 100_000
WARM_UP: Final = 10_000
EACH: Final = 50
"""Requests of one connection, sent ahead; what is no HTTP ends it earlier."""
GROWTH_KIB: Final = 8 * 1024

_TARGETS: Final = (
    "/v1/admit",
    "/v1/sessions",
    "/v1/check/image",
    "/v1/models/image-latest",
    "/v1/models",
    "/v1/why",
    "/v1/snapshot",
    "/ofrep/v1/evaluate/flags",
    "/ofrep/v1/evaluate/flags/image",
    "/healthz",
    "/readyz",
)
_RARE_TARGETS: Final = ("/v1/snapshot/stream", "/ofrep/v1/events", "/metrics")
"""The streams end what a connection may ask, and counts are dear to write."""
_VALUES: Final = (
    '"ada"',
    '"free"',
    '"image"',
    "null",
    "1e999",
    "-1",
    "[]",
    "{}",
    '"\\ud800"',
    '"\\u0000"',
    "true",
    "[[[[[[[[1]]]]]]]]",
    '"use"',
    '"signup"',
    '{"region":"eu"}',
)
_FIELDS: Final = (
    "feature",
    "user",
    "tier",
    "surface",
    "attributes",
    "asks",
    "targetingKey",
    "cohorts",
    "appVersion",
    "session",
)
_HEADERS: Final = (
    "If-None-Match: *",
    "Expect: 100-continue",
    "Upgrade: h2c",
    "Upgrade: h2c\r\nConnection: Upgrade",
    "X-Tidegate-User: ada\r\nX-Tidegate-Cohorts: ,,\xff",
    "X-Tidegate-Refuse-With: 403",
    "Tidegate-Pass: a.b.c",
)
_LARGE: Final = "X: " + "x" * 20_000


def json_of(draw: random.Random) -> bytes:
    fields = ",".join(
        f'"{draw.choice(_FIELDS)}":{draw.choice(_VALUES)}' for _ in range(draw.randrange(7))
    )
    text = "{" + fields + "}"
    return (f'{{"context":{text}}}' if draw.random() < 0.5 else text).encode()


def body_of(draw: random.Random) -> bytes:
    kind = draw.random()
    if kind < 0.7:
        return json_of(draw)
    if kind < 0.8:
        return draw.randbytes(draw.randrange(300))
    if kind < 0.9:
        return json_of(draw)[: draw.randrange(40)]
    return draw.choice((b"[" * 5_000, b'{"a":' * 3_000, b"9" * 15_000, b"x" * 20_000, b""))


def target_of(draw: random.Random) -> str:
    target = draw.choice(_TARGETS if draw.random() < 0.97 else _RARE_TARGETS)
    if draw.random() < 0.3:
        target += "/" + "".join(draw.choice("aé%/.\\;:?&=#<>'") for _ in range(draw.randrange(20)))
    if draw.random() < 0.3:
        target += "?" + "&".join(f"{draw.choice(_FIELDS)}={draw.randrange(99)}" for _ in range(3))
    return target + (str(draw.random()) if draw.random() < 0.2 else "")


def in_chunks(draw: random.Random, body: bytes) -> bytes:
    """Divide a body, with extensions and trailers that claim what only a header may."""
    extension = draw.choice((b"", b"", b";a=b", b";" + b"a" * draw.choice((100, 100, 20_000))))
    trailer = draw.choice((b"", b"X-Tidegate-Tier: pro\r\n", b"X-API-Key: k\r\n", b"A: b\r\n" * 90))
    chunk = b"%x%s\r\n%s\r\n" % (len(body), extension, body) if body else b""
    return chunk + b"0\r\n" + trailer + b"\r\n"


def request_of(draw: random.Random) -> bytes:
    """Make a request that is rarely right, and mostly HTTP."""
    if draw.random() < 0.02:
        return draw.randbytes(draw.randrange(1, 200)) + b"\r\n\r\n"
    body = body_of(draw)
    method = draw.choice(("POST", "POST", "POST", "GET", "HEAD", "PUT", "DELETE", "OPTIONS"))
    headers = [f"Content-Length: {len(body)}"]
    if draw.random() < 0.05:
        headers = ["Transfer-Encoding: chunked"]
        body = in_chunks(draw, body)
    elif draw.random() < 0.05:
        headers = [
            draw.choice(("Transfer-Encoding: chunked", "Content-Length: 1x", _LARGE, "Host: b"))
        ]
    if draw.random() < 0.1:
        headers.append(draw.choice(_HEADERS))
    if draw.random() < 0.1:
        headers.append(f"Authorization: Bearer {draw.randrange(10**9)}")
    lines = [f"{method} {target_of(draw)} HTTP/1.1", "Host: a", *headers]
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body


async def send(port: int, draw: random.Random, statuses: Counter[int]) -> None:
    """Send requests ahead on one connection, and count what is answered until it ends."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        writer.write(b"".join(request_of(draw) for _ in range(EACH)))
        writer.write_eof()
        said = await reader.read()
    except OSError:
        return  # it was hung up on, while it was sending still
    finally:
        writer.close()
    for part in said.split(b"HTTP/1.1 ")[1:]:
        if part[:3].isdigit():
            statuses[int(part[:3])] += 1


async def attack(gateway: RunningGateway, requests: int, seed: int) -> Counter[int]:
    """Send until so many are answered: what is no HTTP ends a connection, and is sent in vain."""
    statuses: Counter[int] = Counter()
    draw = random.Random(seed)
    while statuses.total() < requests:
        await asyncio.gather(*(send(gateway.port, draw, statuses) for _ in range(20)))
    return statuses


def resident_kib(gateway: RunningGateway) -> int:
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


async def test_a_hundred_thousand_hostile_requests_are_no_fault_of_ours(tmp_path: Path) -> None:
    saved = tmp_path / "state" / "gateway-one.json"
    saved.parent.mkdir()
    saved.write_text(held().model_dump_json())
    async with running_gateway(tmp_path, "redis://127.0.0.1:1/0", "--name", "one") as gateway:
        await attack(gateway, WARM_UP, seed=1)
        before_kib = resident_kib(gateway)
        statuses = await attack(gateway, REQUESTS, seed=2)
        grown_kib = resident_kib(gateway) - before_kib
        assert await gateway.is_alive()
        assert "Traceback" not in gateway.log
    assert {status: n for status, n in statuses.items() if status >= 500} == {}
    assert {200, 400, 404, 405, 413, 431} <= set(statuses)
    assert grown_kib < GROWTH_KIB
