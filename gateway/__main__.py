"""`python -m gateway --port P`: one gateway, a process of its own."""

import argparse
import asyncio
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Final
from urllib.parse import urlsplit

import structlog
import uvloop

from gateway.demand_meter import DemandMeter, DemandPublisher
from gateway.desk import Desk
from gateway.entrance import Entrance
from gateway.evaluate import Evaluator
from gateway.health import HealthHandler
from gateway.identity import Identity
from gateway.loops import keep_running
from gateway.passes import Passes
from gateway.quotas import Quotas
from gateway.replies import Reply
from gateway.routes import build_app
from gateway.server import Server
from gateway.streams import Streams
from gateway.tally import Tally
from gateway.telling import AdmissionTeller
from gateway.tickets import Tickets
from gateway.tokens import TokenReader
from gateway.use import UseMeter
from tidegate.callers import CallersSpec, load_callers
from tidegate.edges.follower import Follower
from tidegate.edges.outbox import Outbox
from tidegate.edges.redis import Redis
from tidegate.edges.redis_numbers import NumberBook
from tidegate.edges.redis_quotas import QuotaBook
from tidegate.edges.redis_use import UseLog
from tidegate.edges.stored import SnapshotFile
from tidegate.errors import PlanError, Unavailable
from tidegate.holding import SnapshotHolder
from tidegate.settings import Settings
from tidegate.signing import Keyring, load_keyring

_log = structlog.get_logger("gateway")

HOST: Final = "127.0.0.1"
_QUOTA_DEADLINE_S: Final = 0.5
"""No answer waits so long; it is how soon a Redis that was frozen is found to be back."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal comes; returns the exit code."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    try:
        settings = Settings.from_environment(os.environ)
        callers = load_callers(settings.callers)
        keys = load_keyring(settings.keys_file)
        arguments = _parse(argv, urlsplit(settings.gateway).port or 80)
        listener = _listen(arguments.port)
    except (PlanError, Unavailable) as error:
        sys.stderr.write(f"gateway: {error}\n")
        return 1
    port = listener.getsockname()[1]
    name = arguments.name or f"{settings.node}-{port}"
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, _Trusted(callers, keys), name, listener))
    return 0


@dataclass(frozen=True, slots=True)
class _Trusted:
    """Who may vouch for tiers, and what orders are signed with."""

    callers: CallersSpec
    keys: Keyring


async def _serve(settings: Settings, trusted: _Trusted, name: str, listener: socket.socket) -> None:
    holder, tally = SnapshotHolder(), Tally()
    callers = trusted.callers
    tokens = None if callers.jwt is None else TokenReader(callers.jwt, time.time)
    process = f"{name}@{time.time_ns():x}"
    path = settings.state / f"gateway-{name}.outbox"
    async with (
        Redis(settings.redis) as redis,
        Redis(settings.redis, _QUOTA_DEADLINE_S) as redis_of_quotas,
    ):
        quotas = Quotas[Reply](QuotaBook(redis_of_quotas), time.time, process)
        file = SnapshotFile(settings.state / f"gateway-{name}.json")
        desk = Desk(NumberBook(redis), time.monotonic)
        entrance = Entrance(Passes(trusted.keys), Tickets(trusted.keys), desk)
        identity = Identity(callers, tokens)
        evaluator = Evaluator(holder, tally, time.time, identity, entrance, quotas)
        follower = Follower(redis, holder, file, keys=trusted.keys)
        meter = DemandMeter(name, tally, desk, taken_s=time.monotonic())
        publisher = DemandPublisher(redis, holder, meter)
        streams = Streams(holder)
        health = HealthHandler(evaluator, follower, tally, publisher)
        server = Server(build_app(evaluator, health, streams, identity))
        follower.start_from_disk()
        teller = AdmissionTeller(name, tally, lambda: Outbox(path, f"/gateways/{name}", redis))
        use = UseMeter(UseLog(redis, process), holder, tally)
        loops = {
            "follower": follower.run,
            "demand": publisher.run,
            "telling": teller.run,
            "streams": streams.run,
            "use": use.run,
            "quotas": quotas.run,
        }
        if tokens is not None:
            loops["tokens"] = tokens.run
        _log.info("gateway.listening", name=name, port=listener.getsockname()[1])
        await _serve_beside(loops, server, listener)
    _log.info("gateway.stopped", name=name)


async def _serve_beside(
    loops: Mapping[str, Callable[[], Coroutine[None, None, None]]],
    server: Server,
    listener: socket.socket,
) -> None:
    stop = _stop_on_signals()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(keep_running(*each)) for each in loops.items()]
        await server.serve(listener, stop)
        for task in tasks:
            task.cancel()


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def _parse(argv: Sequence[str] | None, default_port: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gateway", description=__doc__)
    parser.add_argument(
        "--port", type=_port, default=default_port, help="port on 127.0.0.1; 0 takes a free one"
    )
    parser.add_argument(
        "--name", type=_name, help="name in readings and of the saved snapshot; NODE-PORT if none"
    )
    return parser.parse_args(argv)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:  # noqa: PLR2004 - the largest there is
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a port from 0 to 65535")
    return int(text)


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected letters, digits, dot, - and _")
    return text


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"port {port} on {HOST} cannot be used ({error.strerror}). Stop what listens there, "
            f"or give another with --port or TIDEGATE_GATEWAY=http://{HOST}:PORT.",
            code="port-busy",
        ) from error
    return listener


def _leave(_: int, __: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
