"""Runs the tests group by group, times each, and closes with one line over all of them."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

GROUPS: Final = {
    "unit": "not integration and not workflows and not scenario",
    "workflows": "workflows and not scenario",
    "integration": "integration and not workflows and not scenario",
    "scenarios": "scenario",
}
"""Each group and its pytest mark expression; every test belongs to exactly one."""

SIDE_BY_SIDE: Final = {
    "unit": ("-n2", "--dist=loadfile"),
    "workflows": ("-n2", "--dist=loadfile"),
    "integration": ("-n2", "--dist=loadfile"),
    "scenarios": (),
}
"""Two at a time, but for live demos. Files stay whole, for the servers that they share."""

REPORTS: Final = Path(".pytest_cache/groups")


@dataclass(frozen=True)
class Outcome:
    """How many tests passed, failed (errors included) and were skipped."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: "Outcome") -> "Outcome":
        """Sum two groups."""
        return Outcome(
            self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped
        )

    def __str__(self) -> str:
        """Write the closing line."""
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def read_outcome(report: Path, exit_code: int) -> Outcome:
    """Count what a JUnit report holds; a group that crashed or ran nothing is one failure."""
    counted = Outcome()
    if report.exists():
        for suite in ET.parse(report).getroot().iter("testsuite"):
            skipped = int(suite.get("skipped", "0"))
            failed = int(suite.get("failures", "0")) + int(suite.get("errors", "0"))
            passed = int(suite.get("tests", "0")) - skipped - failed
            counted += Outcome(passed, failed, skipped)
    if exit_code != 0 and counted.failed == 0:
        counted += Outcome(failed=1)
    return counted


def run_group(group: str, arguments: Sequence[str]) -> Outcome:
    """Run one group of tests with pytest and say how long it took."""
    report = REPORTS / f"{group}.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-m", GROUPS[group], f"--junitxml={report}"]
    command += SIDE_BY_SIDE[group]
    print(f"== {group} ==", flush=True)
    started = time.monotonic()
    ended = subprocess.run([*command, *arguments], check=False)
    outcome = read_outcome(report, ended.returncode)
    print(f"{group}: {outcome} in {time.monotonic() - started:.1f} s\n", flush=True)
    return outcome


def main(arguments: Sequence[str]) -> int:
    """Run the groups that are named (all without a name); the rest goes to pytest."""
    named = [argument for argument in arguments if argument in GROUPS]
    rest = [argument for argument in arguments if argument not in GROUPS]
    total = Outcome()
    for group in named or GROUPS:
        total += run_group(group, rest)
    print(total, flush=True)
    return 1 if total.failed else os.EX_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
