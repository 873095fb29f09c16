"""The waitlist's law: in order, by tier, nobody starved, nobody called twice, ghosts replaced."""

import math
from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from tests.tidegate.snapshots import NOW, TIERS
from tidegate.rules.waiting import Standing, place_of
from tidegate.rules.waitlist import (
    Seen,
    Stop,
    called_until,
    lanes_of,
    shares,
    skip_to,
    step,
)
from tidegate.snapshot import (
    Lane,
    TierPolicy,
    WaitlistIntent,
    WaitlistPart,
)

PACE = WaitlistIntent(calls_per_s=2.0, claim_window_s=60.0)
OPEN = {"plus": 1.0, "free": 1.0}
SHUT = Stop("shut", by_people=False)
Ceilings = Mapping[str, float]


def empty(at: float = NOW) -> WaitlistPart:
    return WaitlistPart(feature="image", version=1, issued_at=at, expires_at=at, lanes={})


def run(
    part: WaitlistPart,
    issued: Mapping[str, int],
    seconds: int,
    gate_is: Ceilings | Stop | None = None,
    came: float = 0.0,
) -> WaitlistPart:
    """Step once a second; of those called, a share comes a second later."""
    came_so_far = {tier: part.lanes.get(tier, Lane()).called_below for tier in issued}
    for _ in range(seconds):
        seen = {}
        for tier, below in issued.items():
            called = part.lanes.get(tier, Lane()).called_below
            new = math.floor(called * came) - math.floor(came_so_far[tier] * came)
            came_so_far[tier] = called
            seen[tier] = Seen(below, new)
        gate_now: Ceilings | Stop = dict.fromkeys(issued, 1.0) if gate_is is None else gate_is
        part = step(part, seen, PACE, gate_now, part.issued_at + 1.0)
    return part


def called(part: WaitlistPart) -> dict[str, int]:
    return {tier: lane.called_below for tier, lane in part.lanes.items()}


def near(counted: Mapping[str, int], meant: Mapping[str, int]) -> bool:
    """Say whether counts are as meant; a call that is due in parts may come a tick later."""
    return all(meant[tier] - 1 <= count <= meant[tier] for tier, count in counted.items())


# --- who is called ---


def test_numbers_are_called_in_order_at_the_pace_that_is_meant() -> None:
    assert called(run(empty(), {"free": 1000}, 30)) == {"free": 60}


def test_a_better_tier_is_called_twice_as_fast_and_the_lowest_is_not_starved() -> None:
    part = run(empty(), {"plus": 10_000, "free": 10_000}, 300, came=1.0)
    assert near(called(part), {"plus": 400, "free": 200})


def test_what_a_lane_does_not_need_goes_to_the_others() -> None:
    part = run(empty(), {"plus": 5, "free": 1000}, 60, came=1.0)
    assert near(called(part), {"plus": 5, "free": 115})


def test_nobody_is_called_while_the_gate_is_shut_and_no_calls_are_saved_up() -> None:
    shut = run(empty(), {"free": 1000}, 600, SHUT)
    assert called(shut) == {"free": 0}
    assert called(run(shut, {"free": 1000}, 10)) == {"free": 20}


def test_a_lane_moves_as_far_as_the_gate_lets_its_tier_in() -> None:
    part = run(empty(), {"plus": 1000, "free": 1000}, 60, {"plus": 1.0, "free": 0.0}, 1.0)
    assert near(called(part), {"plus": 120, "free": 0})
    half = run(empty(), {"free": 1000}, 60, {"free": 0.5}, 1.0)
    assert called(half) == {"free": 60}


def test_a_controller_that_was_away_does_not_call_for_the_time_that_it_missed() -> None:
    part = run(empty(), {"free": 1000}, 1)
    later = step(part, {"free": Seen(1000, 2)}, PACE, OPEN, part.issued_at + 3600.0)
    assert called(later)["free"] == 2 + 5 * 2


