"""The crowd, against small stand-ins: it waits for nobody, and loses nothing."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web

from embedded.ports import LOOPBACK, free_ports
from scenarios.crowd import Crowd
from scenarios.playing import CrowdOrder, crowd_arrivals
from tests.controllers.published import MemoryCluster
from tests.embedded.until import until
from tests.house.checkout import ROOT
from tidegate.cluster import ClusterState, Pod, PodPhase, PoolStatus
from tidegate.demand import Arrival
from tidegate.settings import variable

IMAGES: Final = "/v1/images/generations"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(path: str, answer: Answer) -> AsyncIterator[str]:
    """Serve one path; yields the server's address."""
    (port,) = free_ports(1)
    app = web.Application()
    app.router.add_route("*", path, answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, port).start()
    try:
        yield f"http://{LOOPBACK}:{port}"
    finally:
        await runner.cleanup()


ASKS_FOR: Final = {"feature": "image-feature", "surface": "chat"}


class Pools(MemoryCluster):
    """A cluster that takes its time to answer, as all do."""

    async def observe(self, *, after: int | None = None, wait_s: float = 0.0) -> ClusterState:
        await asyncio.sleep(0.01)
        return await super().observe(after=after, wait_s=wait_s)

    def serve_at(self, *addresses: str, phase: PodPhase = PodPhase.READY) -> None:
        pods = tuple(Pod(a, phase, a, 0.0) for a in addresses)
        status = PoolStatus("image", len(pods), 1, pods)
        self.state = ClusterState(
            revision=self.state.revision + 1, gpus={}, pools={"image": status}
        )


@dataclass
class House:
    """A gateway that says yes, and whatever replicas a test starts."""

    folder: Path
    pools: Pools = field(default_factory=Pools)
    asked: list[tuple[float, dict[str, str]]] = field(default_factory=list)
    """When and what the gateway was asked, in seconds since the epoch."""
    answers: Callable[[dict[str, str]], Awaitable[web.Response]] | None = None
    gateway: str = ""

    def __post_init__(self) -> None:
        self.crowd = Crowd(self.gateway, self.pools, "image", ASKS_FOR)

    async def admit(self, request: web.Request) -> web.Response:
        question: dict[str, str] = await request.json()
        self.asked.append((time.time(), question))
        if self.answers is not None:
            return await self.answers(question)
        return web.json_response({"code": "allowed"})

    @property
    def tally_file(self) -> Path:
        return self.folder / "tally.json"

    async def play(self, *arrivals: Arrival) -> dict[str, dict[str, int]]:
        """Play to the end; returns the tally as it was written."""
        started_at = time.time()
        await asyncio.wait_for(self.crowd.play(arrivals, started_at, self.tally_file), 10.0)
        written: dict[str, dict[str, int]] = json.loads(self.tally_file.read_text())
        return written


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    async with serving("/v1/admit", house.admit) as house.gateway:
        house.__post_init__()
        yield house


def arrivals(count: int, *, every_s: float = 0.0, tier: str = "free") -> list[Arrival]:
    return [Arrival(n * every_s, tier, f"{tier}-{n}", 1.5) for n in range(count)]


async def generate(_: web.Request) -> web.Response:
    return web.json_response({"data": []})


async def test_each_is_asked_about_and_then_served_by_a_replica(house: House) -> None:
    worked: list[dict[str, Any]] = []

    async def answer(request: web.Request) -> web.Response:
        worked.append(await request.json())
        return await generate(request)

    async with serving(IMAGES, answer) as replica:
        house.pools.serve_at(replica)
        tally = await house.play(*arrivals(3))
    assert tally == {"answers": {"free/allowed": 3}, "served": {"free": 3}, "lost": {}}
    assert sorted(worked, key=str) == [{"work": 1.5, "user": f"free-{n}"} for n in range(3)]
    assert house.asked[0][1] == {
        "feature": "image-feature",
        "user": "free-0",
        "tier": "free",
        "surface": "chat",
    }


async def test_a_slow_answer_delays_nobody(house: House) -> None:
    may_answer = asyncio.Event()

    async def slow(question: dict[str, str]) -> web.Response:
        if question["user"] == "free-0":
            await may_answer.wait()
        if len(house.asked) == 40:
            may_answer.set()
        return web.json_response({"code": "not-exposed"}, status=403)

    house.answers = slow
    began_at = time.time()
    tally = await house.play(*arrivals(40, every_s=0.01))
    assert tally["answers"] == {"free/not-exposed": 40}
    order = [question["user"] for _, question in house.asked]
    assert order.index("free-39") > 30
    sent_s = [at - began_at for at, question in house.asked if question["user"] == "free-39"]
    assert 0.39 <= sent_s[0] < 2.0


async def test_refusals_are_counted_by_tier_and_code(house: House) -> None:
    async def refuse(question: dict[str, str]) -> web.Response:
        if question["tier"] == "pro":
            return web.Response(status=502, text="<html>Bad Gateway</html>")
        return web.json_response(
            {"code": "gate-shed", "status": 429},
            status=429,
            content_type="application/problem+json",
        )

    house.answers = refuse
    tally = await house.play(*arrivals(3), *arrivals(1, tier="pro"))
    assert tally["answers"] == {"free/gate-shed": 3, "pro/http-502": 1}
    assert (tally["served"], tally["lost"]) == ({}, {})


