"""Why an answer is what it is, worked out on demand, and what would make it yes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tidegate.quantities import format_share
from tidegate.rules.decision import Decider, shed_salt
from tidegate.rules.exposure import FULL, place
from tidegate.rules.outcome import Code, Outcome, Question
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
    versions: Mapping[str, int]
    would_be_yes_if: str


def shares_of(decider: Decider, question: Question, now: float) -> Shares | None:
    """Return what decides for a tier at `now`; None where no rule does."""
    rule = decider.rule(question.feature, question.tier, question.surface)
    if isinstance(rule, Outcome):
        return None
    expired = now > rule.gate_expires_at
    ceiling = rule.ceiling_after_expiry_below if expired else rule.ceiling_below
    return Shares(rule.exposed_below / FULL, ceiling / FULL, gate_expired=expired)


def explain(snapshot: Snapshot, decider: Decider, question: Question, now: float) -> Explanation:
    """Answer a question with all its inputs; `decider` is compiled from `snapshot`.

    `now` is in seconds since the epoch.
    """
    outcome = decider.answer(question, now)
    shares = shares_of(decider, question, now)
    pool = outcome.pool
    shed_place = None if pool is None else place(shed_salt(pool, now), question.user) / FULL
    intent = snapshot.intent
    return Explanation(
        outcome=outcome,
        place=None if shares is None else place(question.feature, question.user) / FULL,
        shed_place=None if shares is None or shares.ceiling >= 1.0 else shed_place,
        shares=shares,
        gate=None if pool is None else snapshot.gates.get(pool),
        intent_expired=intent is not None and now > intent.expires_at,
        opens=outcome.opens,
        versions=snapshot.versions(),
        would_be_yes_if="; or ".join(_ways(snapshot, decider, question, now)) or UNKNOWN,
    )


def _ways(snapshot: Snapshot, decider: Decider, question: Question, now: float) -> Iterator[str]:
    """Name the smallest changes that are known now to lead to a yes, the quickest first."""
    outcome = decider.answer(question, now)
    if outcome.code is Code.ALLOWED:
        yield "it is yes now"
    elif outcome.code is Code.SURFACE_CLOSED:
        yield from _on_another_surface(snapshot, decider, question, now)
    elif outcome.code in _TIERS_DIFFER:
        yield from _in_another_tier(snapshot, decider, question, now)
    if (way := _WAYS.get(outcome.code)) is not None:
        yield way
    if outcome.opens is not None:
        between = f"{rfc3339(outcome.opens.p50)} and {rfc3339(outcome.opens.p90)}"
        yield f"when the stage opens, between {between} (p50 and p90)"
    if outcome.until is not None:
        yield f"from {rfc3339(datetime.fromtimestamp(outcome.until, UTC))}, when it ends"
    if outcome.code is Code.GATE_SHED or outcome.code is Code.WAITLISTED:
        yield _with_the_gate_wider(decider, question, outcome, now)


_TIERS_DIFFER: Final = frozenset(
    {
        Code.TIER_UNKNOWN,
        Code.NOT_EXPOSED,
        Code.NOT_IN_AUDIENCE,
        Code.PREREQUISITE,
        Code.GATE_SHED,
        Code.WAITLISTED,
        Code.KILLED,
    }
)

_WAYS: Final[Mapping[Code, str]] = {
    Code.INTENT_STALE: "when the publisher is heard again",
    Code.NOT_IN_AUDIENCE: "on the invite list",
    Code.PREREQUISITE: "once exposed to all that it requires",
    Code.SIGNUPS_SUSPENDED: "when sign-ups reopen",
}


def _in_another_tier(
    snapshot: Snapshot, decider: Decider, question: Question, now: float
) -> Iterator[str]:
    tiers = {} if snapshot.intent is None else snapshot.intent.tiers
    own = tiers.get(question.tier)
    own_rank = max((t.rank for t in tiers.values()), default=0) if own is None else own.rank

    def steps_away(tier: str) -> tuple[int, str]:
        return abs(tiers[tier].rank - own_rank), tier

    for tier in sorted(tiers, key=steps_away):
        elsewhere = question._replace(tier=tier)
        if tier != question.tier and decider.answer(elsewhere, now).allowed:
            yield f"in tier {tier}: yes now"
            return


def _on_another_surface(
    snapshot: Snapshot, decider: Decider, question: Question, now: float
) -> Iterator[str]:
    intent = snapshot.intent
    surfaces = () if intent is None else intent.features[question.feature].surfaces
    for surface in sorted(surfaces):
        elsewhere = question._replace(surface=surface)
        if decider.answer(elsewhere, now).allowed:
            yield f"on surface {surface}: yes now"
            return


def _with_the_gate_wider(decider: Decider, question: Question, outcome: Outcome, now: float) -> str:
    shares = shares_of(decider, question, now)
    ceiling = 0.0 if shares is None else shares.ceiling
    needed = place(shed_salt(outcome.pool or "", now), question.user) / FULL
    return (
        f"when the gate of pool {outcome.pool} lets in more than {format_share(needed)} "
        f"of {outcome.tier} ({format_share(ceiling)} now)"
    )


def rfc3339(at: datetime) -> str:
    """Write an instant as RFC 3339 in UTC, to the second."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
