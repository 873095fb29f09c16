"""The fluid model of the replay agrees with the same engines run event by event."""

import pytest

from benchmarks.replay.events import EventRun, draw_requests
from benchmarks.replay.fleet import Fleet
from benchmarks.replay.fluid import Seen, run_fluid
from benchmarks.replay.scoring import score
from tests.benchmarks.traces import a_day


class Still:
    """So many replicas, always."""

    def __init__(self, replicas: int) -> None:
        self._replicas = replicas

    def size(self, _: Seen) -> int:
        return self._replicas


@pytest.mark.parametrize(
    "rates_rps",
    [[50.0, 60.0, 50.0], [50.0, 66.0, 72.0, 60.0], [50.0, 78.0, 40.0]],
    ids=["below", "near", "above"],
)
def test_the_fluid_agrees_with_every_event_within_two_percent(rates_rps: list[float]) -> None:
    day = a_day(rates_rps)
    fleet = Fleet([30.0], bill_from_s=600.0)
    fleet.begin(20)
    fluid = score(day, run_fluid(day, fleet, Still(20), None, most=20)).attainment
    events = EventRun(20).run(draw_requests(day, seed=1))
    assert fluid == pytest.approx(events, abs=0.02)


class Narrowed:
    """A gate that stands at one share, or opens at half time."""

    retry_after_s = 60.0

    def __init__(self, share: float, *, opens_at_s: float) -> None:
        self._share = share
        self._opens_at_s = opens_at_s

    def ceiling(self, seen: Seen) -> float:
        return self._share if seen.now < self._opens_at_s else 1.0


@pytest.mark.parametrize(("opens_at_s", "came_back"), [(9999.0, 0.0), (900.0, 1.0)])
def test_who_was_refused_gets_in_only_where_the_ceiling_has_risen(
    opens_at_s: float, came_back: float
) -> None:
    day = a_day([50.0, 50.0, 50.0])
    fleet = Fleet([30.0], bill_from_s=600.0)
    fleet.begin(20)
    course = run_fluid(day, fleet, Still(20), Narrowed(0.5, opens_at_s=opens_at_s), most=20)
    last_minute = 0.5 * 35.0 * 60.0
    assert course.came_back.sum() == pytest.approx(came_back * last_minute * 1.25, rel=0.1, abs=1.0)
