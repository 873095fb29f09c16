"""How a refusal is told over HTTP: its status, and an RFC 9457 problem document."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from tidegate.rules.explain import UNKNOWN, rfc3339
from tidegate.rules.outcome import Code, Outcome
from tidegate.rules.retry import come_back_after_s, come_back_in_s
from tidegate.snapshot import DateRange

PROBLEM_BASE: Final = "https://tidegate.dev/problems/"

NOT_READY: Final = "not-ready"
"""The code while nothing was heard, which is neither a yes nor a no."""
NOT_READY_TITLE: Final = "No snapshot has been heard of yet"
NOT_READY_DETAIL: Final = "no snapshot was heard yet, so nothing is known of who may use what"

STATUS: Final[Mapping[Code, int]] = {
    Code.ALLOWED: 200,
    # 429 and not 503: GPUs are contended and this tier is rationed, while the service is well. A
    # 503 would make balancers and breakers take a healthy gateway out for paying tiers too.
    Code.GATE_SHED: 429,
    Code.WAITLISTED: 429,
    Code.QUOTA_EXCEEDED: 429,
    Code.RATE_LIMITED: 429,
    # No 503 here either: it is one feature that waits, and this gateway answers for all others.
    Code.QUOTA_UNKNOWN: 429,
    Code.NOT_EXPOSED: 403,
    Code.NOT_IN_AUDIENCE: 403,
    Code.PREREQUISITE: 403,
    Code.LAYER_EXCLUDED: 403,
    Code.SIGNUPS_SUSPENDED: 403,
    Code.KILLED: 403,
    # 410 and not 429 (RFC 9457 problem document beside it): clients hide a 429 by backing off,
    # and a brownout is there to be noticed.
    Code.MODEL_BROWNOUT: 410,
    Code.MODEL_RETIRED: 410,
    Code.SURFACE_CLOSED: 403,
    Code.INTENT_STALE: 403,
    Code.TIER_UNKNOWN: 403,
    Code.FEATURE_UNKNOWN: 404,
}

TITLES: Final[Mapping[str, str]] = {
    "not-exposed": "The feature is not open for this user yet",
    "not-in-audience": "The feature is meant for others",
    "prerequisite": "Another feature is needed first",
    "layer-excluded": "Another feature of the same layer is in its place",
    "gate-shed": "Temporarily reduced capacity",
    "quota-exceeded": "The quota is used up",
    "rate-limited": "Too many uses in too short a time",
    "quota-unknown": "What was used is not known now",
    "signups-suspended": "Sign-ups are suspended",
    "waitlisted": "There is a waitlist",
    "killed": "The feature is closed by order",
    "model-brownout": "The model is switched off for a while",
    "model-retired": "The model is retired",
    "surface-closed": "The feature is not offered on this surface",
    "intent-stale": "The feature is closed until it is heard of again",
    "tier-unknown": "No such tier",
    "feature-unknown": "No such feature",
}
"""A title for each code of a refusal."""


_END_FOR_ALL: Final = frozenset({Code.MODEL_BROWNOUT, Code.QUOTA_EXCEEDED})
"""What ends at an instant at which many may be waiting."""


def problem_of(outcome: Outcome, tier: str) -> dict[str, object]:
    """Return the problem document of a refusal; `tier` is the one that asked."""
    document: dict[str, object] = {
        "type": PROBLEM_BASE + outcome.code,
        "title": TITLES[outcome.code],
        "status": STATUS[outcome.code],
        "detail": outcome.reason,
        "code": outcome.code.value,
        "allowed": False,
        "feature": outcome.feature,
        "tier": tier,
        "pool": outcome.pool,
        "version": outcome.version,
    }
    if outcome.code is Code.NOT_EXPOSED:
        document["opens"] = opens_as_json(outcome.opens)
    if outcome.until is not None:
        document["until"] = rfc3339(datetime.fromtimestamp(outcome.until, UTC))
    return document


def opens_as_json(opens: DateRange | None) -> object:
    """Write when something opens as a range, or as "unknown"."""
    return UNKNOWN if opens is None else {"p50": rfc3339(opens.p50), "p90": rfc3339(opens.p90)}


def retry_after_s(outcome: Outcome, user: str, now: float) -> int | None:
    """Return when this user should ask again, in whole seconds; None where nothing is known.

    Never before a brownout or a quota's window ends, since asking until then is in vain.
    """
    if outcome.retry_after_s is not None:
        return come_back_in_s(outcome.retry_after_s, user, outcome.version)
    if outcome.until is not None and outcome.code in _END_FOR_ALL:
        return come_back_after_s(math.ceil(outcome.until - now), user, outcome.version)
    if outcome.until is not None and outcome.code is Code.RATE_LIMITED:
        return max(1, math.ceil(outcome.until - now))
    return None