async def test_what_gets_no_answer_is_lost_and_counted(house: House) -> None:
    (port,) = free_ports(1)
    gone = f"http://{LOOPBACK}:{port}"
    house.crowd = Crowd(gone, house.pools, "image", ASKS_FOR)
    tally = await house.play(*arrivals(2))
    assert tally == {"answers": {}, "served": {}, "lost": {"free": 2}}


async def hang_up(request: web.Request) -> web.Response:
    """End as a killed process does: with the request read and nothing answered."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def break_off(request: web.Request) -> web.StreamResponse:
    """End in the middle of an answer."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"{")
    assert request.transport is not None
    request.transport.close()
    return response


async def drain(_: web.Request) -> web.Response:
    return web.json_response({"message": "going away"}, status=503)


@pytest.mark.parametrize("dies", [hang_up, break_off, drain])
async def test_a_request_whose_replica_goes_away_is_served_by_another(
    house: House, dies: Answer
) -> None:
    failed: list[str] = []
    served: list[str] = []

    async def die(request: web.Request) -> web.StreamResponse:
        failed.append((await request.json())["user"])
        house.pools.serve_at(other)
        return await dies(request)

    async def serve(request: web.Request) -> web.Response:
        served.append((await request.json())["user"])
        return await generate(request)

    async with serving(IMAGES, die) as dying, serving(IMAGES, serve) as other:
        house.pools.serve_at(dying)
        tally = await house.play(*arrivals(4))
    assert failed
    assert sorted(served) == [f"free-{n}" for n in range(4)]
    assert tally == {"answers": {"free/allowed": 4}, "served": {"free": 4}, "lost": {}}


async def test_a_replica_that_is_gone_when_it_is_asked_is_no_loss(house: House) -> None:
    (port,) = free_ports(1)
    async with serving(IMAGES, generate) as replica:
        house.pools.serve_at(f"http://{LOOPBACK}:{port}")

        async def let_another_come(_: dict[str, str]) -> web.Response:
            asyncio.get_running_loop().call_later(0.3, house.pools.serve_at, replica)
            return web.json_response({"code": "allowed"})

        house.answers = let_another_come
        tally = await house.play(*arrivals(1))
    assert (tally["served"], tally["lost"]) == ({"free": 1}, {})


async def test_the_replica_with_least_to_do_is_asked(house: House) -> None:
    both_asked, by_replica = asyncio.Event(), {"one": 0, "two": 0}

    def replica(name: str) -> Answer:
        async def answer(_: web.Request) -> web.Response:
            by_replica[name] += 1
            if sum(by_replica.values()) == 6:
                both_asked.set()
            await both_asked.wait()
            return web.json_response({})

        return answer

    async with serving(IMAGES, replica("one")) as one, serving(IMAGES, replica("two")) as two:
        house.pools.serve_at(one, two)
        await house.play(*arrivals(6))
    assert by_replica == {"one": 3, "two": 3}


async def test_who_is_let_in_before_any_replica_is_ready_waits_for_one(house: House) -> None:
    async with serving(IMAGES, generate) as replica:
        house.pools.serve_at(replica, phase=PodPhase.LOADING)
        playing = asyncio.create_task(house.play(*arrivals(2)))
        await until(lambda: house.crowd.tally.answers["free/allowed"] == 2)
        assert house.crowd.tally.served == {}
        house.pools.serve_at(replica)
        tally = await playing
    assert tally["served"] == {"free": 2}


async def test_a_cluster_that_is_away_leaves_the_replicas_that_were_known(house: House) -> None:
    async with serving(IMAGES, generate) as replica:
        house.pools.serve_at(replica)

        async def lose_the_cluster(_: dict[str, str]) -> web.Response:
            # Once the first was served, its replica is known.
            house.pools.is_away = house.crowd.tally.served["free"] > 0
            return web.json_response({"code": "allowed"})

        house.answers = lose_the_cluster
        tally = await house.play(*arrivals(3, every_s=0.3))
    assert house.pools.is_away
    assert tally["served"] == {"free": 3}


async def test_the_tally_is_written_while_it_plays(house: House) -> None:
    async with serving(IMAGES, generate) as replica:
        house.pools.serve_at(replica)
        playing = asyncio.create_task(house.play(*arrivals(2, every_s=1.5)))
        await until(house.tally_file.exists)
        assert json.loads(house.tally_file.read_text())["served"] == {"free": 1}
        assert (await playing)["served"] == {"free": 2}


@pytest.mark.integration
async def test_as_a_process_it_plays_what_it_is_ordered(house: House) -> None:
    async def refuse(_: dict[str, str]) -> web.Response:
        return web.json_response({"code": "gate-shed"}, status=429)

    async def state(_: web.Request) -> web.Response:
        await asyncio.sleep(0.05)
        return web.json_response({"revision": 1, "gpus": {}, "pools": {}})

    house.answers = refuse
    async with serving("/v1/state", state) as pools:
        order = CrowdOrder(
            scenario="launch-day",
            trace=None,
            gateway=house.gateway,
            pool="image",
            feature="image",
            surface="chat",
            started_at=time.time(),
            until_s=1.0,
            tally=house.tally_file,
        )
        path = house.folder / "order.json"
        path.write_text(order.model_dump_json())
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "scenarios.crowd", str(path)),
            cwd=ROOT,
            env={**os.environ, variable("pools"): pools},
        )
        assert await asyncio.wait_for(process.wait(), 20.0) == 0
    tally = json.loads(house.tally_file.read_text())
    assert sum(tally["answers"].values()) == len(list(crowd_arrivals(order))) > 0
    assert all(name.endswith("/gate-shed") for name in tally["answers"])
