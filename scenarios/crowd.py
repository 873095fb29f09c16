"""The crowd: open-loop users who ask the gateway, and use the pool when they are let in."""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp

from controllers.cluster import cluster_of
from tidegate.cluster import Cluster, PodPhase
from tidegate.demand import Arrival
from tidegate.errors import Unavailable
from tidegate.settings import Settings

_PATIENCE: Final = aiohttp.ClientTimeout(total=120.0)
_LOOK_EVERY_S: Final = 0.2
_WRITE_EVERY_S: Final = 1.0


@dataclass(slots=True)
class Tally:
    """What the users saw, by tier and answer; `lost` counts requests that got no answer."""

    answers: Counter[str] = field(default_factory=Counter)
    served: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> str:
        """Return the tally as one JSON object, `tier/code` to a count."""
        return json.dumps(
            {
                "answers": dict(self.answers),
                "served": dict(self.served),
                "lost": dict(self.lost),
            }
        )


class Crowd:
    """Sends each arrival at its instant, however slow the answers are."""

    def __init__(
        self,
        gateway: str,
        pools: Cluster,
        pool: str,
        asks: Mapping[str, str],
        api_key: str = "",
    ) -> None:
        """Ask a gateway for a `feature` on a `surface`, and use the replicas of a pool."""
        self._gateway = gateway
        self._vouching = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._pools = pools
        self._pool = pool
        self._asks = asks
        self._serving: dict[str, int] = {}
        """Requests under way, by the address of each ready replica."""
        self._some_serve = asyncio.Event()
        self.tally = Tally()

    async def play(self, arrivals: Iterable[Arrival], started_at: float, tally: Path) -> None:
        """Send arrivals until there are no more; `started_at` is time 0, since the epoch."""
        under_way: set[asyncio.Task[None]] = set()
        async with (
            aiohttp.ClientSession(
                timeout=_PATIENCE, connector=aiohttp.TCPConnector(limit=0)
            ) as session,
            asyncio.TaskGroup() as background,
        ):
            watching = background.create_task(self._watch_replicas())
            writing = background.create_task(self._write(tally))
            for arrival in arrivals:
                await _until(started_at + arrival.at_s)
                task = asyncio.create_task(self._use(session, arrival))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            if under_way:
                await asyncio.wait(under_way, timeout=10.0)
            for task in (*under_way, watching, writing):
                task.cancel()
        tally.write_text(self.tally.as_json())

    async def _use(self, session: aiohttp.ClientSession, arrival: Arrival) -> None:
        try:
            code = await self._ask(session, arrival)
            self.tally.answers[f"{arrival.tier}/{code}"] += 1
            if code == "allowed":
                await self._generate(session, arrival)
                self.tally.served[arrival.tier] += 1
        except (aiohttp.ClientError, TimeoutError, OSError):
            self.tally.lost[arrival.tier] += 1

    async def _ask(self, session: aiohttp.ClientSession, arrival: Arrival) -> str:
        question = {**self._asks, "user": arrival.user, "tier": arrival.tier}
        url = f"{self._gateway}/v1/admit"
        async with session.post(url, json=question, headers=self._vouching) as response:
            try:
                answer: Mapping[str, str] = await response.json(content_type=None)
                return answer["code"]
            except (ValueError, TypeError, KeyError):
                return f"http-{response.status}"  # whoever answered, it was no gateway

    async def _generate(self, session: aiohttp.ClientSession, arrival: Arrival) -> None:
        """Use the replica that has least to do; where it went away meanwhile, another."""
        request = {"work": arrival.work, "user": arrival.user}
        while True:
            await self._some_serve.wait()
            address = min(self._serving, key=self._serving.__getitem__)
            self._serving[address] += 1
            try:
                url = f"{address}/v1/images/generations"
                async with session.post(url, json=request) as response:
                    await response.read()
                    if response.status == HTTPStatus.OK:
                        return
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
                pass  # it went away, before the request or in the middle of it
            finally:
                if address in self._serving:
                    self._serving[address] -= 1
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _watch_replicas(self) -> None:
        revision: int | None = None
        while True:
            try:
                seen = await self._pools.observe(after=revision, wait_s=1.0)
            except Unavailable:
                await asyncio.sleep(_LOOK_EVERY_S)
                continue
            revision = seen.revision
            pool = seen.pools.get(self._pool)
            ready = {
                pod.address
                for pod in (pool.pods if pool else ())
                if pod.phase is PodPhase.READY and pod.address is not None
            }
            self._serving = {address: self._serving.get(address, 0) for address in ready}
            if ready:
                self._some_serve.set()
            else:
                self._some_serve.clear()

    async def _write(self, tally: Path) -> None:
        while True:
            await asyncio.sleep(_WRITE_EVERY_S)
            tally.write_text(self.tally.as_json())


async def _until(instant: float) -> None:
    left_s = instant - time.time()
    if left_s > 0:
        await asyncio.sleep(left_s)


async def _main(order: Path) -> None:
    from scenarios.playing import CrowdOrder, crowd_arrivals  # noqa: PLC0415 - beside its use

    told = CrowdOrder.model_validate_json(order.read_text())
    settings = Settings.from_environment(os.environ)
    async with cluster_of(settings) as pools:
        asks = {"feature": told.feature, "surface": told.surface}
        crowd = Crowd(told.gateway, pools, told.pool, asks, settings.api_key or "")
        await crowd.play(crowd_arrivals(told), told.started_at, told.tally)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
