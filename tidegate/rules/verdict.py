"""What checks say of a stage: pass, fail, or inconclusive, which waits for a person."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tidegate.checks import CheckSpec
from tidegate.readings import Reading


class Verdict(StrEnum):
    """Inconclusive never advances and never aborts."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a check saw, and why it is judged so."""

    verdict: Verdict
    reason: str


def judge_queue_wait(check: CheckSpec, queue_wait: Reading) -> Look:
    """Hold a pool's mean queue wait against a check's limit; what is not fresh is inconclusive."""
    wait_s = queue_wait.fresh_value
    if wait_s is None or check.queue_wait_below is None:
        return Look(Verdict.INCONCLUSIVE, "queue wait: no fresh reading")
    limit_s = check.queue_wait_below.total_seconds()
    verdict = Verdict.PASS if wait_s < limit_s else Verdict.FAIL
    return Look(verdict, f"queue wait is {wait_s:.3g} s, limit {limit_s:g} s")


def judge_value(check: CheckSpec, value: float, baseline: float | None) -> Look:
    """Hold a query's value against a check's limit, or against the value of its baseline."""
    if check.below is not None:
        holds, limit = value < check.below, f"below {check.below:g}"
    elif check.above is not None:
        holds, limit = value > check.above, f"above {check.above:g}"
    elif baseline is not None and check.worse_by is not None:
        most = baseline + abs(baseline) * check.worse_by
        holds, limit = value <= most, f"at most {most:.3g}, with {baseline:.3g} for the baseline"
    else:
        return Look(Verdict.INCONCLUSIVE, "its baseline has no value")
    return Look(Verdict.PASS if holds else Verdict.FAIL, f"got {value:.3g}, expected {limit}")


def worst(looks: Iterable[Look]) -> Look:
    """Return the worst of several looks, such as one for each tier; a failure before a gap."""
    order = [Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS]
    return min(looks, key=lambda look: order.index(look.verdict))


def has_failed(check: CheckSpec, looks: Sequence[Verdict]) -> bool:
    """Say whether a check failed in so many last looks in a row that it has failed for good."""
    last = looks[-check.fails_after :]
    return len(last) == check.fails_after and set(last) == {Verdict.FAIL}


def judge(
    checks: Collection[CheckSpec],
    looks: Mapping[str, Sequence[Verdict]],
    answers: Mapping[str, bool],
) -> Verdict:
    """Judge a stage by its checks' looks so far, and by what people answered, by check.

    A check that failed in its last look and not in enough before it flaps: that is inconclusive,
    as is a person who has not answered. A dry run decides nothing.
    """
    verdicts = [
        _judge_one(check, looks.get(check.name, ()), answers)
        for check in checks
        if not check.dry_run
    ]
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    return Verdict.INCONCLUSIVE if Verdict.INCONCLUSIVE in verdicts else Verdict.PASS


def _judge_one(check: CheckSpec, looks: Sequence[Verdict], answers: Mapping[str, bool]) -> Verdict:
    if check.answer is not None:
        if check.name not in answers:
            return Verdict.INCONCLUSIVE
        return Verdict.PASS if answers[check.name] else Verdict.FAIL
    if has_failed(check, looks):
        return Verdict.FAIL
    return Verdict.PASS if looks and looks[-1] is Verdict.PASS else Verdict.INCONCLUSIVE
