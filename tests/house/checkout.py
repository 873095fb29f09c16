"""The checkout that these tests hold to its rules: its files, as git would commit them."""

import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


def files(*patterns: str) -> list[Path]:
    """List the files that are tracked, or would be, relative to the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--"]
    listed = subprocess.run(
        [*command, *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    )
    paths = {Path(name) for name in listed.stdout.split("\0") if name}
    return sorted(path for path in paths if (ROOT / path).is_file())


def texts(*patterns: str) -> dict[Path, str]:
    """Read those files, leaving out what is not text."""
    read: dict[Path, str] = {}
    for path in files(*patterns):
        try:
            read[path] = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return read