def test_a_clock_that_was_set_back_calls_nobody_and_takes_nothing_back() -> None:
    part = run(empty(), {"free": 1000}, 10)
    back = step(part, {"free": Seen(1000)}, PACE, OPEN, part.issued_at - 100.0)
    assert called(back) == called(part)


def test_what_a_lane_does_not_take_of_a_tick_is_neither_lost_nor_saved_up() -> None:
    fast = WaitlistIntent(calls_per_s=20.0, claim_window_s=60.0)
    part = empty()
    for plus in range(1, 51):  # one a second, where the lane might be called thirteen times
        seen = {
            "plus": Seen(plus, part.lanes.get("plus", Lane()).called_below and 1),
            "free": Seen(100_000, 19),
        }
        part = step(part, seen, fast, OPEN, part.issued_at + 1.0)
    assert called(part)["plus"] == 50
    assert called(part)["free"] >= 19 * 50 - 2
    assert part.lanes["plus"].credit < 1.0


def test_those_who_did_not_come_are_not_saved_up_while_the_gate_is_shut() -> None:
    part = run(empty(), {"free": 100_000}, 60)
    shut = run(part, {"free": 100_000}, 120, SHUT)
    before = called(shut)["free"]
    assert called(run(shut, {"free": 100_000}, 1))["free"] <= before + 2
    ajar = run(shut, {"free": 100_000}, 100, {"free": 0.01})
    assert called(ajar)["free"] <= before + 2 * 4


def test_one_who_comes_again_and_again_does_not_stand_for_more_than_were_called() -> None:
    part = run(empty(), {"free": 1000}, 10)
    many = step(part, {"free": Seen(1000, 100_000)}, PACE, OPEN, part.issued_at + 1.0)
    assert many.lanes["free"].came <= called(many)["free"]


def test_a_shorter_claim_window_takes_nothing_back_that_was_promised() -> None:
    part = run(empty(), {"free": 1000}, 10)
    promised = called_until(part, "free", 0)
    shorter = WaitlistIntent(calls_per_s=2.0, claim_window_s=5.0)
    later = step(part, {"free": Seen(1000)}, shorter, OPEN, part.issued_at + 10.0)
    assert called_until(later, "free", 0) == promised
    assert place_of(later, "free", 0, later.issued_at).standing is Standing.CALLED


def test_more_is_never_called_than_was_given_out() -> None:
    assert called(run(empty(), {"free": 7}, 600)) == {"free": 7}


# --- claim windows ---


def test_a_call_is_over_when_its_window_is_and_not_before() -> None:
    part = run(empty(), {"free": 1000}, 10)
    assert place_of(part, "free", 0, NOW + 1.0).standing is Standing.CALLED
    until = called_until(part, "free", 0)
    assert NOW + 61.0 <= until <= NOW + 63.0
    later = run(part, {"free": 1000}, 120)
    assert place_of(later, "free", 0, later.issued_at).standing is Standing.EXPIRED
    assert later.lanes["free"].expired_below > 0


def test_a_gateway_that_hears_nothing_more_lets_a_call_end_by_itself() -> None:
    part = run(empty(), {"free": 1000}, 10)
    until = called_until(part, "free", 3)
    assert place_of(part, "free", 3, until - 0.1).standing is Standing.CALLED
    assert place_of(part, "free", 3, until).standing is Standing.EXPIRED


def test_whoever_does_not_come_leaves_the_place_to_another() -> None:
    everybody = run(empty(), {"free": 100_000}, 1200, came=1.0)
    nobody = run(empty(), {"free": 100_000}, 1200)
    half = run(empty(), {"free": 100_000}, 1200, came=0.5)
    assert called(everybody)["free"] == 2400
    # Nobody comes: in their place others, and never more than four for one that is due.
    assert 3 * 2400 < called(nobody)["free"] <= 4 * 2400
    # Half of those called come, so that twice as many are called, and the pace is what arrives.
    late = run(half, {"free": 100_000}, 600, came=0.5)
    arrived_per_s = 0.5 * (called(late)["free"] - called(half)["free"]) / 600
    assert abs(arrived_per_s - PACE.calls_per_s) < 0.25 * PACE.calls_per_s


