import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from embedded.ports import LOOPBACK
from embedded.processes import Supervisor
from embedded.readiness import serves_http
from tests.embedded.until import is_alive, until
from tests.house.checkout import ROOT
from tidegate.errors import Broken, Unavailable

SLEEP = ["sleep", "60"]
LOGS_ITS_END = """
import pathlib, signal, sys
def end(*_):
    with pathlib.Path(sys.argv[1]).open("a") as order:
        order.write(sys.argv[2] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
signal.pause()
"""
SUPERVISES = """
import asyncio, pathlib, sys
from embedded.processes import Supervisor

async def main():
    supervisor = Supervisor(pathlib.Path(sys.argv[1]))
    await supervisor.start("one", ["sleep", "60"])
    await supervisor.start("two", ["sh", "-c", "trap '' TERM INT HUP; sleep 60 & wait"])
    print("started", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_process_that_dies_is_started_again_and_its_new_id_is_written(
    tmp_path: Path,
) -> None:
    table = tmp_path / "processes.json"
    seen: set[int] = set()

    def is_another() -> bool:
        pid = json.loads(table.read_text()).get("worker")
        return pid is not None and pid not in seen

    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start("worker", SLEEP, restarts=True)
        for _ in range(2):
            before = supervisor.pids()["worker"]
            seen.add(before)
            os.kill(before, signal.SIGKILL)
            await until(is_another)
        last = supervisor.pids()["worker"]
    assert not is_alive(last)
    assert json.loads(table.read_text()) == {}


async def test_a_process_that_need_not_restart_stays_dead(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start("once", ["true"])
        await until(lambda: supervisor.pids() == {})
        await supervisor.stop("once")


async def test_a_process_that_ends_while_starting_shows_the_end_of_its_log(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    async with Supervisor(tmp_path) as supervisor:
        with pytest.raises(Unavailable) as raised:
            await supervisor.start("bad", ["sh", "-c", "echo no such disk; exit 3"], ready=never)
        assert supervisor.pids() == {}
    assert 'process "bad" ended with exit code 3 while starting' in str(raised.value)
    assert str(raised.value).endswith("no such disk")


async def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    async with Supervisor(tmp_path) as supervisor:
        with pytest.raises(Unavailable, match="cannot run /no/such/program"):
            await supervisor.start("bad", ["/no/such/program"], ready=never)


async def test_a_process_that_is_not_ready_in_time_is_ended(tmp_path: Path) -> None:
    async def never() -> bool:
        raise ConnectionRefusedError

    async with Supervisor(tmp_path) as supervisor:
        with pytest.raises(Unavailable, match=r'"slow" was not ready within 0\.1 s'):
            await supervisor.start("slow", SLEEP, ready=never, ready_within_s=0.1)
        assert supervisor.pids() == {}


async def test_an_answer_from_somebody_else_does_not_make_a_dead_process_ready(
    tmp_path: Path,
) -> None:
    async def somebody_answers() -> bool:
        await until(lambda: supervisor.pids() == {})
        return True

    async with Supervisor(tmp_path) as supervisor:
        with pytest.raises(Unavailable, match="ended with exit code 1"):
            await supervisor.start("bad", ["false"], ready=somebody_answers)


async def test_the_last_started_is_stopped_first(tmp_path: Path) -> None:
    order = tmp_path / "order"
    async with Supervisor(tmp_path) as supervisor:
        for name in ("first", "second", "third"):
            argv = [sys.executable, "-I", "-S", "-c", LOGS_ITS_END, str(order), name]
            log = supervisor.log_of(name)

            async def has_begun(log: Path = log) -> bool:
                return "ready" in log.read_text()

            await supervisor.start(name, argv, ready=has_begun)
    assert order.read_text().split() == ["third", "second", "first"]


async def test_one_that_will_not_end_is_killed_with_its_whole_group(tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 61 & echo $!; wait; wait"
    async with Supervisor(tmp_path, grace_s=0.2) as supervisor:
        await supervisor.start("stubborn", ["sh", "-c", script])
        log = supervisor.log_of("stubborn")
        await until(lambda: bool(log.read_text().strip()))
        leader, inner = supervisor.pids()["stubborn"], int(log.read_text())
        began_at = time.monotonic()
        await supervisor.stop("stubborn")
        assert time.monotonic() - began_at < 2
    assert not is_alive(leader)
    await until(lambda: not is_alive(inner))


async def test_nothing_is_left_when_the_supervising_process_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISES, tmp_path], cwd=ROOT, stdout=subprocess.PIPE
    ) as supervising:
        assert supervising.stdout is not None
        assert supervising.stdout.readline() == b"started\n"
        pids = json.loads((tmp_path / "processes.json").read_text())
        assert set(pids) == {"one", "two"}
        await until(lambda: all(is_alive(pid) for pid in pids.values()))
        supervising.kill()
    await until(lambda: not any(is_alive(pid) for pid in pids.values()))


async def test_a_name_is_started_once(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start("one", SLEEP)
        with pytest.raises(Broken, match="started already"):
            await supervisor.start("one", SLEEP)


async def test_a_process_started_outside_the_main_thread_is_refused(tmp_path: Path) -> None:
    def start() -> None:
        asyncio.run(Supervisor(tmp_path).start("one", SLEEP))

    with pytest.raises(Broken, match="expected the main thread"):
        await asyncio.to_thread(start)


async def test_a_port_that_nobody_listens_on_does_not_serve() -> None:
    with socket.socket() as bound:
        bound.bind((LOOPBACK, 0))
        assert not await serves_http(f"http://{LOOPBACK}:{bound.getsockname()[1]}/health")
