"""The servers that only answer a constant: what HTTP itself costs in Python.

`python -m benchmarks.constants raw|uvicorn PORT`; Granian loads `granian_app` from here.
"""

import asyncio
import sys
from typing import Any, Final

import httptools
import uvicorn
import uvloop

BODY: Final = b'{"key":"image","value":true,"reason":"TARGETING_MATCH","variant":"on"}'
_WIRE: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY)
    + BODY
)


class Raw(asyncio.Protocol):
    """The barest server there is: it parses, and writes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with a client."""
        self._write = transport.write  # type: ignore[attr-defined]
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Answer."""
        self._write(_WIRE)


async def uvicorn_app(_: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
    """Read the body and answer the constant, as ASGI."""
    while (await receive()).get("more_body", False):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


class _GranianApp:
    """Read the body and answer the constant, as Granian's own RSGI."""

    async def __rsgi__(self, _: Any, protocol: Any) -> None:  # noqa: ANN401 - Granian's own types
        await protocol()
        protocol.response_bytes(200, [("content-type", "application/json")], BODY)


granian_app: Final = _GranianApp()


async def _serve_raw(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Raw, "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "raw":
        uvloop.run(_serve_raw(port))
    else:
        uvicorn.run(uvicorn_app, port=port, log_level="error", access_log=False, lifespan="off")


if __name__ == "__main__":
    main()
