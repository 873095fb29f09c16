"""The closing line counts every group, and a group that did not run is a failure."""

from pathlib import Path

from tools.run_tests import Outcome, read_outcome

REPORT = """<?xml version="1.0"?>
<testsuites><testsuite name="pytest" errors="1" failures="2" skipped="3" tests="10"/></testsuites>
"""


def test_a_report_is_counted_with_errors_among_the_failures(tmp_path: Path) -> None:
    report = tmp_path / "unit.xml"
    report.write_text(REPORT)
    assert str(read_outcome(report, exit_code=1)) == "4 passed, 3 failed, 3 skipped"


def test_a_group_that_crashed_or_ran_nothing_counts_as_a_failure(tmp_path: Path) -> None:
    assert read_outcome(tmp_path / "absent.xml", exit_code=5) == Outcome(failed=1)


def test_groups_add_up() -> None:
    assert Outcome(1, 2, 3) + Outcome(10, 20, 30) == Outcome(11, 22, 33)
