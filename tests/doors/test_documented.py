"""Each example of docs/connect.md and of the README's "Connect a service", run as it stands."""

import asyncio
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from embedded.ports import LOOPBACK, free_ports
from tests.gateway.asking import KEY
from tests.gateway.running import running_gateway
from tests.real_redis import real_redis
from tests.tidegate.snapshots import FEATURE, gate, intent

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
CONNECT = (ROOT / "docs" / "connect.md").read_text()
README = (ROOT / "README.md").read_text()
HERE = README[README.index("## Connect a service") : README.index("## Run it for real")]
ASGI = "ASGI middleware"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples() -> list[tuple[str, str, str]]:
    """Return the heading, the language and the text of each."""
    found = []
    for section in (CONNECT[CONNECT.index("\n## ") :] + "\n" + HERE).split("\n## ")[1:]:
        heading = section.partition("\n")[0]
        found += [(heading, *block) for block in BLOCK.findall(section)]
    return found


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """What a user's shell has once a demo is up, and the feature is open."""
    async with (
        real_redis(tmp_path) as (server, redis),
        running_gateway(tmp_path, server.server.url) as gateway,
    ):
        now = time.time()
        await redis.publish(intent({"voice": FEATURE}, at=now))
        await redis.publish(gate({"free": 0.0}, at=now, expires_at=now + 600.0))
        await gateway.until_holding("intent", 10)
        await gateway.until_holding("gate/image", 11)
        yield {
            **os.environ,
            "TIDEGATE_GATEWAY": gateway.url,
            "TIDEGATE_API_KEY": KEY,
            "PYTHONPATH": str(ROOT),
        }


async def said(argv: list[str], env: dict[str, str], cwd: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *argv, env=env, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await asyncio.wait_for(process.communicate(), 30.0)
    assert process.returncode == 0, errors.decode()
    return output.decode()


def test_every_way_has_an_example() -> None:
    assert [heading for heading, _, _ in examples()] == [
        "HTTP",
        "A place in line",
        "OpenFeature over OFREP",
        "A function",
        "A function",
        "OpenFeature in process",
        ASGI,
        "Connect a service",
        "Connect a service",
    ]


@pytest.mark.parametrize(
    "number", [i for i, (h, *_) in enumerate(examples()) if h != "ASGI middleware"]
)
async def test_an_example_says_yes_as_it_stands(
    tmp_path: Path, env: dict[str, str], number: int
) -> None:
    _, language, text = examples()[number]
    if language == "sh":
        assert '"allowed":true' in await said(["bash", "-eu", "-c", text], env, tmp_path)
    else:
        output = await said([sys.executable, "-c", text], env, tmp_path)
        assert output.splitlines()[-1] == "True voice is open for pro"


async def test_the_applications_example_refuses_and_lets_through(
    tmp_path: Path, env: dict[str, str]
) -> None:
    (text,) = [text for heading, _, text in examples() if heading == ASGI]
    (tmp_path / "app.py").write_text(text)
    (port,) = free_ports(1)
    argv = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)]
    with (tmp_path / "app.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *argv, env=env, cwd=tmp_path, stdout=log, stderr=log
        )
    url = f"http://{LOOPBACK}:{port}/speak"
    try:
        async with aiohttp.ClientSession() as http, asyncio.timeout(30.0):
            status = 0
            while status != 200:
                assert process.returncode is None, (tmp_path / "app.log").read_text()
                try:
                    async with http.post(url, cookies={"session": "s-1"}) as answer:
                        status = answer.status
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)
            for claims in ({"Cookie": "session=s-2"}, {"X-User": "ada", "X-Tier": "pro"}):
                async with http.post(url, headers=claims) as answer:
                    assert answer.status == 429
                    assert (await answer.json(content_type=None))["code"] == "gate-shed"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
