"""The import contracts of pyproject.toml catch an arrow that points the wrong way."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.house.checkout import ROOT, files

LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint(folder: Path) -> str:
    command = [sys.executable, "-c", LINT_IMPORTS, "--no-cache", "--no-logo"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return ended.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for path in files("*.py", "pyproject.toml"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    return tmp_path


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("tidegate/rules/planted.py", "import time", "rules"),
        ("tidegate/rules/planted.py", "import logging", "rules"),
        ("tidegate/planted.py", "import tidegate.edges.redis", "edges"),
        ("workflows/planted.py", "import tidegate.edges.redis", "edges"),
        ("tidegate/edges/planted.py", "import tidegate.cli", "language"),
        ("tidegate/planted.py", "import gateway", "rooms"),
        ("gateway/planted.py", "import controllers", "rooms"),
        ("activities/planted.py", "import workflows", "rooms"),
        ("workflows/planted.py", "import random", "workflows"),
        ("controllers/planted.py", "import redis", "clients-redis"),
        ("controllers/planted.py", "import pynvml", "clients-nvml"),
        ("controllers/planted.py", "import sqlalchemy", "clients-record"),
        ("gateway/planted.py", "import temporalio", "clients-temporal"),
        ("gateway/planted.py", "import tests.conftest", "production"),
    ],
)
def test_an_arrow_that_points_the_wrong_way_is_caught(
    copy: Path, module: str, line: str, contract: str
) -> None:
    (copy / module).write_text(f"{line}\n")
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (name,) = [declared["name"] for declared in contracts if declared["id"] == contract]
    printed = lint(copy)
    assert f"{name} BROKEN" in printed
    assert str(Path(module).with_suffix("")).replace("/", ".") in printed
