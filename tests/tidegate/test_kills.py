"""Orders to close a feature: signed, with an end, and never wider than what they follow."""

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.tidegate.snapshots import NOW, conditioned_snapshots, instants, intent, snapshot, users
from tidegate.errors import Refused
from tidegate.holding import SnapshotHolder
from tidegate.kills import LONGEST_S, KillReader, is_over, lift, read_order, sign_order, succeed
from tidegate.rules.decision import Decider
from tidegate.rules.outcome import Asks, Code, Question
from tidegate.signing import Key, Keyring
from tidegate.snapshot import KillPart, Snapshot

KEYS = Keyring((Key("ours", b"o" * 32),))
OTHERS = Keyring((Key("ours", b"x" * 32),))


def order(**changes: object) -> KillPart:
    """Close the image feature for all for an hour."""
    made = KillPart(
        feature="image",
        version=7,
        issued_at=NOW,
        expires_at=NOW + 3600.0,
        kept_until=NOW + 3600.0,
        by="ada",
        reason="it draws hands",
    )
    return made.model_copy(update=changes)


def decided(held: Snapshot, user: str = "ada", tier: str = "pro", at: float = NOW) -> Any:  # noqa: ANN401
    return Decider(held).decide("image", user, tier, "api", at)


def test_an_order_is_read_back_as_it_was_signed() -> None:
    signed = sign_order(order(tiers=("free",)), KEYS)
    assert read_order("image", signed.token, KEYS) == signed
    assert signed.model_copy(update={"token": ""}) == order(tiers=("free",))


@pytest.mark.parametrize(
    ("feature", "token"),
    [
        ("image", ""),
        ("image", "no token"),
        ("image", sign_order(order(), OTHERS).token),
        ("video", sign_order(order(), KEYS).token),
        ("image", KEYS.sign("ticket", order().model_dump(mode="json", exclude={"token"}))),
        ("image", KEYS.sign("kill", {"feature": "image"})),
        ("image", KEYS.sign("kill", order(expires_at=NOW + LONGEST_S + 1).model_dump())),
        ("image", KEYS.sign("kill", order(kept_until=NOW + LONGEST_S + 1).model_dump())),
        ("image", KEYS.sign("kill", order(expires_at=float("nan")).model_dump())),
    ],
)
def test_what_is_not_signed_for_this_feature_with_an_end_is_refused(
    feature: str, token: str
) -> None:
    with pytest.raises(Refused):
        read_order(feature, token, KEYS)


def test_what_is_refused_is_told_once_and_one_that_is_good_beside_it_is_taken() -> None:
    good = sign_order(order(feature="video"), KEYS)
    published = {"image": sign_order(order(), OTHERS).token, "video": good.token}
    reader = KillReader(KEYS)
    with capture_logs() as logs:
        for _ in range(3):
            assert reader.verified(published, {}) == {"video": good}
    assert [(log["event"], log["feature"]) for log in logs] == [("kill.refused", "image")]


def test_without_keys_nothing_is_believed() -> None:
    with capture_logs() as logs:
        assert KillReader(None).verified({"image": sign_order(order(), KEYS).token}, {}) == {}
    assert "no keys here" in logs[0]["reason"]


tiers_closed = st.none() | st.lists(st.sampled_from("abcdef"), max_size=4).map(tuple)
orders = st.builds(
    lambda tiers, ends, feature: order(feature=feature, tiers=tiers, expires_at=ends),
    tiers_closed,
    instants,
    st.sampled_from(["image", "chat", "gone"]),
)


