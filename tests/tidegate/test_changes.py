"""What changed between two snapshots leads from the one to the other, and is small."""

from hypothesis import given
from hypothesis import strategies as st

from tests.tidegate.snapshots import (
    NOW,
    conditioned_snapshots,
    feature,
    gate,
    intent,
    snapshot,
)
from tidegate.changes import Change, change_between, offered_by
from tidegate.holding import SnapshotHolder
from tidegate.snapshot import IntentPart, Snapshot, is_same_intent


def stamped(part: IntentPart, version: int) -> IntentPart:
    return part.model_copy(update={"version": version, "expires_at": NOW + version})


def as_sent(change: Change) -> Change:
    return Change.model_validate_json(change.model_dump_json())


@given(st.lists(conditioned_snapshots(), min_size=1, max_size=4), st.lists(st.booleans()))
def test_whoever_takes_every_change_holds_what_the_sender_holds(
    in_turn: list[Snapshot], renews: list[bool]
) -> None:
    sender, receiver = SnapshotHolder(), SnapshotHolder()
    told = sender.now_held.snapshot
    version = 100
    for known, is_renewed in zip(in_turn, [*renews, *[True] * len(in_turn)], strict=False):
        part = known.intent if not is_renewed or told.intent is None else told.intent
        assert part is not None
        version += 1
        gates = {
            pool: each.model_copy(update={"version": version}) for pool, each in known.gates.items()
        }
        sender.take(Snapshot(intent=stamped(part, version), gates=gates))
        now = sender.now_held.snapshot
        offered = offered_by(as_sent(change_between(told, now)), receiver.now_held.snapshot)
        assert offered is not None
        receiver.take(offered)
        assert receiver.now_held.snapshot == now
        told = now


def test_a_gate_that_is_renewed_is_all_that_is_told() -> None:
    held = snapshot()
    later = held.model_copy(update={"gates": {"image": gate(version=12)}})
    assert change_between(held, later) == Change(gates={"image": gate(version=12)})


def test_intent_that_is_renewed_is_told_by_its_stamps_and_keeps_what_it_says() -> None:
    many = {f"f{n}": feature() for n in range(1_000)}
    held = snapshot(intent(many))
    later = held.model_copy(update={"intent": stamped(intent(dict(many)), 20)})
    change = as_sent(change_between(held, later))
    assert len(change.model_dump_json()) < 200
    offered = offered_by(change, held)
    assert offered is not None
    assert offered.intent == later.intent
    assert offered.intent is not None
    assert held.intent is not None
    assert offered.intent.features is held.intent.features
    assert is_same_intent(held.intent, offered.intent)


def test_what_renews_an_intent_that_is_not_held_offers_nothing() -> None:
    change = change_between(snapshot(intent(version=10)), snapshot(intent(version=20)))
    assert offered_by(change, snapshot(intent(version=15))) is None
    assert offered_by(change, Snapshot()) is None
    for held in (10, 20):
        assert offered_by(change, snapshot(intent(version=held))) is not None
