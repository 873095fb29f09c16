import socket
from pathlib import Path

import pytest

from embedded.ports import LOOPBACK, free_ports, require_free
from tidegate.errors import Unavailable


def test_free_ports_differ_and_are_never_given_twice() -> None:
    first, second = free_ports(5), free_ports(5)
    assert len(set(first) | set(second)) == 10


def test_free_ports_lie_where_no_outgoing_connection_takes_them() -> None:
    limits = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    first_ephemeral = int(limits.split()[0])
    assert max(free_ports(10)) < first_ephemeral or first_ephemeral < 21_000


def test_a_free_port_may_be_used() -> None:
    (port,) = free_ports(1)
    require_free(port, "TIDEGATE_REDIS")


def test_a_busy_port_is_named_with_the_setting_to_change() -> None:
    (port,) = free_ports(1)
    with socket.socket() as listener:
        listener.bind((LOOPBACK, port))
        listener.listen()
        with pytest.raises(Unavailable) as raised:
            require_free(port, "TIDEGATE_REDIS")
    assert str(raised.value) == (
        f"TIDEGATE_REDIS: port {port} on 127.0.0.1 is in use. "
        "Stop what listens there, or set TIDEGATE_REDIS to another port."
    )
    assert raised.value.code == "port_busy"
