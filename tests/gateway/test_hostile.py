"""Whatever a caller sends, the gateway answers, and never as if the fault were its own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded.ports import LOOPBACK
from tests.gateway.asking import CALLERS, KEY, NOBODY, Asked
from tests.gateway.running import RunningGateway, running_gateway
from tests.tidegate.snapshots import gate, intent, snapshot, texts
from tidegate.callers import CallersSpec

FLAGS: Final = "/ofrep/v1/evaluate/flags"
ASK: Final = b'{"feature":"image","user":"ada","tier":"pro"}'

BODIES: Final = {
    "nothing": b"",
    "half": b'{"feature":',
    "not utf-8": b"\xff\xfe\x00",
    "utf-16": '{"feature":"image"}'.encode("utf-16"),
    "null": b"null",
    "number": b"1e999",
    "not a number": b'{"feature":NaN,"user":Infinity,"tier":-Infinity}',
    "list": b"[1,2]",
    "nested deep": b"[" * 8_000,
    "objects nested deep": b'{"a":' * 3_000,
    "long number": b'{"user":' + b"9" * 15_000 + b"}",
    "half a surrogate pair": b'{"feature":"\\ud800","user":"\\udfff","tier":"\\ud800"}',
    "zero byte": b'{"feature":"image\\u0000","user":"\\u0000","tier":"free\\u0000"}',
    "duplicate fields": b'{"feature":"a","feature":[],"user":"u","tier":"t"}',
    "wrong types": b'{"feature":true,"user":{"a":1},"tier":[null]}',
    "empty texts": b'{"feature":"","user":"","tier":"","surface":""}',
    "null surface": b'{"feature":"image","user":"u","tier":"free","surface":null}',
    "huge text": b'{"feature":"image","user":"' + b"u" * 16_000 + b'","tier":"free"}',
    "too large": b"x" * 20_000,
    "markup": b'{"feature":"<script>","user":"\\r\\nX: y","tier":"free\\"}"}',
}

QUERIES: Final = {
    "nothing": "",
    "no values": "feature&user&tier",
    "bad escapes": "feature=%ZZ&user=%&tier=%ff",
    "half a surrogate pair": "feature=%ed%a0%80&user=u&tier=t",
    "zero byte": "feature=image&user=%00&tier=free",
    "many fields": "&".join(f"f{n}=1" for n in range(1_000)),
    "too long": "feature=" + "a" * 20_000,
    "semicolons": "feature=image;user=u;tier=t",
    "twice": "feature=image&user=a&user=b&tier=free&tier=pro",
}


def held() -> Asked:
    return Asked(snapshot(intent(), gate({"free": 0.5})))


@pytest.mark.parametrize("path", ["/v1/admit", FLAGS, f"{FLAGS}/image"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_no_body_is_a_fault_of_the_gateway(path: str, body: bytes) -> None:
    answer = await held().ask("POST", path, body)
    assert 200 <= answer.status < 500
    assert isinstance(answer.json, dict)


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
async def test_no_query_is_a_fault_of_the_gateway(query: str) -> None:
    answer = await held().get("/v1/why", query)
    assert 200 <= answer.status < 500
    assert isinstance(answer.json, dict)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from(["feature", "user", "tier", "surface", "context", "targetingKey"])


@given(st.dictionaries(fields, json_values) | json_values, st.sampled_from(["a", "b"]))
async def test_no_json_is_a_fault_of_the_gateway(document: object, key: str) -> None:
    for path in ("/v1/admit", FLAGS, f"{FLAGS}/{key}", f"{FLAGS}/image"):
        for sent in (document, {"context": document}):
            answer = await held().post(path, sent)
            assert 200 <= answer.status < 500


@given(st.binary(), texts)
async def test_no_bytes_and_no_path_are_a_fault_of_the_gateway(body: bytes, path: str) -> None:
    assert 200 <= (await held().ask("POST", "/v1/admit", body)).status < 500
    assert 200 <= (await held().ask("POST", f"{FLAGS}/{path}", body)).status < 500
    assert 200 <= (await held().ask("PUT", f"/{path}", body)).status < 500


# --- through a real server ---


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


RAW: Final = {
    "no http": b"\x16\x03\x01\x02\x00\r\n\r\n",
    "unknown method": b"BREW /v1/admit HTTP/1.1\r\nHost: a\r\n\r\n",
    "raw bytes in the path": b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
    "escaped bytes in the path": b"GET /%ff%00%ed%a0%80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "escaped bytes in a flag": post(f"{FLAGS}/%ff%00%ed%a0%80", ASK),
    "dots in the path": b"GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
    "an absolute address": b"GET http://other/healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    "an upgrade": b"GET /healthz HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
    b"Connection: upgrade\r\n\r\n",
    "negative length": b"POST /v1/admit HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "length of letters": b"POST /v1/admit HTTP/1.1\r\nHost: a\r\nContent-Length: abc\r\n\r\n",
    "endless length": b"POST /v1/admit HTTP/1.1\r\nHost: a\r\nContent-Length: "
    + b"9" * 18
    + b"\r\n\r\n",
    "chunked": b"POST /v1/admit HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    + f"{len(ASK):x}\r\n".encode()
    + ASK
    + b"\r\n0\r\n\r\n",
    "chunked and too large": b"POST /v1/admit HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked"
    b"\r\n\r\n" + (b"4000\r\n" + b"x" * 0x4000 + b"\r\n") * 4 + b"0\r\n\r\n",
    "bad chunk": b"POST /v1/admit HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "no content type": post("/v1/admit", ASK),
    "compressed, it says": post("/v1/admit", b"\x1f\x8b\x08", "Content-Encoding: gzip"),
    "odd etags": post(FLAGS, b"{}", 'If-None-Match: ", \xff,,W/'),
    **{f"body: {name}": post("/v1/admit", body) for name, body in BODIES.items()},
}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    saved = tmp_path / "state" / "gateway-one.json"
    saved.parent.mkdir()
    # Nobody is shed: at another hour it would be another part of the free tier.
    saved.write_text(snapshot(intent(), gate(safe_share=1.0)).model_dump_json())
    async with running_gateway(tmp_path, "redis://127.0.0.1:1/0", "--name", "one") as gateway:
        yield gateway


async def status_of(port: int, raw: bytes) -> int:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        writer.write(raw)
        line = await asyncio.wait_for(reader.readline(), 5.0)
        return int(line.split()[1])
    finally:
        writer.close()


PROXIED: Final = CallersSpec.model_validate(
    {
        "apiKeys": [key.model_dump() for key in CALLERS.api_keys],
        "proxies": {"addresses": ["127.0.0.0/8"], "header": "X-Tidegate-Tier"},
    }
)
TRAILERS: Final = {
    "tier of a proxy": b"X-Tidegate-Tier: pro",
    "key": f"X-API-Key: {KEY}".encode(),
    "bearer": f"Authorization: Bearer {KEY}".encode(),
}


@pytest.mark.integration
async def test_what_comes_after_the_body_says_nothing_of_who_asks(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    closed_to_free = snapshot(intent(), gate({"free": 0.0}, safe_share=0.0))
    (state / "gateway-one.json").write_text(closed_to_free.model_dump_json())
    chunked = "Transfer-Encoding: chunked"
    head = f"POST /v1/admit HTTP/1.1\r\nHost: a\r\n{chunked}\r\n%s\r\n".encode()
    body = b"%x\r\n%s\r\n0\r\n" % (len(ASK), ASK)
    at = (tmp_path, NOBODY, "--name", "one")
    async with running_gateway(*at, callers=PROXIED) as gateway:
        for name, line in TRAILERS.items():
            as_header = head % (line + b"\r\n") + body + b"\r\n"
            as_trailer = head % b"" + body + line + b"\r\n\r\n"
            told = [await status_of(gateway.port, raw) for raw in (as_header, as_trailer)]
            assert (name, told) == (name, [200, 429])


@pytest.mark.integration
async def test_nothing_sent_to_a_real_server_is_its_fault(gateway: RunningGateway) -> None:
    statuses = {name: await status_of(gateway.port, raw) for name, raw in RAW.items()}
    assert {name: status for name, status in statuses.items() if status >= 500} == {}
    assert statuses["chunked"] == 200
    assert statuses["chunked and too large"] == 413
    assert statuses["endless length"] == 413
    assert await gateway.is_alive()
    assert "Traceback" not in gateway.log
