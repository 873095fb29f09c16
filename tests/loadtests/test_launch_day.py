"""The Locust launch day against a stand-in of the gateway, each in processes of their own."""

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from loadtests.day import LoadSettings, is_broken_promise
from tidegate.errors import PlanError

ROOT = Path(__file__).parents[2]
QUICK = {
    "TIDEGATE_LOAD_LENGTH_S": "5",
    "TIDEGATE_LOAD_FORECAST_RPS": "8",
    "TIDEGATE_LOAD_FACTOR": "4",
    "TIDEGATE_LOAD_ANYWHERE": "",
    "DEMAND": "",
}


@contextmanager
def stand_in(**environment: str) -> Iterator[str]:
    """Serve the stand-in on a socket that listens before it starts, so nobody has to wait."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = [sys.executable, "-m", "uvicorn", "tests.loadtests.stand_in:app"]
        server = subprocess.Popen(
            [*command, "--fd", str(listening.fileno()), "--log-level", "warning"],
            cwd=ROOT,
            env={**os.environ, **environment},
            pass_fds=[listening.fileno()],
        )
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.terminate()
            server.wait(timeout=10)


def play(gateway: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "locust", "-f", "loadtests/launch_day.py"]
    return subprocess.run(
        [*command, "--headless", "--only-summary"],
        cwd=ROOT,
        env={**os.environ, **environment, "TIDEGATE_GATEWAY": gateway},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_tier_asks_and_refusals_of_the_free_tier_are_no_failures() -> None:
    with stand_in() as gateway:
        run = play(gateway, QUICK)
        with urllib.request.urlopen(f"{gateway}/seen", timeout=5) as answer:
            seen = json.load(answer)
    assert run.returncode == 0, run.stderr
    assert set(seen) == {"free", "plus", "pro", "team", "ofrep"}
    assert seen["free"] > seen["team"]
    told = next(line for line in run.stdout.splitlines() if line.startswith("free: "))
    assert "gate-shed" in told
    assert "not-exposed" in told


def test_a_gate_that_refuses_a_paying_user_fails_the_run() -> None:
    with stand_in(STAND_IN_SHEDS="plus") as gateway:
        run = play(gateway, {**QUICK, "TIDEGATE_LOAD_LENGTH_S": "3"})
    assert run.returncode == 1
    assert "FAILED: gates refused" in run.stdout


def test_no_gateway_is_told_in_one_line_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free_port = taken.getsockname()[1]
    run = play(f"http://127.0.0.1:{free_port}", QUICK)
    assert run.returncode == 1
    told = [line for line in run.stderr.splitlines() if "no gateway answers" in line]
    assert len(told) == 1
    assert "Traceback" not in run.stderr


def test_a_trace_shapes_the_load(tmp_path: Path) -> None:
    trace = tmp_path / "two.csv"
    trace.write_text("arrival_s,input_tokens,output_tokens\n0.0,1,1\n1.5,1,1\n40.0,1,1\n")
    settings = LoadSettings(length_s=20.0, trace=trace)
    demand = settings.demand()
    assert demand.shape.times_s[-1] == pytest.approx(20.0)
    assert demand.peak_rps <= 150.0 + 1e-9


def test_every_wrong_setting_is_told_at_once() -> None:
    wrong = {
        "TIDEGATE_LOAD_LENGTH_S": "long",
        "TIDEGATE_LOAD_FORECAST_RPS": "-1",
        "TIDEGATE_LOAD_FACTOR": "0",
        "TIDEGATE_GATEWAY": "http://10.0.0.8:80",
    }
    with pytest.raises(PlanError) as found:
        LoadSettings.from_environment(wrong)
    assert len(found.value.mistakes) == 4


@pytest.mark.parametrize("host", ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"])
def test_loopback_hosts_may_be_loaded(host: str) -> None:
    assert LoadSettings().host_mistakes(host) == []


def test_only_gates_that_refuse_paying_people_break_the_promise() -> None:
    assert is_broken_promise("plus", "gate-shed")
    assert not is_broken_promise("plus", "not-exposed")
    assert not is_broken_promise("free", "gate-shed")


def test_a_strangers_host_is_not_loaded() -> None:
    run = play("http://192.0.2.1:8080", QUICK)
    assert run.returncode == 1
    assert "expected a loopback address" in run.stderr
