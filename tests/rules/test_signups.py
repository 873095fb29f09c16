"""Orders about sign-ups: they close for all at once, and reopening only ever lets in more."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.strategies import shares
from tests.tidegate.snapshots import NOW, feature, gate, intent, snapshot, tier_policies
from tidegate.messages.feature import SignupsOrder, SignupsVerb
from tidegate.rules.decision import Decider
from tidegate.rules.gate import derive_ceilings
from tidegate.rules.outcome import Asks, Code, Outcome, Question
from tidegate.rules.signups import (
    LONGEST_REASON,
    after_order,
    find_conflict,
    find_mistake,
    tell_signups,
    widens,
)
from tidegate.snapshot import Signups, Snapshot

OPEN = Signups()
SURGE = Signups(state="suspended", reason="a surge")
REOPENING = SURGE.model_copy(update={"cohorts": ("beta",), "share": 0.1})

COHORTS = ("beta", "staff", "press")

cohorts = st.lists(st.sampled_from(COHORTS), max_size=2).map(tuple)
held_signups = st.just(OPEN) | st.builds(
    Signups, state=st.just("suspended"), cohorts=cohorts, share=shares, reason=st.just("a surge")
)


def suspend(reason: str = "a surge", **more: object) -> SignupsOrder:
    order = {"verb": "suspend", "by": "mara", "reason": reason, **more}
    return SignupsOrder.model_validate(order)


def reopen(*for_cohorts: str, share: float | None = None, reason: str = "") -> SignupsOrder:
    return SignupsOrder(
        verb=SignupsVerb.REOPEN, by="mara", cohorts=for_cohorts, share=share, reason=reason
    )


reopenings = st.builds(
    SignupsOrder,
    verb=st.just(SignupsVerb.REOPEN),
    by=st.just("mara"),
    cohorts=cohorts,
    share=st.none() | shares,
)
orders = st.just(suspend()) | reopenings


# --- what an order comes to ---


def test_reopening_adds_cohorts_raises_the_share_and_ends_for_all() -> None:
    step = after_order(SURGE, reopen("beta"))
    assert step == SURGE.model_copy(update={"cohorts": ("beta",)})
    step = after_order(step, reopen("staff", "beta", share=0.1))
    assert (step.cohorts, step.share, step.reason) == (("beta", "staff"), 0.1, "a surge")
    assert after_order(step, reopen(share=0.5)).cohorts == ("beta", "staff")
    assert after_order(step, reopen()) == after_order(step, reopen(share=1.0)) == OPEN


def test_suspending_again_takes_back_what_was_reopened() -> None:
    assert after_order(REOPENING, suspend("another")) == Signups(
        state="suspended", reason="another"
    )


@given(held_signups, orders)
def test_an_order_that_comes_again_changes_nothing(held: Signups, order: SignupsOrder) -> None:
    once = after_order(held, order)
    assert after_order(once, order) == once


@pytest.mark.parametrize(
    ("signups", "words"),
    [
        (OPEN, "open"),
        (SURGE, "suspended"),
        (Signups(state="suspended", cohorts=("beta",)), "suspended but for cohort beta"),
        (Signups(state="suspended", share=0.025), "suspended but for 2.5% of those who ask"),
        (
            Signups(state="suspended", cohorts=("beta", "staff"), share=0.1),
            "suspended but for cohorts beta, staff and 10% of those who ask",
        ),
    ],
)
def test_how_sign_ups_stand_is_said_in_words(signups: Signups, words: str) -> None:
    assert tell_signups(signups) == words


# --- what is refused ---


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (
            suspend(" "),
            "reason: got nothing, expected why. Say it; whoever is refused is shown it.",
        ),
        (
            suspend("x" * (LONGEST_REASON + 1)),
            "reason: got 201 characters, expected at most 200. Say it shorter.",
        ),
        (
            suspend(cohorts=("beta",)),
            (
                'cohort: got "beta", expected none, as suspending is for everybody outside. '
                "Suspend first, then reopen."
            ),
        ),
        (
            suspend(share=0.1),
            (
                "share: got 10%, expected none, as suspending is for everybody outside. "
                "Suspend first, then reopen."
            ),
        ),
        (
            reopen("beta,staff"),
            (
                'cohort: got "beta,staff", expected one name without commas. '
                "Name each cohort by itself."
            ),
        ),
        (
            reopen("beta", share=0.0),
            (
                'share: got 0%, expected more than 0%. Write the share to let in, such as "10%", '
                "or suspend."
            ),
        ),
    ],
)
def test_a_mistake_says_what_was_found_expected_and_to_be_done(
    order: SignupsOrder, message: str
) -> None:
    assert find_mistake(order) == message


def test_what_is_well_said_is_no_mistake() -> None:
    for order in (suspend(), reopen(), reopen("beta"), reopen("beta", share=1.0, reason="calm")):
        assert find_mistake(order) is None


def test_some_are_let_in_only_where_sign_ups_are_suspended_and_never_fewer_than_before() -> None:
    assert find_conflict("image", OPEN, reopen("beta")) == (
        'feature "image": sign-ups are open for all, expected them suspended. There is nothing to '
        "reopen; suspend them first to let in some only."
    )
    assert find_conflict("image", REOPENING, reopen(share=0.05)) == (
        'feature "image": share: got 5%, expected at least 10%, which is let in. Write more, or '
        "suspend first to let in fewer."
    )
    for held in (OPEN, SURGE, REOPENING):
        for order in (suspend(), reopen(), reopen(share=1.0)):
            assert find_conflict("image", held, order) is None
    assert find_conflict("image", REOPENING, reopen("staff", share=0.1)) is None


# --- what it means to those who ask ---


@st.composite
def heard_snapshots(draw: st.DrawFn) -> Snapshot:
    """A feature that some are exposed to, and a gate that the law could have derived, both heard.

    What is not heard closes sign-ups by itself, and would hide what an order does.
    """
    tiers = draw(tier_policies())
    part = intent({"image": feature(exposure={tier: draw(shares) for tier in tiers})}, tiers=tiers)
    ceilings = derive_ceilings(draw(st.floats(0.0, len(tiers))), tiers)
    return snapshot(part, gate(ceilings))


def having(given_snapshot: Snapshot, signups: Signups) -> Snapshot:
    part = given_snapshot.intent
    assert part is not None
    changed = {"image": part.features["image"].model_copy(update={"signups": signups})}
    return given_snapshot.model_copy(
        update={"intent": part.model_copy(update={"features": changed})}
    )


def answers(given_snapshot: Snapshot, asks: Asks = Asks.SIGNUP) -> list[Outcome]:
    """Ask for people of each tier, in no cohort and in each."""
    assert given_snapshot.intent is not None
    decider = Decider(given_snapshot)
    said = [{}, *({"cohorts": [cohort]} for cohort in COHORTS)]
    return [
        decider.answer(Question("image", f"user-{n}", tier, "api", said[n % len(said)], asks), NOW)
        for tier in given_snapshot.intent.tiers
        for n in range(40)
    ]


@given(heard_snapshots(), held_signups, reopenings)
def test_reopening_shuts_out_nobody_who_could_come_in(
    given_snapshot: Snapshot, held: Signups, order: SignupsOrder
) -> None:
    assume(find_conflict("image", held, order) is None)
    before = answers(having(given_snapshot, held))
    after = answers(having(given_snapshot, after_order(held, order)))
    assert all(now.allowed for was, now in zip(before, after, strict=True) if was.allowed)


@given(held_signups, orders)
def test_whoever_is_newly_let_in_is_let_in_by_an_order_that_widens(
    held: Signups, order: SignupsOrder
) -> None:
    after = after_order(held, order)
    was, now = (answers(having(snapshot(), signups)) for signups in (held, after))
    newly = [b for a, b in zip(was, now, strict=True) if b.allowed and not a.allowed]
    assert widens(held, after) or not newly


@given(held_signups)
def test_an_order_that_changes_nothing_or_suspends_does_not_widen(held: Signups) -> None:
    assert not widens(held, held)
    assert not widens(held, after_order(held, suspend()))


@given(heard_snapshots(), held_signups)
def test_nobody_inside_notices_how_sign_ups_stand(given_snapshot: Snapshot, held: Signups) -> None:
    was, now = (answers(having(given_snapshot, s), Asks.USE) for s in (OPEN, held))
    assert was == now


@given(heard_snapshots())
def test_a_suspended_sign_up_has_its_own_code_whatever_the_gate_would_do(
    given_snapshot: Snapshot,
) -> None:
    suspended = having(given_snapshot, SURGE)
    inside, outside = answers(suspended, Asks.USE), answers(suspended)
    for used, asked in zip(inside, outside, strict=True):
        if used.allowed or used.code is Code.GATE_SHED:
            assert asked.code is Code.SIGNUPS_SUSPENDED
            assert asked.counted_under == (used.pool, used.tier, "signups-suspended")
            assert asked.reason == "sign-ups for image are suspended: a surge"
            assert asked.retry_after_s is None
        else:
            assert asked == used
