"""A decision as OpenFeature has it: a boolean with a reason, a variant and metadata."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

from tidegate.rules.decision import Decider
from tidegate.rules.explain import rfc3339, shares_of
from tidegate.rules.outcome import Outcome, Question
from tidegate.rules.retry import come_back_in_s

FOREVER: Final = float("inf")

Metadata = Mapping[str, str | int]


class Flag(NamedTuple):
    """What OpenFeature is told of one feature and user."""

    value: bool
    reason: str
    variant: str
    metadata: Metadata


def flag_of(decider: Decider, question: Question, outcome: Outcome, now: float) -> Flag:
    """Write the answer to a question as a flag."""
    return Flag(
        value=outcome.allowed,
        reason=_reason(decider, question, outcome, now),
        variant="on" if outcome.allowed else "off",
        metadata=_metadata(question, outcome),
    )


def reason_holds_until(decider: Decider, question: Question, now: float) -> float:
    """Return the next instant at which time alone may change the reason that is told."""
    intent = decider.snapshot.intent
    rule = decider.rule(question.feature, question.tier, question.surface)
    ends = [
        *(() if intent is None else (intent.expires_at,)),
        *(() if isinstance(rule, Outcome) else (decider.gate_expires_at(rule),)),
    ]
    return min((end for end in ends if end >= now), default=FOREVER)


def _reason(decider: Decider, question: Question, outcome: Outcome, now: float) -> str:
    intent = decider.snapshot.intent
    if intent is not None and now > intent.expires_at:
        return "STALE"
    shares = shares_of(decider, question, now)
    is_split = shares is not None and shares.told_users_apart(outcome.code)
    return "SPLIT" if is_split else "TARGETING_MATCH"


def _metadata(question: Question, outcome: Outcome) -> Metadata:
    metadata: dict[str, str | int] = {
        "code": outcome.code.value,
        "tier": question.tier,
        "pool": outcome.pool or "",
        "version": outcome.version,
        "detail": outcome.reason,
    }
    if outcome.opens is not None:
        metadata["opensP50"] = rfc3339(outcome.opens.p50)
        metadata["opensP90"] = rfc3339(outcome.opens.p90)
    if outcome.retry_after_s is not None:
        wait_s = come_back_in_s(outcome.retry_after_s, question.user, outcome.version)
        metadata["retryAfterS"] = wait_s
    if outcome.quotas:
        metadata["quotas"] = "; ".join(quota.text for quota in outcome.quotas)
    if outcome.until is not None:
        metadata["until"] = rfc3339(datetime.fromtimestamp(outcome.until, UTC))
    return metadata
