"""Serve the console: `python -m console`."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

import structlog
import uvicorn
import uvloop

from console.app import Console
from tidegate.errors import PlanError, Refused, TidegateError
from tidegate.settings import Settings

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_GOODBYE_S: Final = 1


class _Server(uvicorn.Server):
    """Ends on a signal with exit code 0; uvicorn's own way raises the signal again at the end."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    def leave(self) -> None:
        self.should_exit = True


def main() -> int:
    """Run until a signal ends it; 1, with one clear line, where it cannot start."""
    try:
        settings = Settings.from_environment(os.environ)
        listener = listen(settings.console)
    except TidegateError as error:
        print(error, file=sys.stderr)  # noqa: T201 - one clear line, whatever the log is set to
        return 1
    log = structlog.get_logger()
    log.info("console.started", address=settings.console, redis=settings.redis)
    uvloop.run(serve(settings, listener))
    return 0


async def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve until a signal comes; a reader that dies takes the server with it, loudly."""
    console = Console(settings)
    server = _Server(
        uvicorn.Config(
            console.app,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=_GOODBYE_S,
        )
    )
    for sent in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sent, server.leave)
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(console.read())
        await server.serve(sockets=[listener])
        reading.cancel()


def listen(address: str) -> socket.socket:
    """Bind the console's address; raises PlanError or Refused, each naming TIDEGATE_CONSOLE."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host not in _LOOPBACK or port is None:
        message = (
            f'TIDEGATE_CONSOLE: got "{address}", expected a loopback address with a port. '
            'Write one such as "http://127.0.0.1:8088".'
        )
        raise PlanError(message, code="console-address")
    family = socket.AF_INET6 if host == "::1" else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        message = (
            f"console: port {port} of {host} cannot be used ({error.strerror}). "
            "Free it, or set TIDEGATE_CONSOLE to another address."
        )
        raise Refused(message, code="console-port") from error
    return listener


if __name__ == "__main__":
    sys.exit(main())
