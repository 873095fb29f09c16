import socket
import subprocess
import sys

import pytest

from console.__main__ import listen
from embedded.ports import LOOPBACK, free_ports
from tidegate.errors import PlanError


def run(console: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "console"],
        env={"TIDEGATE_CONSOLE": console},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_busy_port_gives_one_clear_line_and_exit_code_1() -> None:
    (port,) = free_ports(1)
    with socket.create_server((LOOPBACK, port)):
        ended = run(f"http://{LOOPBACK}:{port}")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert str(port) in line
    assert "TIDEGATE_CONSOLE" in line


@pytest.mark.parametrize(
    "address", ["http://0.0.0.0:8088", "http://10.0.0.1:8088", "http://127.0.0.1", "http://[::1"]
)
def test_an_address_that_is_not_on_the_loopback_is_refused(address: str) -> None:
    with pytest.raises(PlanError, match="TIDEGATE_CONSOLE") as refused:
        listen(address)
    assert "\n" not in str(refused.value)