def test_moves_are_remembered_for_a_window_and_no_longer() -> None:
    part = run(empty(), {"free": 100_000}, 1000, came=1.0)
    assert all(at > part.issued_at - PACE.claim_window_s for at, _ in part.moves)
    assert len(part.moves) <= 130


# --- numbers that were skipped ---


def test_a_gap_costs_no_calls_and_counts_as_nobody() -> None:
    lane = skip_to(Lane(issued_below=20), 10_000)
    assert (lane.issued_below, lane.gaps, lane.waiting) == (10_000, ((20, 10_000),), 20)
    part = empty().model_copy(update={"lanes": {"free": lane}})
    assert place_of(part, "free", 10_004, NOW).ahead == 24
    moved = run(part, {"free": 10_100}, 15)
    assert called(moved) == {"free": 10_010}
    assert moved.lanes["free"].waiting == 90


def test_nothing_is_skipped_where_nothing_was_lost() -> None:
    assert skip_to(Lane(issued_below=20), 20) == Lane(issued_below=20)
    assert skip_to(Lane(issued_below=20), 5) == Lane(issued_below=20)


# --- whether anybody may be called ---


def test_only_gated_tiers_have_a_lane_the_best_ranked_first() -> None:
    tiers = {**TIERS, "guest": TierPolicy(rank=9, gated=True)}
    assert lanes_of(tiers) == ("free", "guest")


# --- whatever happens ---

ticks = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(["plus", "free"]), st.integers(0, 50), max_size=2),
        st.dictionaries(st.sampled_from(["plus", "free"]), st.integers(0, 9), max_size=2),
        st.one_of(
            st.just(SHUT),
            st.fixed_dictionaries({"plus": st.floats(0.0, 1.0), "free": st.floats(0.0, 1.0)}),
        ),
        st.floats(-30.0, 120.0),
    ),
    max_size=40,
)


@given(ticks)
def test_whatever_happens_lanes_only_move_on_and_nobody_is_called_before_joining(
    moves: Sequence[tuple[Mapping[str, int], Mapping[str, int], Ceilings | Stop, float]],
) -> None:
    part = empty()
    issued = {"plus": 0, "free": 0}
    earned = 0.0
    for joined, came, gate_is, dt_s in moves:
        issued = {tier: below + joined.get(tier, 0) for tier, below in issued.items()}
        seen = {tier: Seen(below, came.get(tier, 0)) for tier, below in issued.items()}
        before, part = part, step(part, seen, PACE, gate_is, part.issued_at + dt_s)
        earned += PACE.calls_per_s * min(max(0.0, dt_s), 5.0)
        for tier, lane in part.lanes.items():
            held = before.lanes.get(tier, Lane())
            assert held.called_below <= lane.called_below <= lane.issued_below == issued[tier]
            assert held.expired_below <= lane.expired_below <= lane.called_below
            if isinstance(gate_is, Stop):
                assert lane.called_below == held.called_below
    expired = sum(lane.expired_below for lane in part.lanes.values())
    # Never more than the pace and those who did not come leave room for.
    assert sum(called(part).values()) <= min(earned + expired, 4 * earned) + 2
    again = WaitlistPart.model_validate_json(part.model_dump_json())
    assert again == part


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 3), min_size=1))
def test_the_pace_is_dealt_whole_and_a_better_tier_never_gets_less(waiting: dict[str, int]) -> None:
    ordered = dict(sorted(waiting.items()))
    dealt = shares(ordered)
    assert set(dealt) == {tier for tier, count in ordered.items() if count}
    assert not dealt or math.isclose(sum(dealt.values()), 1.0)
    assert list(dealt.values()) == sorted(dealt.values(), reverse=True)
    assert all(share > 0.0 for share in dealt.values())
