"""A real PostgreSQL from Debian's package, with a database of its own for each test."""

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg

from embedded.ports import LOOPBACK, free_ports

BINARIES: Final = Path("/usr/lib/postgresql")
SUPERUSER: Final = "tidegate"
_READY_WITHIN_S: Final = 30.0
_ENDS_WITHIN_S: Final = 20.0

# Whoever is called "locked" must know the password; everybody else is let in.
_WHO: Final = f"""
host all locked {LOOPBACK}/32 scram-sha-256
host all all {LOOPBACK}/32 trust
"""
_SETTINGS: Final = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    # Nothing outlives the test, so nothing has to outlive a power cut.
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
}


class RealPostgres:
    """A server on a free port of the loopback, that can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        (self._port,) = free_ports(1)
        self.folder = folder
        self._bin = _newest()
        self._process: subprocess.Popen[bytes] | None = None
        self._count = itertools.count(1)

    def url(self, database: str, user: str = SUPERUSER) -> str:
        return f"postgresql://{user}@{LOOPBACK}:{self._port}/{database}"

    def prepare(self) -> None:
        """Make the files of a cluster."""
        made = subprocess.run(
            [
                *_as_nobody_special(),
                str(self._bin / "initdb"),
                f"--pgdata={self._data}",
                f"--username={SUPERUSER}",
                "--auth=trust",
                "--encoding=UTF8",
                # Sorts otherwise than Python does, as most servers of the world.
                "--locale-provider=icu",
                "--icu-locale=en",
                "--locale=C.UTF-8",
                "--no-sync",
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )
        assert made.returncode == 0, made.stdout + made.stderr
        (self._data / "pg_hba.conf").write_text(_WHO)

    def start(self) -> None:
        options = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
        log = self.folder / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    *_as_nobody_special(),
                    *(str(self._bin / "postgres"), "-D", str(self._data)),
                    *(f"-p{self._port}", *options),
                ],
                stdout=output,
                stderr=output,
                cwd="/",
            )
        deadline_at = time.monotonic() + _READY_WITHIN_S
        while not self._is_ready():
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < deadline_at, log.read_text()
            time.sleep(0.02)

    def stop(self, by: signal.Signals = signal.SIGINT) -> None:
        """End it; SIGINT rolls back what is under way, SIGQUIT is a crash."""
        if self._process is not None:
            self._process.send_signal(by)
            self._process.wait(_ENDS_WITHIN_S)
            self._process = None

    def run(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement as the superuser, in a transaction of no one's."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def new_database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"record_{next(self._count)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop it, whoever still uses it."""
        self.run(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _is_ready(self) -> bool:
        try:
            self.run("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def real_postgres() -> Iterator[RealPostgres]:
    """Start a server; it ends with the block, and with this process however that ends."""
    # pytest's own folders let nobody else in, and the server may not run as root.
    folder = Path(tempfile.mkdtemp(prefix="tidegate-postgres-"))
    if os.getuid() == 0:
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
    server = RealPostgres(folder)
    try:
        server.prepare()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def hold() -> None:
    """Run a server until this process ends; says its process and its folder."""
    with real_postgres() as server:
        sys.stdout.write(f"{server.pid} {server.folder}\n")
        sys.stdout.flush()
        signal.pause()


def _as_nobody_special() -> list[str]:
    """Return the start of a command that gives up root's rights, and ends with this process."""
    command = ["setpriv", "--pdeathsig=INT"]
    if os.getuid() == 0:
        command += ["--reuid=postgres", "--regid=postgres", "--init-groups"]
    return command


def _newest() -> Path:
    found = [path for path in BINARIES.glob("*/bin") if (path / "postgres").exists()]
    return max(found, key=lambda path: int(path.parent.name))
