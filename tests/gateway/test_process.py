"""The gateway as a process: it starts, or says in a line why not, and ends when told."""

import asyncio
import json
import signal
import socket
from pathlib import Path

import pytest

from embedded.ports import LOOPBACK
from tests.gateway.running import WITHIN_S, environment, running_gateway, start
from tests.tidegate.snapshots import snapshot

pytestmark = pytest.mark.integration


async def ended(arguments: list[str], folder: Path, **variables: str) -> tuple[int, str]:
    log = folder / "gateway.log"
    process = await start(arguments, log, {**environment(folder), **variables})
    code = await asyncio.wait_for(process.wait(), WITHIN_S)
    return code, log.read_text()


async def test_a_busy_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        code, said = await ended(["--port", str(port)], tmp_path)
    assert code == 1
    assert said == (
        f"gateway: port {port} on 127.0.0.1 cannot be used (Address already in use). Stop what "
        "listens there, or give another with --port or TIDEGATE_GATEWAY=http://127.0.0.1:PORT.\n"
    )


async def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    code, said = await ended([], tmp_path, TIDEGATE_REDIS="nowhere")
    assert code == 1
    assert said.count("\n") == 1
    assert 'TIDEGATE_REDIS: got "nowhere", expected a URL.' in said


@pytest.mark.parametrize("arguments", [["--port", "x"], ["--port", "70000"], ["--name", "../up"]])
async def test_wrong_arguments_are_refused(tmp_path: Path, arguments: list[str]) -> None:
    code, said = await ended(arguments, tmp_path)
    assert code == 2
    assert f"got '{arguments[1]}', expected" in said


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_with_0_and_frees_the_port(
    tmp_path: Path, by: signal.Signals
) -> None:
    async with running_gateway(tmp_path) as gateway:
        assert await gateway.stop(by) == 0
        with socket.create_server((LOOPBACK, gateway.port)):
            pass
        assert "Traceback" not in gateway.log
        assert "gateway.stopped" in gateway.log


async def test_a_request_under_way_is_answered_before_the_end(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        reader, writer = await asyncio.open_connection(LOOPBACK, gateway.port)
        body = json.dumps({"feature": "image", "user": "ada", "tier": "pro"}).encode()
        head = f"POST /v1/admit HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body[:10])
        await writer.drain()
        await gateway.is_alive()
        gateway.process.send_signal(signal.SIGTERM)
        await gateway.until(lambda: refused(gateway.port))
        writer.write(body[10:])
        status = await asyncio.wait_for(reader.readline(), WITHIN_S)
        assert status.startswith(b"HTTP/1.1 503")
        writer.close()
        assert await gateway.stop() == 0


async def test_whoever_waits_to_be_accepted_is_answered_before_the_end(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        await gateway.is_alive()
        gateway.process.send_signal(signal.SIGSTOP)
        connected = [await asyncio.open_connection(LOOPBACK, gateway.port) for _ in range(100)]
        for _, writer in connected:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            await writer.drain()
        gateway.process.send_signal(signal.SIGTERM)
        gateway.process.send_signal(signal.SIGCONT)
        for reader, writer in connected:
            assert (await asyncio.wait_for(reader.readline(), WITHIN_S)).startswith(b"HTTP/1.1 200")
            writer.close()
        assert await gateway.stop() == 0


async def refused(port: int) -> bool:
    """Say whether the server takes no new connections any more."""
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return True
    writer.close()
    return False


async def test_two_gateways_keep_their_snapshots_apart(tmp_path: Path) -> None:
    saved = tmp_path / "state" / "gateway-one.json"
    saved.parent.mkdir()
    saved.write_text(snapshot().model_dump_json())
    async with (
        running_gateway(tmp_path, "redis://127.0.0.1:1/0", "--name", "one") as one,
        running_gateway(tmp_path, "redis://127.0.0.1:1/0", "--name", "two") as two,
    ):
        assert (await one.get("/readyz"))[0] == 200
        assert (await two.get("/readyz"))[0] == 503


async def test_a_redis_that_never_answers_is_told_once(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        await gateway.until_logged("redis.lost")
        dropped = "tidegate_gateway_readings_dropped_total 2.0"

        async def has_dropped_two() -> bool:
            return dropped in await text_of(gateway.port, "/metrics")

        await gateway.until(has_dropped_two)
        assert gateway.log.count("redis.lost") == 1
        assert (await gateway.admit())[0] == 503


async def text_of(port: int, path: str) -> str:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    text = (await reader.read()).decode()
    writer.close()
    return text
