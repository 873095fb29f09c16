"""A pool's queue as a fluid: work flows in and out at rates, and what is left over waits."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time over which a pool serves at one rate, in seconds and requests a second."""

    length_s: float
    service_rps: float


@dataclass(frozen=True, slots=True)
class Flow:
    """What went through a pool over some time, in requests: arrived + before = served + backlog."""

    arrived: float
    served: float
    backlog: float
    wait_s: float | None
    """Mean queue wait of those served, None where nobody was."""
    busy: float
    """Share of the service that was used, 0 to 1; 0 where there was none."""


IDLE: Final = Flow(arrived=0.0, served=0.0, backlog=0.0, wait_s=None, busy=0.0)
"""Nothing came and nothing waits."""


def flow(backlog: float, arrival_rps: float, spans: Iterable[Span]) -> Flow:
    """Let requests arrive at one rate and be served, first come, first served.

    The wait is by Little's law: the area under the backlog over the requests served.
    """
    arrived = served = served_at_most = area = 0.0
    for span in spans:
        through = _through(backlog, arrival_rps, span)
        arrived += arrival_rps * span.length_s
        served_at_most += span.service_rps * span.length_s
        served += through.served
        area += through.area
        backlog = through.backlog
    return Flow(
        arrived=arrived,
        served=served,
        backlog=backlog,
        wait_s=area / served if served > 0.0 else None,
        busy=min(1.0, served / served_at_most) if served_at_most > 0.0 else 0.0,
    )


class _Through(NamedTuple):
    served: float
    backlog: float
    area: float
    """Under the backlog, in request-seconds."""


def _through(backlog: float, arrival_rps: float, span: Span) -> _Through:
    growth_rps = arrival_rps - span.service_rps
    left = backlog + growth_rps * span.length_s
    if left >= 0.0:
        # Not from the difference of the backlogs: its rounding would be a service out of nothing.
        return _Through(
            span.service_rps * span.length_s, left, span.length_s * (backlog + left) / 2.0
        )
    emptied_after_s = backlog / -growth_rps
    served = backlog + arrival_rps * span.length_s
    return _Through(served, 0.0, emptied_after_s * backlog / 2.0)
