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