@given(conditioned_snapshots(), orders, users, st.sampled_from("abcdefx"), instants)
def test_no_order_turns_a_no_into_a_yes(
    held: Snapshot, kill: KillPart, user: str, tier: str, now: float
) -> None:
    closed = Decider(held.model_copy(update={"kills": {kill.feature: kill}}))
    for feature in ("image", "chat", "video"):
        for asks in Asks:
            asked = Question(feature, user, tier, "api", {}, asks)
            before = Decider(held).answer(asked, now)
            after = closed.answer(asked, now)
            assert before.allowed or not after.allowed
            if not after.allowed and before.allowed:
                # Somebody who lost a prerequisite lost it to the same order.
                assert after.code in (Code.KILLED, Code.PREREQUISITE)


@given(orders, orders, st.floats(NOW, NOW + 3600.0), st.integers(0, 2**53), st.data())
def test_while_an_order_is_in_force_another_never_reopens_for_anybody(
    before: KillPart, then: KillPart, now: float, seen: int, data: st.DataObject
) -> None:
    assume(before.feature == then.feature)
    try:
        after = succeed(before, then, seen=seen, now=now)
    except Refused:
        return
    assert after.version > max(seen, before.version)
    at = data.draw(st.floats(now, NOW + 2 * LONGEST_S))
    for tier in "abcdef":
        was_closed = now < before.expires_at and at < before.expires_at
        if was_closed and (before.tiers is None or tier in before.tiers):
            assert at < after.expires_at
            assert after.tiers is None or tier in after.tiers


def test_an_order_that_narrows_less_is_refused_and_says_what_to_do() -> None:
    for changes in ({"tiers": ("free",)}, {"expires_at": NOW + 60.0}):
        with pytest.raises(Refused, match=r"may only narrow.*tidegate kill --lift") as refused:
            succeed(order(), order(by="bob", **changes), seen=0, now=NOW)
        assert refused.value.code == "kill-widens"
    assert succeed(order(), order(tiers=("free",)), seen=0, now=NOW + 3600.0).tiers == ("free",)


def test_a_lift_ends_an_order_now_and_is_remembered_as_long_as_the_order_was_to_hold() -> None:
    ended = lift(order(), order(by="bob", reason="mended"), seen=9, now=NOW + 60.0)
    assert (ended.expires_at, ended.kept_until) == (NOW + 60.0, NOW + 3600.0)
    assert ended.version > 9
    holder = SnapshotHolder()
    for part in (order(), ended, order()):  # the last is one that somebody repeats
        holder.take(snapshot().model_copy(update={"kills": {"image": part}}))
        holder.forget_kills(NOW + 61.0)
    assert decided(holder.now_held.snapshot, at=NOW + 61.0).allowed
    assert is_over(ended, NOW + 3600.0)
    assert not is_over(ended, NOW + 3599.0)


def test_an_order_after_a_lift_is_remembered_as_long_as_what_was_lifted() -> None:
    ended = lift(order(), order(), seen=0, now=NOW + 60.0)
    again = succeed(ended, order(expires_at=NOW + 120.0), seen=0, now=NOW + 90.0)
    assert (again.expires_at, again.kept_until) == (NOW + 120.0, NOW + 3600.0)


def test_lifting_what_is_not_closed_is_refused() -> None:
    for before in (None, order(expires_at=NOW)):
        with pytest.raises(Refused, match="nothing to lift"):
            lift(before, order(), seen=0, now=NOW)


def test_orders_are_kept_beside_what_comes_after_them_until_they_are_over() -> None:
    holder = SnapshotHolder()
    holder.take(snapshot())
    assert decided(holder.now_held.snapshot).allowed
    assert holder.take(Snapshot(kills={"image": order()}))
    holder.take(Snapshot(intent=intent(version=11)))
    outcome = decided(holder.now_held.snapshot)
    assert (outcome.code, outcome.until) == (Code.KILLED, NOW + 3600.0)
    assert outcome.reason == "image was closed by ada: it draws hands"
    assert holder.forget_kills(NOW + 3599.0) == ()
    assert decided(holder.now_held.snapshot, at=NOW + 3600.0).allowed
    assert holder.forget_kills(NOW + 3600.0) == ("image",)
    assert holder.now_held.snapshot.kills == {}
