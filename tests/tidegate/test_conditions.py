"""What a feature asks beside a place below the exposure, and when it is closed."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tidegate.snapshots import (
    NOW,
    POOL,
    attributes,
    conditioned_snapshots,
    feature,
    gate,
    instants,
    intent,
    openings,
    shares,
    snapshot,
    texts,
)
from tidegate.audience import AudienceSpec, LayerSlice, Segment
from tidegate.rules.decision import Decider
from tidegate.rules.outcome import Asks, Attributes, Code, Outcome, Question
from tidegate.snapshot import FeatureIntent, KillPart, ModelIntent, Opening, Signups, Snapshot

USERS = [f"user-{n}" for n in range(2_000)]
EUROPE = AudienceSpec(regions=("eu",))


def held(**features: FeatureIntent) -> Snapshot:
    return snapshot(intent(features))


def decide(given_snapshot: Snapshot, user: str = "ada", **said: object) -> Outcome:
    return Decider(given_snapshot).decide("image", user, "free", "api", NOW, said)


def sign_up(
    given_snapshot: Snapshot,
    *,
    user: str = "ada",
    tier: str = "free",
    now: float = NOW,
    said: Attributes | None = None,
) -> Code:
    asked = Question("image", user, tier, "api", said or {}, Asks.SIGNUP)
    return Decider(given_snapshot).answer(asked, now).code


# --- audience and invites ---


def test_outside_the_audience_nobody_is_in() -> None:
    meant = held(image=feature(audience=EUROPE))
    assert decide(meant, region="eu").allowed
    assert decide(meant, region="us").code is Code.NOT_IN_AUDIENCE
    assert decide(meant).code is Code.NOT_IN_AUDIENCE


def test_the_invited_are_in_whatever_audience_and_exposure() -> None:
    prototype = held(image=feature(exposure={}, audience=EUROPE, invited=("ada",)))
    assert decide(prototype, "ada").allowed
    assert decide(prototype, "grace", region="eu").code is Code.NOT_EXPOSED


def test_an_invitation_does_not_open_the_gate() -> None:
    shut = snapshot(intent({"image": feature(invited=("ada",))}), gate({"free": 0.0}))
    assert decide(shut, "ada").code is Code.GATE_SHED


# --- parts of a tier ---


def opened(share: float, exposure: float = 0.0, **segment: tuple[str, ...]) -> Snapshot:
    opening = Opening(tier="free", segment=Segment(**segment), share=share)
    return held(image=feature(exposure={"free": exposure}, openings=(opening,)))


def test_a_part_of_a_tier_is_in_and_the_rest_is_told_of_it() -> None:
    known = opened(1.0, regions=("eu",))
    assert decide(known, region="eu").allowed
    refused = decide(known, region="us")
    assert refused.code is Code.NOT_EXPOSED
    assert refused.reason == "image is not open for free yet; in part: free 100% on regions eu"
    assert decide(known).code is Code.NOT_EXPOSED
    beta = opened(1.0, regions=("eu",), cohorts=("beta",))
    assert decide(beta, region="eu", cohorts=["beta"]).allowed
    assert not decide(beta, region="eu").allowed


def test_a_part_may_be_a_surface() -> None:
    decider = Decider(opened(1.0, surfaces=("web",)))
    assert decider.decide("image", "ada", "free", "web", NOW).allowed
    assert not decider.decide("image", "ada", "free", "api", NOW).allowed
    assert not decider.decide("image", "ada", "plus", "web", NOW).allowed


def test_a_part_grows_within_the_one_order_of_a_feature() -> None:
    known = opened(0.5, exposure=0.2, regions=("eu",))
    everywhere = {u for u in USERS if decide(known, u).allowed}
    of_europe = {u for u in USERS if decide(known, u, region="eu").allowed}
    assert everywhere < of_europe
    assert len(of_europe) / len(USERS) == pytest.approx(0.5, abs=0.05)


def test_what_requires_a_feature_follows_its_parts() -> None:
    opening = Opening(tier="free", segment=Segment(regions=("eu",)), share=1.0)
    known = held(image=feature(requires=("chat",)), chat=feature(exposure={}, openings=(opening,)))
    assert decide(known, region="eu").allowed
    assert decide(known, region="us").code is Code.PREREQUISITE


@given(conditioned_snapshots(), texts, attributes, st.data())
def test_opening_a_part_drops_nobody(
    given_snapshot: Snapshot, user: str, said: Attributes, data: st.DataObject
) -> None:
    part = given_snapshot.intent or intent()
    opening = data.draw(openings(list(part.tiers)))
    features = {
        name: each.model_copy(update={"openings": (*each.openings, opening)})
        for name, each in part.features.items()
    }
    changed = part.model_copy(update={"features": features})
    before, after = (
        Decider(each)
        for each in (given_snapshot, given_snapshot.model_copy(update={"intent": changed}))
    )
    for name in features:
        asked = (name, user, opening.tier, "api", NOW, said)
        assert not before.decide(*asked).allowed or after.decide(*asked).allowed


# --- prerequisites ---


def test_a_feature_is_for_those_exposed_to_what_it_requires() -> None:
    known = held(image=feature(requires=("chat",)), chat=feature(exposure={"free": 0.5}))
    of_chat = {u for u in USERS if Decider(known).decide("chat", u, "free", "api", NOW).allowed}
    of_image = {u for u in USERS if decide(known, u).allowed}
    assert of_image == of_chat
    assert decide(known, (set(USERS) - of_chat).pop()).code is Code.PREREQUISITE


def test_what_a_prerequisite_requires_is_required_as_well() -> None:
    chain = held(
        image=feature(requires=("chat",)),
        chat=feature(requires=("base",)),
        base=feature(exposure={}),
    )
    assert decide(chain).code is Code.PREREQUISITE


def test_an_unknown_prerequisite_and_a_circle_let_nobody_in() -> None:
    assert decide(held(image=feature(requires=("gone",)))).code is Code.PREREQUISITE
    circle = held(image=feature(requires=("chat",)), chat=feature(requires=("image",)))
    assert decide(circle).code is Code.PREREQUISITE


def test_a_chain_of_prerequisites_may_be_as_long_as_it_likes() -> None:
    chain = {f"f{n}": feature(requires=(f"f{n + 1}",)) for n in range(1_500)}
    closed = {**chain, "f1500": feature(exposure={})}
    open_to_all = {**chain, "f1500": feature()}
    asked = Question("f0", "ada", "free", "api")
    assert Decider(held(**closed)).answer(asked, NOW).code is Code.PREREQUISITE
    assert Decider(held(**open_to_all)).answer(asked, NOW).allowed


def test_what_several_features_require_is_asked_once() -> None:
    """Asked once for each way that leads there, this would take until tomorrow."""
    doubled = {f"f{n}": feature(requires=(f"f{n + 1}", f"g{n + 1}")) for n in range(60)}
    beside = {f"g{n}": feature(requires=(f"f{n + 1}", f"g{n + 1}")) for n in range(60)}
    known = held(**doubled, **beside, f60=feature(), g60=feature())
    assert Decider(known).answer(Question("f0", "ada", "free", "api"), NOW).allowed


def test_an_order_to_close_a_prerequisite_closes_what_requires_it_until_it_ends() -> None:
    features = {
        "image": feature(requires=("chat",)),
        "chat": feature(requires=("base",)),
        "base": feature(),
    }
    kill = KillPart(
        feature="base",
        version=12,
        issued_at=NOW,
        expires_at=NOW + 60.0,
        tiers=("free",),
        by="ops",
        reason="a leak",
    )
    closed = Decider(snapshot(intent(features)).model_copy(update={"kills": {"base": kill}}))
    outcome = closed.decide("image", "ada", "free", "api", NOW)
    assert (outcome.code, outcome.until) == (Code.KILLED, NOW + 60.0)
    assert outcome.reason == "base, which image requires, was closed by ops: a leak"
    assert closed.decide("image", "ada", "free", "api", NOW + 60.0).allowed
    assert closed.decide("image", "ada", "pro", "api", NOW).allowed


def test_a_shut_gate_of_the_prerequisite_does_not_shut_this_feature() -> None:
    chat = feature(pool="chat")
    known = snapshot(intent({"image": feature(requires=("chat",)), "chat": chat}))
    assert decide(known).allowed


# --- layers ---


def test_parts_of_a_layer_exclude_one_another() -> None:
    halves = held(
        image=feature(layer=LayerSlice(name="labs", start=0.0, end=0.5)),
        chat=feature(layer=LayerSlice(name="labs", start=0.5, end=1.0)),
    )
    decider = Decider(halves)
    of_image = {u for u in USERS if decider.decide("image", u, "free", "api", NOW).allowed}
    of_chat = {u for u in USERS if decider.decide("chat", u, "free", "api", NOW).allowed}
    assert of_image.isdisjoint(of_chat)
    assert of_image | of_chat == set(USERS)
    outside = (set(USERS) - of_image).pop()
    assert decide(halves, outside).code is Code.LAYER_EXCLUDED


def test_an_invitation_stands_above_the_layer() -> None:
    """Somebody said so by name, and may say so of two features of one layer."""
    halves = held(
        image=feature(invited=("ada",), layer=LayerSlice(name="labs", start=0.0, end=0.5)),
        chat=feature(invited=("ada",), layer=LayerSlice(name="labs", start=0.5, end=1.0)),
    )
    decider = Decider(halves)
    assert all(decider.decide(f, "ada", "free", "api", NOW).allowed for f in ("image", "chat"))


def test_exposure_inside_a_layer_is_drawn_independently_of_it() -> None:
    half = held(
        image=feature(exposure={"free": 0.5}, layer=LayerSlice(name="labs", start=0.0, end=0.5))
    )
    assert sum(decide(half, u).allowed for u in USERS) / len(USERS) == pytest.approx(0.25, abs=0.05)


# --- closures ---


def killed(*, until: float, tiers: tuple[str, ...] | None = None) -> Snapshot:
    kill = KillPart(
        feature="image",
        version=12,
        issued_at=NOW,
        expires_at=until,
        tiers=tiers,
        by="ops",
        reason="it draws what it must not",
    )
    return snapshot().model_copy(update={"kills": {"image": kill}})


def test_an_order_closes_a_feature_until_its_end() -> None:
    ordered = killed(until=NOW + 60)
    outcome = decide(ordered)
    assert outcome.code is Code.KILLED
    assert outcome.until == NOW + 60
    assert Decider(ordered).decide("image", "ada", "free", "api", NOW + 60).allowed


def test_an_order_for_some_tiers_leaves_the_others() -> None:
    ordered = Decider(killed(until=NOW + 60, tiers=("free",)))
    assert ordered.decide("image", "ada", "free", "api", NOW).code is Code.KILLED
    assert ordered.decide("image", "ada", "pro", "api", NOW).allowed


def test_a_retiring_model_is_refused_in_its_brownouts_and_from_its_sunset_on() -> None:
    going = ModelIntent(
        deprecated_at=NOW - 100,
        retired_at=NOW + 100,
        successor="image-3",
        brownouts=((NOW, NOW + 10),),
    )
    part = intent().model_copy(update={"models": {POOL.model: going}})
    decider = Decider(snapshot(part))

    def code(at: float) -> Code:
        return decider.decide("image", "ada", "pro", "api", at).code

    assert [code(NOW + s) for s in (-1, 0, 9.9, 10, 99.9, 100)] == [
        Code.ALLOWED,
        Code.MODEL_BROWNOUT,
        Code.MODEL_BROWNOUT,
        Code.ALLOWED,
        Code.ALLOWED,
        Code.MODEL_RETIRED,
    ]
    brownout = decider.decide("image", "ada", "pro", "api", NOW)
    assert brownout.until == NOW + 10
    assert "use image-3" in brownout.reason


def going(**changes: object) -> Decider:
    model = ModelIntent.model_validate({"deprecated_at": NOW, "successor": "image-3", **changes})
    return Decider(snapshot(intent().model_copy(update={"models": {POOL.model: model}})))


def test_a_tier_that_lost_the_model_is_refused_and_the_others_are_not() -> None:
    decider = going(gone=(("free", NOW + 5),), brownouts=())
    assert decider.decide("image", "ada", "free", "api", NOW + 4).allowed
    lost = decider.decide("image", "ada", "free", "api", NOW + 5)
    assert lost.code is Code.MODEL_RETIRED
    assert decider.decide("image", "ada", "pro", "api", NOW + 5).allowed


def test_a_tier_that_keeps_the_model_notices_nothing() -> None:
    decider = going(
        spared=("pro",), retired_at=NOW, brownouts=((NOW, NOW + 60),), is_restricted=True
    )
    assert decider.decide("image", "ada", "pro", "api", NOW + 1).allowed
    assert decider.decide("image", "ada", "free", "api", NOW + 1).code is Code.MODEL_RETIRED
    signup = Question("image", "ada", "pro", "api", asks=Asks.SIGNUP)
    assert decider.answer(signup, NOW + 1).allowed


def test_nobody_new_comes_to_a_model_that_is_restricted_and_who_is_inside_stays() -> None:
    decider = going(is_restricted=True)
    signup = Question("image", "ada", "pro", "api", asks=Asks.SIGNUP)
    refused = decider.answer(signup, NOW)
    assert refused.code is Code.SIGNUPS_SUSPENDED
    assert "its model will be retired; use image-3" in refused.reason
    assert decider.decide("image", "ada", "pro", "api", NOW).allowed


# --- sign-ups ---


def suspended(**changes: object) -> Snapshot:
    signups = Signups(state="suspended", reason="demand", **changes)  # type: ignore[arg-type]
    return held(image=feature(signups=signups))


def test_suspended_signups_refuse_newcomers_and_leave_those_inside() -> None:
    assert sign_up(suspended(), tier="pro") is Code.SIGNUPS_SUSPENDED
    assert decide(suspended()).allowed


def test_signups_reopen_by_cohort_and_by_share_and_drop_nobody_on_the_way() -> None:
    assert sign_up(suspended(cohorts=("invited",)), said={"cohorts": ["invited"]}) is Code.ALLOWED
    assert sign_up(suspended(cohorts=("invited",))) is Code.SIGNUPS_SUSPENDED
    reached = [
        {u for u in USERS if sign_up(suspended(share=share), user=u) is Code.ALLOWED}
        for share in (0.0, 0.1, 0.5, 1.0)
    ]
    assert [len(users) > 0 for users in reached] == [False, True, True, True]
    assert all(fewer <= more for fewer, more in pairwise(reached))
    assert reached[-1] == set(USERS)


def test_whom_signups_reopen_for_is_drawn_independently_of_whom_a_feature_is_exposed_to() -> None:
    signups = Signups(state="suspended", share=0.5)
    half = held(image=feature(exposure={"free": 0.5}, signups=signups))
    let_in = sum(sign_up(half, user=u) is Code.ALLOWED for u in USERS)
    assert let_in / len(USERS) == pytest.approx(0.25, abs=0.05)


def test_where_the_gate_sheds_a_newcomer_waits() -> None:
    assert sign_up(snapshot(intent(), gate({"free": 0.0}))) is Code.WAITLISTED
    assert sign_up(snapshot(intent(), gate({"free": 0.0})), tier="pro") is Code.ALLOWED


def test_signups_close_for_every_tier_when_nothing_is_heard_any_more() -> None:
    silent_publisher = snapshot(intent(expires_at=NOW - 1))
    silent_gate = snapshot(intent(), gate(expires_at=NOW - 1))
    never_heard = Snapshot(intent=intent())
    for lost in (silent_publisher, silent_gate, never_heard):
        for tier in ("free", "pro"):
            assert sign_up(lost, tier=tier) is Code.SIGNUPS_SUSPENDED


def test_one_who_could_not_use_it_inside_cannot_come_in() -> None:
    assert sign_up(held(image=feature(exposure={}))) is Code.NOT_EXPOSED


# --- session passes ---


def test_a_session_let_in_stays_in_through_a_shut_gate_and_nothing_else() -> None:
    shut = Decider(snapshot(intent(), gate({"free": 0.0})))
    asked = Question("image", "ada", "free", "api")
    assert shut.answer(asked, NOW).code is Code.GATE_SHED
    assert shut.answer(asked, NOW, is_passed=True).allowed
    ordered = Decider(killed(until=NOW + 60))
    assert ordered.answer(asked, NOW, is_passed=True).code is Code.KILLED


# --- whatever is published ---


@given(conditioned_snapshots(), texts, attributes, instants, st.sampled_from(Asks))
def test_no_snapshot_and_no_user_makes_a_decision_fail(
    given_snapshot: Snapshot, user: str, said: Attributes, now: float, asks: Asks
) -> None:
    decider = Decider(given_snapshot)
    for name in (*decider.features, "gone"):
        for tier in ("a", "b", "gone"):
            for surface in ("api", "gone"):
                outcome = decider.answer(Question(name, user, tier, surface, said, asks), now)
                assert outcome.allowed is (outcome.code is Code.ALLOWED)


@given(conditioned_snapshots(), texts, attributes, instants, shares, shares)
def test_raising_exposure_drops_nobody_whatever_else_is_asked(
    given_snapshot: Snapshot, user: str, said: Attributes, now: float, one: float, other: float
) -> None:
    low, high = sorted([one, other])
    part = given_snapshot.intent
    assert part is not None
    for name, described in part.features.items():
        at = [
            given_snapshot.model_copy(
                update={
                    "intent": part.model_copy(
                        update={
                            "features": {
                                **part.features,
                                name: described.model_copy(
                                    update={"exposure": dict.fromkeys(part.tiers, share)}
                                ),
                            }
                        }
                    )
                }
            )
            for share in (low, high)
        ]
        for tier in part.tiers:
            for asked in (Question(f, user, tier, "api", said) for f in part.features):
                narrow, wide = (Decider(s).answer(asked, now).allowed for s in at)
                assert wide or not narrow


@given(conditioned_snapshots(), texts, attributes, instants)
def test_a_decider_keeps_only_what_the_snapshot_names(
    given_snapshot: Snapshot, user: str, said: Attributes, now: float
) -> None:
    decider = Decider(given_snapshot)
    for n in range(50):
        decider.decide("image", user, f"tier-{n}", "api", now, said)
        decider.decide(f"feature-{n}", user, "a", "api", now, said)
        decider.decide("image", user, "a", f"surface-{n}", now, said)
    features = len(decider.features)
    assert len(decider._tables.rules) + sum(map(len, decider._answers.values())) <= features * 2 * 6
