"""Why an answer is what it is, worked out on demand, and what would make it yes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from tidegate.rules import exposure
from tidegate.rules.decision import Decider
from tidegate.rules.exposure import FULL, place
from tidegate.rules.outcome import Asks, Code, Outcome, Question
from tidegate.rules.remedies import Case, Change, Kind
from tidegate.rules.ways import Way, ways_to_yes
from tidegate.snapshot import DateRange, GatePart, Snapshot

UNKNOWN = "unknown"
"""What is said where nothing is known that would help; never "soon"."""


@dataclass(frozen=True, slots=True)
class Shares:
    """How much of a tier is in, 0 to 1, at one moment."""

    exposure: float
    ceiling: float
    """Share of the tier's users that the gate lets in; 1 where the tier is never gated."""
    gate_expired: bool

    def told_users_apart(self, code: Code) -> bool:
        """Say whether this answer came from the user's place, and not from the tier alone."""
        match code:
            case Code.ALLOWED:
                return self.exposure < 1.0 or self.ceiling < 1.0
            case Code.NOT_EXPOSED:
                return self.exposure > 0.0
            case Code.GATE_SHED:
                return self.ceiling > 0.0
            case _:
                return False


@dataclass(frozen=True, slots=True)
class Explanation:
    """An outcome with everything that went into it; None where it does not apply."""

    outcome: Outcome
    place: float | None
    """Where this user stands in the feature's order, 0 to 1: in while below the exposure."""
    shed_place: float | None
    """Where they stand in this hour's order of shedding: in while below the ceiling."""
    shares: Shares | None
    gate: GatePart | None
    intent_expired: bool
    opens: DateRange | None
    quotas: tuple[str, ...]
    """What a use takes from, as people wrote it; how much is left is not looked at."""
    versions: Mapping[str, int]
    ways: tuple[Way, ...]
    """The smallest changes that are known now to lead to a yes, the quickest first."""
    would_be_yes_if: str
    """The same in words; `unknown` where none is known."""


def shares_of(decider: Decider, question: Question, now: float) -> Shares | None:
    """Return what decides for a tier at `now`; None where no rule does."""
    rule = decider.rule(question.feature, question.tier, question.surface)
    if isinstance(rule, Outcome):
        return None
    return Shares(
        exposure=rule.exposed_below / FULL,
        ceiling=decider.ceiling_below(rule, now) / FULL,
        gate_expired=now > decider.gate_expires_at(rule),
    )


def explain(
    snapshot: Snapshot,
    decider: Decider,
    question: Question,
    now: float,
    *,
    is_passed: bool = False,
) -> Explanation:
    """Answer a question with all its inputs; `decider` is compiled from `snapshot`.

    `now` is in seconds since the epoch; `is_passed` says that a session pass was shown.
    """
    outcome = decider.answer(question, now, is_passed=is_passed)
    shares = shares_of(decider, question, now)
    pool = outcome.pool
    shed_place = None if pool is None else exposure.shed_place(pool, question.user, now) / FULL
    intent = snapshot.intent
    quotas = _quotas_of(decider, question)
    ways = () if outcome.allowed else ways_to_yes(Case(decider, question, now))
    return Explanation(
        outcome=outcome,
        place=None if shares is None else place(question.feature, question.user) / FULL,
        shed_place=None if shares is None or shares.ceiling >= 1.0 else shed_place,
        shares=shares,
        gate=None if pool is None else snapshot.gates.get(pool),
        intent_expired=intent is not None and now > intent.expires_at,
        opens=outcome.opens,
        quotas=quotas,
        versions=snapshot.versions(),
        ways=ways,
        would_be_yes_if=_while_left(quotas)
        if outcome.allowed
        else "; or ".join(_sentence(way) for way in ways) or UNKNOWN,
    )


def _quotas_of(decider: Decider, question: Question) -> tuple[str, ...]:
    """Name the quotas that a use takes from, also where something else refuses it first."""
    rule = decider.rule(question.feature, question.tier, question.surface)
    if isinstance(rule, Outcome) or question.asks is not Asks.USE:
        return ()
    return tuple(quota.text for quota in rule.allowed.quotas)


def _while_left(quotas: tuple[str, ...]) -> str:
    left = f", while something is left of {' and '.join(quotas)}" if quotas else ""
    return f"it is yes now{left}"


def _sentence(way: Way) -> str:
    """Write one way: what would be yes now, or from when likely, or when which thing happens."""
    now = [each.words for each in way.changes if each.kind < Kind.TIME]
    then = [_words(each) for each in way.changes if each.kind > Kind.TIME]
    later = [_from(way)] if any(each.kind is Kind.TIME for each in way.changes) else []
    told = ", ".join(filter(None, [" and ".join(now), *later, " and ".join(then)]))
    if then:
        return told
    return f"{told}: likely" if later else f"{told}: yes now"


def _words(change: Change) -> str:
    if change.expected is None:
        return change.words
    between = f"{rfc3339(change.expected.p50)} and {rfc3339(change.expected.p90)}"
    return f"{change.words}, between {between} (p50 and p90)"


def _from(way: Way) -> str:
    begins = f"from {_instant(way.case.at)}"
    return begins if way.until is None else f"{begins} to {_instant(way.until)}"


def _instant(at: float) -> str:
    # Rounded up: a second earlier would be too early.
    return rfc3339(datetime.fromtimestamp(math.ceil(at), UTC))


def rfc3339(at: datetime) -> str:
    """Write an instant as RFC 3339 in UTC, to the second."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
