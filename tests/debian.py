"""What tests need of the machine: Debian packages, listed once in debian-packages.txt."""

import shutil
from pathlib import Path
from typing import Final

import pytest

LIST: Final = Path(__file__).parent / "debian-packages.txt"


def packages() -> dict[str, str]:
    """Read the list: each package with the command or path that shows that it is there."""
    rows = [line.split(maxsplit=2) for line in LIST.read_text().splitlines()]
    return {row[0]: row[1] for row in rows if row and not row[0].startswith("#")}


def is_there(probe: str) -> bool:
    """Say whether a command is on the PATH, or a path exists; a path may be a pattern."""
    if probe.startswith("/"):
        return any(Path("/").glob(probe.removeprefix("/")))
    return shutil.which(probe) is not None


def needs_package(package: str) -> pytest.MarkDecorator:
    """Mark a test (or a parameter) that skips where the Debian package is missing."""
    return pytest.mark.skipif(
        not is_there(packages()[package]),
        reason=f'Debian package "{package}" is missing: run "sudo apt-get install {package}"',
    )
