"""What a check says of a stage: pass, fail, or inconclusive, which waits for a person."""

from enum import StrEnum

from tidegate.plans import CheckSpec
from tidegate.readings import Reading


class Verdict(StrEnum):
    """Inconclusive never advances and never aborts."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


def judge(check: CheckSpec | None, queue_wait: Reading) -> Verdict:
    """Hold a reading against a stage's check; a stage without one passes by its bake time."""
    if check is None:
        return Verdict.PASS
    wait_s = queue_wait.fresh_value
    if wait_s is None:
        return Verdict.INCONCLUSIVE
    return Verdict.PASS if wait_s < check.queue_wait_below.total_seconds() else Verdict.FAIL
