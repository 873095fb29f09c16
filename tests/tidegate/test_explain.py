"""Why, with every input, and what would make it yes."""

import math

from hypothesis import given

from tests.tidegate.snapshots import (
    NOW,
    OPENS,
    feature,
    gate,
    instants,
    intent,
    snapshot,
    snapshots,
    texts,
    users,
)
from tidegate.rules.decision import Decider
from tidegate.rules.explain import Explanation, explain, shares_of
from tidegate.rules.outcome import Code, Question
from tidegate.snapshot import Snapshot

ASKED = Question("image", "ada", "free", "api")


def why(given_snapshot: Snapshot, asked: Question = ASKED, *, now: float = NOW) -> Explanation:
    return explain(given_snapshot, Decider(given_snapshot), asked, now)


def test_a_refusal_by_the_gate_names_the_tier_that_would_do_and_the_ceiling_needed() -> None:
    explained = why(snapshot(intent(), gate({"free": 0.0})))
    needed = math.ceil((explained.shed_place or 0) * 1e5) / 1e3
    assert explained.would_be_yes_if == (
        "in tier plus: yes now; or when the gate of pool image lets in more than "
        f"{needed}% of free (0% now)"
    )


def test_one_who_waits_is_told_the_range_and_never_soon() -> None:
    waiting = feature(exposure={"pro": 1.0}, opens={"free": OPENS})
    assert why(snapshot(intent({"image": waiting}))).would_be_yes_if == (
        "in tier pro: yes now; or when the stage opens, between 2026-03-04T09:00:00Z and "
        "2026-03-06T18:00:00Z (p50 and p90)"
    )


def test_where_nothing_is_known_that_is_said() -> None:
    shut = snapshot(intent({"image": feature(exposure={}, opens={"free": None})}))
    assert why(shut).would_be_yes_if == "unknown"
    assert why(snapshot(), Question("video", "ada", "free", "api")).would_be_yes_if == "unknown"


def test_the_other_surface_is_named() -> None:
    explained = why(snapshot(), Question("image", "ada", "free", "phone"))
    assert explained.would_be_yes_if == "on surface api: yes now"


def test_an_unknown_tier_is_answered_with_a_known_one() -> None:
    explained = why(snapshot(), Question("image", "ada", "gold", "api"))
    assert explained.would_be_yes_if == "in tier free: yes now"


def test_a_closed_feature_waits_for_the_publisher() -> None:
    part = intent({"image": feature(on_stale="close")}, expires_at=NOW - 1.0)
    explained = why(snapshot(part))
    assert explained.intent_expired
    assert explained.would_be_yes_if == "when the publisher is heard again"


def test_a_yes_needs_no_change() -> None:
    explained = why(snapshot())
    assert explained.would_be_yes_if == "it is yes now"
    assert explained.shed_place is None


def test_after_expiry_the_ceiling_in_force_is_shown() -> None:
    explained = why(snapshot(), now=NOW + 120.0)
    assert explained.shares is not None
    assert explained.shares.gate_expired
    assert round(explained.shares.ceiling, 6) == 0.3


@given(snapshots(), texts, texts, instants)
def test_an_explanation_never_fails_and_agrees_with_the_decision(
    given_snapshot: Snapshot, user: str, surface: str, now: float
) -> None:
    decider = Decider(given_snapshot)
    for tier in ("nobody", *(given_snapshot.intent or intent()).tiers):
        for where in ("api", surface):
            asked = Question("image", user, tier, where)
            explained = explain(given_snapshot, decider, asked, now)
            assert explained.outcome == decider.decide("image", user, tier, where, now)
            assert "soon" not in explained.would_be_yes_if


@given(snapshots(), users, instants)
def test_place_and_shares_explain_the_outcome(
    given_snapshot: Snapshot, user: str, now: float
) -> None:
    decider = Decider(given_snapshot)
    for tier in (given_snapshot.intent or intent()).tiers:
        asked = Question("image", user, tier, "api")
        explained = explain(given_snapshot, decider, asked, now)
        shares = shares_of(decider, asked, now)
        assert explained.shares == shares
        assert shares is not None
        assert explained.place is not None
        if explained.outcome.code is Code.NOT_EXPOSED:
            assert explained.place >= shares.exposure
        if explained.outcome.code is Code.GATE_SHED:
            assert explained.shed_place is not None
            assert explained.shed_place >= shares.ceiling
