"""The queue as a fluid: nothing is lost, nothing is served twice, and nobody serves for nothing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehearsal.fluid import Span, flow

rates = st.floats(0.0, 1e4)
spans = st.lists(st.builds(Span, length_s=st.floats(0.0, 1e4), service_rps=rates), max_size=5)


@given(backlog=st.floats(0.0, 1e6), arrival_rps=rates, spans=spans)
def test_what_came_is_served_or_waits(
    backlog: float, arrival_rps: float, spans: list[Span]
) -> None:
    seen = flow(backlog, arrival_rps, spans)
    assert math.isclose(
        backlog + seen.arrived, seen.served + seen.backlog, rel_tol=1e-9, abs_tol=1e-6
    )
    assert seen.backlog >= 0.0
    assert 0.0 <= seen.busy <= 1.0


@given(backlog=st.floats(0.0, 1e6), arrival_rps=rates, spans=spans)
def test_no_more_is_served_than_replicas_can(
    backlog: float, arrival_rps: float, spans: list[Span]
) -> None:
    at_most = sum(span.length_s * span.service_rps for span in spans)
    assert flow(backlog, arrival_rps, spans).served <= at_most * (1.0 + 1e-9) + 1e-6


@given(backlog=st.floats(0.0, 1e6), arrival_rps=rates, length_s=st.floats(0.0, 1e4))
def test_without_service_nobody_is_served_and_no_wait_is_known(
    backlog: float, arrival_rps: float, length_s: float
) -> None:
    seen = flow(backlog, arrival_rps, [Span(length_s, 0.0)])
    assert (seen.served, seen.wait_s, seen.busy) == (0.0, None, 0.0)


def test_below_capacity_nobody_waits_and_the_rest_is_idle() -> None:
    seen = flow(0.0, 3.0, [Span(10.0, 4.0)])
    assert (seen.served, seen.backlog, seen.wait_s, seen.busy) == (30.0, 0.0, 0.0, 0.75)


def test_a_backlog_that_is_worked_off_waits_as_its_area_over_those_served() -> None:
    # 20 wait, 2 more leave each second than come: empty after 10 s of 20.
    seen = flow(20.0, 2.0, [Span(20.0, 4.0)])
    assert seen.backlog == 0.0
    assert seen.served == 60.0
    assert seen.wait_s == pytest.approx(20.0 * 10.0 / 2.0 / 60.0)


def test_an_overload_leaves_what_it_could_not_serve() -> None:
    seen = flow(5.0, 6.0, [Span(10.0, 4.0)])
    assert (seen.served, seen.backlog, seen.busy) == (40.0, 25.0, 1.0)


def test_a_replica_that_comes_midway_serves_from_then_on() -> None:
    seen = flow(0.0, 4.0, [Span(5.0, 0.0), Span(5.0, 4.0)])
    assert (seen.served, seen.backlog) == (20.0, 20.0)
