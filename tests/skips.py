"""Under CI=true a skipped test is a failed one: CI's machine is to have all that tests need."""

import os
from collections.abc import Generator
from typing import Final

import pytest

NO_SKIPS: Final = os.environ.get("CI") == "true"


def _reason(longrepr: object) -> str:
    return str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    expected_to_fail = hasattr(report, "wasxfail")
    if NO_SKIPS and report.skipped and not expected_to_fail:
        report.outcome = "failed"
        report.longrepr = f"CI=true allows no skip. {_reason(report.longrepr)}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a test into its failure."""
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the skip of a whole module into its failure."""
    report = yield
    _fail_if_skipped(report)
    return report
