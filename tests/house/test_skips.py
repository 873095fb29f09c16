"""A skip names the package that is missing, and fails under CI=true."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.debian import is_there, needs_package, packages
from tests.house.checkout import ROOT

SKIPPING = """
import pytest

@pytest.mark.skip(reason="redis-server is missing")
def test_skipped():
    pass

def test_passed():
    pass
"""

MODULE = 'import pytest\npytest.skip("no card here", allow_module_level=True)\n'


def run_pytest(folder: Path, ci: str) -> str:
    command = [sys.executable, "-m", "pytest", "-p", "tests.skips", "-p", "no:cacheprovider"]
    environment = {**os.environ, "CI": ci, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return ended.stdout


@pytest.fixture
def skipping(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_skipping.py").write_text(SKIPPING)
    return tmp_path


def test_a_skip_stays_a_skip_on_a_persons_machine(skipping: Path) -> None:
    assert "1 passed, 1 skipped" in run_pytest(skipping, ci="")


def test_a_skip_is_a_failure_under_ci_and_keeps_its_reason(skipping: Path) -> None:
    printed = run_pytest(skipping, ci="true")
    assert "CI=true allows no skip. Skipped: redis-server is missing" in printed
    assert "1 passed, 1 error" in printed


def test_a_skipped_module_is_a_failure_under_ci(skipping: Path) -> None:
    (skipping / "test_module.py").write_text(MODULE)
    printed = run_pytest(skipping, ci="true")
    assert "CI=true allows no skip. Skipped: no card here" in printed


def test_a_missing_package_skips_with_the_command_that_installs_it() -> None:
    for package, probe in packages().items():
        (missing,) = needs_package(package).args
        assert missing is not is_there(probe)
        assert f"apt-get install {package}" in needs_package(package).kwargs["reason"]


def test_a_probe_is_a_command_or_a_path(tmp_path: Path) -> None:
    assert is_there("git")
    assert is_there(str(tmp_path))
    assert not is_there(str(tmp_path / "absent"))
    assert shutil.which("no-such-command") is None
    assert not is_there("no-such-command")
