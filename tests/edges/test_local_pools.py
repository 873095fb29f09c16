import asyncio
import time

import pytest
from aiohttp import web
from pydantic import ValidationError

from embedded.ports import LOOPBACK, free_ports
from tidegate.edges.local_pools import LocalPools, LocalPoolSpec
from tidegate.errors import Unavailable


async def test_pools_that_do_not_run_are_unavailable_in_one_line() -> None:
    (port,) = free_ports(1)
    async with LocalPools(f"http://{LOOPBACK}:{port}") as pools:
        with pytest.raises(Unavailable) as raised:
            await pools.observe()
    assert str(raised.value) == (
        f"local pools at http://127.0.0.1:{port}: GET /v1/state got no answer within 2 s "
        "(ClientConnectorError). Are the pools running?"
    )
    assert raised.value.code == "pools_unavailable"


async def test_pools_that_never_answer_are_given_up_on_at_the_deadline() -> None:
    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    held: list[asyncio.StreamWriter] = []
    (port,) = free_ports(1)
    began_at = time.monotonic()
    async with (
        await asyncio.start_server(accept, LOOPBACK, port),
        LocalPools(f"http://{LOOPBACK}:{port}") as pools,
    ):
        with pytest.raises(Unavailable, match="no answer within 2 s"):
            await pools.scale("image", 1)
        for writer in held:
            writer.close()
    assert 1.9 < time.monotonic() - began_at < 4


@pytest.mark.parametrize("body", ['{"ready": true}', "[]", '{"revision": "x"}', "<html>"])
async def test_an_answer_from_somebody_else_is_unavailable(body: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/v1/state", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    (port,) = free_ports(1)
    await web.TCPSite(runner, LOOPBACK, port).start()
    try:
        async with LocalPools(f"http://{LOOPBACK}:{port}") as pools:
            with pytest.raises(Unavailable):
                await pools.observe()
    finally:
        await runner.cleanup()


def test_a_ninetieth_percentile_below_the_median_is_refused() -> None:
    with pytest.raises(ValidationError, match="cold_start_p90_s: got 1, expected at least"):
        LocalPoolSpec(cold_start_p50_s=2, cold_start_p90_s=1)
