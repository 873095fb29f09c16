"""May this user use this now: the codes, and what must hold whatever is published."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tidegate.snapshots import (
    NOW,
    OPENS,
    TIERS,
    any_float,
    feature,
    gate,
    instants,
    intent,
    shares,
    snapshot,
    snapshots,
    texts,
    tier_policies,
    users,
)
from tidegate.rules.decision import Decider
from tidegate.rules.exposure import SHED_ROTATION_S, place, shed_place, threshold
from tidegate.rules.gate import derive_ceilings
from tidegate.rules.outcome import Code, Outcome
from tidegate.rules.tables import Rule
from tidegate.snapshot import Snapshot, TierPolicy


def test_a_feature_that_a_hold_withdraws_lets_nobody_in_not_even_who_is_invited() -> None:
    held = feature(invited=("ada",), is_withdrawn=True, held_because="legal: a letter")
    for tier in TIERS:
        refused = decide(snapshot(intent(features={"image": held})), tier)
        assert (refused.allowed, refused.code) == (False, Code.NOT_EXPOSED)
        assert refused.reason == "image is on hold: legal: a letter"


def decide(
    given_snapshot: Snapshot, tier: str = "free", *, user: str = "ada", now: float = NOW
) -> Outcome:
    return Decider(given_snapshot).decide("image", user, tier, "api", now)


def with_exposure(given_snapshot: Snapshot, exposure: dict[str, float]) -> Snapshot:
    part = given_snapshot.intent
    assert part is not None
    changed = part.features["image"].model_copy(update={"exposure": exposure})
    return given_snapshot.model_copy(
        update={"intent": part.model_copy(update={"features": {"image": changed}})}
    )


def users_let_in(given_snapshot: Snapshot, *, now: float = NOW) -> set[str]:
    decider = Decider(given_snapshot)
    names = [f"user-{n}" for n in range(500)]
    return {n for n in names if decider.decide("image", n, "free", "api", now).allowed}


# --- the codes ---


def test_an_exposed_user_behind_an_open_gate_is_allowed() -> None:
    outcome = decide(snapshot())
    assert outcome == Outcome(
        allowed=True,
        code=Code.ALLOWED,
        reason="image is open for free",
        feature="image",
        tier="free",
        pool="image",
        version=11,
        retry_after_s=None,
    )


def test_each_refusal_has_its_own_code() -> None:
    decider = Decider(snapshot(intent({"image": feature(exposure={"pro": 1.0})})))
    codes = {
        "unknown": decider.decide("video", "ada", "pro", "api", NOW).code,
        "surface": decider.decide("image", "ada", "pro", "phone", NOW).code,
        "tier": decider.decide("image", "ada", "gold", "api", NOW).code,
        "exposure": decider.decide("image", "ada", "plus", "api", NOW).code,
    }
    assert codes == {
        "unknown": Code.FEATURE_UNKNOWN,
        "surface": Code.SURFACE_CLOSED,
        "tier": Code.TIER_UNKNOWN,
        "exposure": Code.NOT_EXPOSED,
    }


def test_a_user_who_waits_is_told_what_for_and_until_when() -> None:
    waiting = feature(
        exposure={"pro": 1.0}, opens={"free": OPENS}, waits_for={"free": "16 GPUs of 24"}
    )
    outcome = decide(snapshot(intent({"image": waiting})))
    assert outcome.opens == OPENS
    assert outcome.reason == "image is not open for free yet; it waits for 16 GPUs of 24"
    assert outcome.retry_after_s is None


def test_a_hold_is_given_as_the_reason() -> None:
    held = feature(exposure={}, held_because="legal review")
    assert decide(snapshot(intent({"image": held}))).reason == "image is on hold: legal review"


def test_a_shed_user_is_told_why_and_when_to_come_back() -> None:
    outcome = decide(snapshot(intent(), gate({"free": 0.0})))
    assert outcome.code is Code.GATE_SHED
    assert outcome.reason == "pool image is throttled: queue wait is at 140% of its limit"
    assert outcome.retry_after_s == 8.0


def test_nothing_is_known_before_intent_was_heard() -> None:
    assert decide(Snapshot()).code is Code.FEATURE_UNKNOWN
    assert decide(Snapshot(gates={"image": gate()})).code is Code.FEATURE_UNKNOWN


def test_an_outcome_is_made_once_for_a_snapshot() -> None:
    decider = Decider(snapshot())
    one = decider.decide("image", "ada", "free", "api", NOW)
    assert decider.decide("image", "grace", "free", "api", NOW) is one


# --- when nothing is heard ---


def test_an_expired_gate_lets_in_the_smaller_of_last_state_and_safe_share() -> None:
    later = NOW + 120.0
    for ceiling, safe, left in [(1.0, 0.3, 0.3), (0.2, 0.3, 0.2)]:
        shut = snapshot(intent(), gate({"free": ceiling}, safe_share=safe))
        let_in = {f"user-{n}" for n in range(500)}
        let_in = {user for user in let_in if shed_place("image", user, later) < threshold(left)}
        assert users_let_in(shut, now=later) == let_in


def test_an_expired_gate_is_not_called_open_to_those_it_sheds() -> None:
    reason = decide(snapshot(intent(), gate(safe_share=0.0)), now=NOW + 120.0).reason
    assert reason == "pool image: nothing is heard of its gate; free is let in up to 0%"


def test_a_gate_never_heard_of_lets_in_the_safe_share_and_all_who_pay() -> None:
    unheard = Snapshot(intent=intent())
    assert 0.2 < len(users_let_in(unheard)) / 500 < 0.4
    assert decide(unheard, "pro").allowed
    assert decide(unheard, "plus").allowed


@pytest.mark.parametrize(("on_stale", "code"), [("keep", "allowed"), ("close", "intent-stale")])
def test_a_feature_says_what_happens_when_intent_expires(on_stale: str, code: str) -> None:
    part = intent({"image": feature(on_stale=on_stale)}, expires_at=NOW - 1.0)
    assert decide(snapshot(part), "pro").code == code


@given(snapshots(), users, instants)
def test_expiry_of_the_gate_only_narrows(given_snapshot: Snapshot, user: str, now: float) -> None:
    fresh, expired = (
        Snapshot(
            intent=given_snapshot.intent,
            gates={
                pool: held.model_copy(update={"expires_at": expires_at})
                for pool, held in given_snapshot.gates.items()
            },
        )
        for expires_at in (now + 1.0, now - 1.0)
    )
    for tier in (given_snapshot.intent or intent()).tiers:
        if decide(expired, tier, user=user, now=now).allowed:
            assert decide(fresh, tier, user=user, now=now).allowed


# --- what must hold whatever is published ---


@given(snapshots(), texts, texts, texts, texts, instants)
def test_deciding_never_fails(
    given_snapshot: Snapshot, name: str, user: str, tier: str, surface: str, now: float
) -> None:
    decider = Decider(given_snapshot)
    for asked in (name, "image"):
        for by in (tier, *(given_snapshot.intent or intent()).tiers):
            for where in (surface, "api"):
                outcome = decider.decide(asked, user, by, where, now)
                assert outcome.allowed is (outcome.code is Code.ALLOWED)


@given(snapshots(), users, instants, st.data())
def test_raising_exposure_drops_nobody(
    given_snapshot: Snapshot, user: str, now: float, data: st.DataObject
) -> None:
    part = given_snapshot.intent or intent()
    before = part.features["image"].exposure
    raised = {tier: data.draw(st.floats(share, 1.0)) for tier, share in before.items()}
    wider = with_exposure(given_snapshot, raised)
    for tier in part.tiers:
        if decide(given_snapshot, tier, user=user, now=now).allowed:
            assert decide(wider, tier, user=user, now=now).allowed


@given(shares, shares, users, instants)
def test_lowering_a_ceiling_only_removes(one: float, other: float, user: str, now: float) -> None:
    low, high = (
        snapshot(intent(), gate({"free": ceiling}, expires_at=now + 1.0))
        for ceiling in sorted([one, other])
    )
    assert not decide(low, user=user, now=now).allowed or decide(high, user=user, now=now).allowed


@given(snapshots(), users, instants)
def test_a_tier_without_a_ceiling_is_never_shed(
    given_snapshot: Snapshot, user: str, now: float
) -> None:
    for tier, policy in (given_snapshot.intent or intent()).tiers.items():
        if not policy.gated:
            assert decide(given_snapshot, tier, user=user, now=now).code is not Code.GATE_SHED


@given(shares, users, instants)
def test_a_ceiling_published_for_a_paying_tier_is_not_obeyed(
    ceiling: float, user: str, now: float
) -> None:
    wrong = snapshot(intent(expires_at=now), gate({"pro": ceiling, "free": 1.0}))
    assert decide(wrong, "pro", user=user, now=now).allowed


@given(tier_policies(), st.floats(0.0, 6.0), shares, users, instants)
def test_whom_the_gate_lets_in_it_lets_in_in_every_better_tier(
    tiers: dict[str, object], openness: float, safe_share: float, user: str, now: float
) -> None:
    """Exposure is people's choice, tier by tier; the gate's order is not."""
    part = intent(
        {"image": feature(exposure=dict.fromkeys(tiers, 1.0))},
        tiers=tiers,  # type: ignore[arg-type]
    )
    ceilings = derive_ceilings(openness, part.tiers)
    for expires_at in (now - 1.0, now + 1.0):
        shut = snapshot(part, gate(ceilings, expires_at=expires_at, safe_share=safe_share))
        by_rank = sorted(part.tiers, key=lambda tier: part.tiers[tier].rank)
        let_in = [decide(shut, tier, user=user, now=now).allowed for tier in by_rank]
        assert let_in == sorted(let_in, reverse=True)


@given(
    tier_policies(),
    st.dictionaries(st.sampled_from("abcdefg"), shares | any_float),
    shares | any_float,
    users,
    instants,
)
def test_whatever_ceilings_are_published_no_tier_is_shut_before_a_worse_one(
    tiers: dict[str, TierPolicy],
    ceilings: dict[str, float],
    safe_share: float,
    user: str,
    now: float,
) -> None:
    """Also where the catalogue has tiers that the gate was never told of."""
    part = intent({"image": feature(exposure=dict.fromkeys(tiers, 1.0))}, tiers=tiers)
    for expires_at in (now - 1.0, now + 1.0):
        held = gate(expires_at=expires_at, safe_share=safe_share)
        shut = snapshot(part, held.model_copy(update={"ceilings": ceilings}))
        by_rank = sorted(tiers, key=lambda tier: tiers[tier].rank)
        let_in = [decide(shut, tier, user=user, now=now).allowed for tier in by_rank]
        assert let_in == sorted(let_in, reverse=True)


GAINED = {
    "plus": TierPolicy(rank=0, gated=True),
    "free": TierPolicy(rank=1, gated=True),
    "guest": TierPolicy(rank=2, gated=True),
}


@pytest.mark.parametrize(
    ("ceilings", "in_force"),
    [
        ({"plus": 0.2, "free": 0.0}, {"plus": 0.2, "free": 0.0, "guest": 0.0}),
        ({"plus": 0.0, "free": 0.9}, {"plus": 0.0, "free": 0.0, "guest": 0.0}),
        ({"free": 0.6, "guest": 0.1}, {"plus": 0.6, "free": 0.6, "guest": 0.1}),
        ({"free": 0.1}, {"plus": 0.3, "free": 0.1, "guest": 0.1}),
        ({}, {"plus": 0.3, "free": 0.3, "guest": 0.3}),
    ],
)
def test_a_tier_that_the_gate_does_not_know_is_let_in_like_its_neighbour(
    ceilings: dict[str, float], in_force: dict[str, float]
) -> None:
    part = intent({"image": feature(exposure=dict.fromkeys(GAINED, 1.0))}, tiers=GAINED)
    known = gate({"free": 1.0}).model_copy(update={"ceilings": ceilings})
    decider = Decider(snapshot(part, known))
    for tier, share in in_force.items():
        rule = decider.rule("image", tier, "api")
        assert isinstance(rule, Rule)
        assert decider.ceiling_below(rule, NOW) == threshold(share)


@given(shares, st.integers(0, 1_000_000))
def test_who_is_shed_stays_the_same_within_an_hour(ceiling: float, hour: int) -> None:
    begun = hour * SHED_ROTATION_S
    ended = begun + SHED_ROTATION_S - 0.001
    shut = snapshot(intent(), gate({"free": ceiling}, expires_at=ended))
    decider = Decider(shut)
    for user in ("ada", "grace", "joan"):
        first = decider.decide("image", user, "free", "api", begun)
        assert decider.decide("image", user, "free", "api", ended) == first


def test_who_is_shed_changes_with_the_hour() -> None:
    shut = snapshot(intent(), gate({"free": 0.5}, expires_at=NOW + 1e6))
    now, next_hour = users_let_in(shut), users_let_in(shut, now=NOW + SHED_ROTATION_S)
    assert 0.15 < len(now & next_hour) / 500 < 0.35


ALL_DAY = range(24)
ONE_HOUR_OF_EACH_DAY = range(0, 24 * 28, 24)


@pytest.mark.parametrize("ceiling", [0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85])
@pytest.mark.parametrize("hours", [ALL_DAY, ONE_HOUR_OF_EACH_DAY])
def test_refusals_are_spread_evenly_over_a_tier(ceiling: float, hours: range) -> None:
    """By Jain's index: 1 where all are refused equally often, 1/n where one alone is."""
    decider = Decider(snapshot(intent(), gate({"free": ceiling}, expires_at=NOW + 1e7)))
    at = [NOW + hour * SHED_ROTATION_S for hour in hours]
    refused = [
        sum(not decider.decide("image", f"user-{n}", "free", "api", now).allowed for now in at)
        for n in range(1_000)
    ]
    jain = sum(refused) ** 2 / (len(refused) * sum(count**2 for count in refused))
    assert jain >= 0.95


