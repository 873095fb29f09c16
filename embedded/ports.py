"""Ports on the loopback for servers that are about to start."""

import secrets
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tidegate.errors import Unavailable

LOOPBACK: Final = "127.0.0.1"
_LOWEST: Final = 20_000
_EPHEMERAL_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_TRIES_PER_PORT: Final = 200

_given: set[int] = set()
"""Ports handed out by this process, never handed out twice."""


def free_ports(count: int) -> list[int]:
    """Find `count` different free ports on the loopback.

    They lie below the range that the system gives to outgoing connections: a port from within it
    could be taken by any client between this answer and the server's start.
    Raises Unavailable when there are not that many.
    """
    span = _first_ephemeral() - _LOWEST
    with ExitStack() as held:
        found: list[int] = []
        for _ in range(_TRIES_PER_PORT * count):
            if len(found) == count:
                break
            port = _LOWEST + secrets.randbelow(span)
            if port not in _given and (listener := _bind(port)) is not None:
                held.enter_context(listener)
                found.append(port)
                _given.add(port)
    if len(found) < count:
        raise Unavailable(
            f"found {len(found)} of {count} free ports on {LOOPBACK} from {_LOWEST} to "
            f"{_LOWEST + span - 1}. Stop something that listens there.",
            code="no_free_port",
        )
    return found


def require_free(port: int, setting: str) -> None:
    """Refuse a port that somebody listens on; raises Unavailable naming it and its setting."""
    listener = _bind(port)
    if listener is None:
        raise Unavailable(
            f"{setting}: port {port} on {LOOPBACK} is in use. "
            f"Stop what listens there, or set {setting} to another port.",
            code="port_busy",
        )
    listener.close()


def _bind(port: int) -> socket.socket | None:
    listener = socket.socket()
    # As servers do, so that connections of the past that linger in TIME_WAIT do not count.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        # Binding alone succeeds beside another socket that has the option and does not listen yet.
        listener.listen(1)
    except OSError:
        listener.close()
        return None
    return listener


def _first_ephemeral() -> int:
    try:
        first = int(_EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        first = 32_768
    # A system that lends out nearly every port leaves no range below; then any port must do.
    return first if first >= _LOWEST + 1_000 else 65_536
