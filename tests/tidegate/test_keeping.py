"""What is compiled outlives a part that is renewed as it was, and nothing else outlives it."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.tidegate.snapshots import (
    NOW,
    conditioned_snapshots,
    feature,
    gate,
    instants,
    intent,
    snapshot,
    texts,
)
from tidegate.rules.decision import Decider
from tidegate.rules.outcome import Asks, Code, Outcome, Question
from tidegate.snapshot import GatePart, KillPart, Snapshot

FEATURES = {"image": feature(), "chat": feature(pool="chat", exposure={"free": 0.5})}


def gate_of(pool: str, ceiling: float = 1.0, **changes: object) -> GatePart:
    return gate({"free": ceiling}).model_copy(update={"pool": pool, **changes})


def held(*gates: GatePart) -> Snapshot:
    return snapshot(intent(FEATURES), gate_of("image"), gate_of("chat"), *gates)


def asked(decider: Decider) -> list[Outcome]:
    return [
        decider.decide(name, user, tier, "api", NOW)
        for name in FEATURES
        for tier in ("pro", "free")
        for user in ("ada", "grace", "joan", "lin")
    ]


def is_kept(one: list[Outcome], other: list[Outcome]) -> list[bool]:
    return [a is b for a, b in zip(one, other, strict=True)]


def renewed(part: GatePart, by: int = 1) -> GatePart:
    stamps = {"version": part.version + by, "expires_at": part.expires_at + by}
    return part.model_copy(update=stamps)


def test_a_gate_that_is_renewed_as_it_was_keeps_every_answer() -> None:
    before = Decider(held())
    answers = asked(before)
    after = Decider(held(renewed(gate_of("image"))), before)
    assert all(is_kept(answers, asked(after)))
    assert after.version == before.version


def test_a_gate_that_moves_drops_the_answers_of_its_pool_alone() -> None:
    before = Decider(held())
    answers = asked(before)
    after = Decider(held(gate_of("image", 0.0, version=20)), before)
    assert is_kept(answers, asked(after)) == [False] * 8 + [True] * 8
    assert after.decide("image", "ada", "free", "api", NOW).code is Code.GATE_SHED
    assert after.version == 20


def test_intent_that_is_renewed_as_it_was_keeps_every_answer_and_moves_its_end() -> None:
    under_review = {"image": feature(on_stale="close")}
    first = snapshot(intent(under_review, expires_at=NOW + 1.0))
    again = snapshot(intent(dict(under_review), version=20, expires_at=NOW + 60.0))
    before = Decider(first)
    answer = before.decide("image", "ada", "pro", "api", NOW)
    after = Decider(again, before)
    assert after.decide("image", "ada", "pro", "api", NOW) is answer
    assert before.decide("image", "ada", "pro", "api", NOW + 2.0).code is Code.INTENT_STALE
    assert after.decide("image", "ada", "pro", "api", NOW + 2.0) is answer
    assert after.decide("image", "ada", "pro", "api", NOW + 60.0).code is Code.INTENT_STALE


def test_what_is_asked_before_and_after_an_order_is_not_mixed_up() -> None:
    kill = KillPart(
        feature="image", version=12, issued_at=NOW, expires_at=NOW + 60.0, by="ops", reason="a leak"
    )
    before = Decider(held())
    asked(before)
    closed = Decider(held().model_copy(update={"kills": {"image": kill}}), before)
    assert closed.decide("image", "ada", "pro", "api", NOW).code is Code.KILLED
    again = Decider(held(), closed)
    assert again.decide("image", "ada", "pro", "api", NOW).allowed


@given(
    st.lists(conditioned_snapshots(), min_size=2, max_size=4),
    texts,
    instants,
    st.integers(0, 100),
)
def test_what_was_compiled_before_changes_no_answer(
    in_turn: list[Snapshot], user: str, now: float, later: int
) -> None:
    decider: Decider | None = None
    for known in in_turn:
        gates = {pool: renewed(part, later) for pool, part in known.gates.items()}
        for each in (known, known.model_copy(update={"gates": gates})):
            decider, alone = Decider(each, decider), Decider(each)
            for name in (*alone.features, "gone"):
                for asks in Asks:
                    question = Question(name, user, "a", "api", {}, asks)
                    kept, fresh = (d.answer(question, now) for d in (decider, alone))
                    assert replace(kept, version=0) == replace(fresh, version=0)