def test_who_is_shed_from_one_pool_says_nothing_of_another_pool_or_a_feature() -> None:
    users = [f"user-{n}" for n in range(5_000)]
    of_pool, of_other = (
        {user for user in users if shed_place(pool, user, NOW) < threshold(0.5)}
        for pool in ("image", "chat")
    )
    of_feature = {user for user in users if place("image", user) < threshold(0.5)}
    for other in (of_other, of_feature):
        assert len(of_pool & other) / len(users) == pytest.approx(0.25, abs=0.03)


@given(users, st.integers(0, 1_000_000))
def test_each_user_has_their_turn_outside_and_inside_within_a_day(user: str, hour: int) -> None:
    places = [shed_place("image", user, (hour + n) * SHED_ROTATION_S) for n in range(24)]
    assert min(places) < threshold(0.1)
    assert max(places) >= threshold(0.9)


def test_pools_and_tiers_that_the_catalogue_lacks_do_not_stop_the_others() -> None:
    lost = intent({"image": feature(), "video": feature(pool="gone")}, tiers=TIERS)
    decider = Decider(snapshot(lost))
    assert decider.decide("image", "ada", "pro", "api", NOW).allowed
    assert decider.decide("video", "ada", "pro", "api", NOW).allowed


def test_an_outcome_cannot_be_changed() -> None:
    outcome = decide(snapshot())
    assert replace(outcome, allowed=False) != outcome
    with pytest.raises(AttributeError):
        outcome.allowed = False  # type: ignore[misc]
