"""From a publication to its effect in connected clients: `python -m benchmarks.publishing`.

One, eight and 32 clients follow one real Redis. Each publication moves the exposure of a feature
between all and nobody; its effect is there when a client answers by it. A client is looked at
whenever its snapshot changes, so that nothing is polled. Then the same for a gate that shuts and
opens, beside 10,000 features that stay as they are.
"""

import argparse
import asyncio
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog
import uvloop

from benchmarks.deciding import FREE_SHARE, TIERS, USERS, the_feature, the_snapshot
from embedded.ports import free_ports
from embedded.redis import RedisServer, find_redis
from tidegate.edges.follower import Follower
from tidegate.edges.redis import Redis
from tidegate.edges.stored import SnapshotFile
from tidegate.holding import Held, SnapshotHolder
from tidegate.rules.exposure import is_exposed
from tidegate.snapshot import FeatureIntent, GatePart, IntentPart, next_version

_CLIENTS: Final = (1, 8, 32)
_CLIENTS_OF_MANY: Final = (1, 8)
"""Each holds all features, in one process."""
_WITHIN_S: Final = 60.0
_MANY: Final = 10_000
_USER: Final = next(
    f"user-{n}" for n in range(USERS) if is_exposed("image", f"user-{n}", FREE_SHARE)
)
"""Somebody of Free who is let in while the gate is open."""


class _Connected:
    """A client, and when its answer last changed."""

    def __init__(self, url: str, file: Path) -> None:
        self.redis = Redis(url)
        self.holder = SnapshotHolder()
        self.changed = asyncio.Event()
        self.is_allowed: bool | None = None
        self.changed_s = 0.0
        self.holder.listen(self._look)
        self.following = asyncio.create_task(
            Follower(self.redis, self.holder, SnapshotFile(file)).run()
        )

    async def until(self, *, is_allowed: bool) -> float:
        """Return when the answer became this one, by the monotonic clock."""
        while self.is_allowed is not is_allowed:
            self.changed.clear()
            await self.changed.wait()
        return self.changed_s

    async def close(self) -> None:
        """Follow no longer."""
        self.following.cancel()
        await asyncio.gather(self.following, return_exceptions=True)
        await self.redis.close()

    def _look(self, held: Held) -> None:
        allowed = held.decider.decide("image", _USER, "free", "api", time.time()).allowed
        if allowed is not self.is_allowed:
            self.is_allowed, self.changed_s = allowed, time.monotonic()
            self.changed.set()


async def measure(publications: int) -> dict[str, object]:
    """Publish again and again, and wait for every client each time."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(find_redis(), port)
        process = await asyncio.create_subprocess_exec(
            *server.argv(Path(folder)), stdout=asyncio.subprocess.DEVNULL
        )
        try:
            await _until_ready(server)
            async with Redis(server.url) as redis:
                await redis.publish(_gate(1, is_open=True))
            found = {
                str(count): await _with_clients(count, publications, server.url, Path(folder))
                for count in _CLIENTS
            }
            await _publish_many(server.url)
            gates = {
                str(count): await _with_clients(
                    count, publications, server.url, Path(folder), moves_gate=True
                )
                for count in _CLIENTS_OF_MANY
            }
        finally:
            process.kill()
            await process.wait()
    return {
        "p50_ms": {name: round(statistics.median(each), 2) for name, each in found.items()},
        "p99_ms": {name: round(_p99(each), 2) for name, each in found.items()},
        "max_ms": {name: round(max(each), 2) for name, each in found.items()},
        "gate_p50_ms_of_10000": {n: round(statistics.median(each), 2) for n, each in gates.items()},
        "gate_p99_ms_of_10000": {name: round(_p99(each), 2) for name, each in gates.items()},
    }


async def _publish_many(url: str) -> None:
    more = {f"feature-{n}": the_feature() for n in range(_MANY - 1)}
    async with Redis(url) as redis:
        held = (await redis.snapshot()).intent
        intent, _ = the_snapshot(time.time(), more)
        version = next_version(time.time(), 0 if held is None else held.version)
        await redis.publish(intent.model_copy(update={"version": version}))


async def _with_clients(
    count: int, publications: int, url: str, folder: Path, *, moves_gate: bool = False
) -> list[float]:
    kind = "gate" if moves_gate else "intent"
    clients = [_Connected(url, folder / f"{kind}-{count}-{n}.json") for n in range(count)]
    effects_ms: list[float] = []
    async with Redis(url) as redis:
        version = max((await redis.snapshot()).versions().values(), default=0)
        for number in range(publications):
            is_open = number % 2 == 0
            version = next_version(time.time(), version)
            part = _gate(version, is_open) if moves_gate else _intent(version, is_open)
            began_s = time.monotonic()
            await redis.publish(part)
            async with asyncio.timeout(_WITHIN_S):
                seen = await asyncio.gather(*(c.until(is_allowed=is_open) for c in clients))
            # The first one waits for the clients to subscribe, and is no measure.
            effects_ms.extend((at - began_s) * 1e3 for at in seen if number)
    for client in clients:
        await client.close()
    print(f"{count} clients, {kind}: {len(effects_ms)} effects", file=sys.stderr)  # noqa: T201
    return effects_ms


def _intent(version: int, is_open: bool) -> IntentPart:  # noqa: FBT001
    exposure = dict.fromkeys(TIERS, 1.0 if is_open else 0.0)
    features: dict[str, FeatureIntent] = {"image": the_feature(exposure=exposure)}
    intent, _ = the_snapshot(time.time())
    return intent.model_copy(update={"version": version, "features": features})


def _gate(version: int, is_open: bool) -> GatePart:  # noqa: FBT001
    _, gate = the_snapshot(time.time())
    ceilings = {"free": 1.0 if is_open else 0.0}
    return gate.model_copy(update={"version": version, "ceilings": ceilings})


async def _until_ready(server: RedisServer) -> None:
    async with asyncio.timeout(_WITHIN_S):
        while True:
            try:
                if await server.is_ready():
                    return
            except OSError:
                await asyncio.sleep(0.05)


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[max(0, -(-len(values) * 99 // 100) - 1)]


def main() -> None:
    """Measure and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the last line only")
    parser.add_argument("--publications", type=int, default=200)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    found = uvloop.run(measure(arguments.publications))
    if not arguments.json:
        for key, value in found.items():
            print(f"{key:24} {value}")  # noqa: T201 - what a benchmark is for
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
