"""Versions from a hybrid clock: no reader ever sees one go back."""

from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import NOW_S, gate_part, tiers
from tidegate.snapshot import INTENT, Snapshot, TierPolicy, next_version
from tidegate.snapshot import gate_part as part_name

seconds = st.floats(0.0, 4e9)
versions = st.integers(0, 2**53)


@given(now=seconds, seen=versions)
def test_a_version_is_above_any_seen_and_no_older_than_now(now: float, seen: int) -> None:
    version = next_version(now, seen)
    assert version > seen
    assert version >= int(now * 1000)


@given(now=seconds, seen=versions, later=st.floats(0.0, 1e6))
def test_a_version_given_later_is_never_below_one_given_before(
    now: float, seen: int, later: float
) -> None:
    assert next_version(now + later, seen) >= next_version(now, seen)


@given(ticks=st.lists(seconds, max_size=20))
def test_versions_rise_through_a_clock_that_jumps_back(ticks: list[float]) -> None:
    seen = 0
    for now in ticks:
        version = next_version(now, seen)
        assert version > seen
        seen = version


def test_a_writer_that_starts_anew_goes_on_above_an_echo_from_the_future() -> None:
    ahead = int((NOW_S + 3600.0) * 1000)
    assert next_version(NOW_S, ahead) == ahead + 1
    assert next_version(NOW_S, 0) == int(NOW_S * 1000)


@given(tiers)
def test_a_snapshot_tells_the_version_it_holds_of_each_part(
    policies: dict[str, TierPolicy],
) -> None:
    held = Snapshot(gates={"image": gate_part(0.0, policies, version=9)})
    assert held.versions() == {part_name("image"): 9}
    assert INTENT not in held.versions()
