"""Playing demand on a small stage: a trace gives the shape, thinned to what can be served."""

import math
from dataclasses import dataclass

from tidegate.errors import PlanError
from tidegate.shapes import Shape
from tidegate.traces import Trace, Window


@dataclass(frozen=True)
class Played:
    """A part of a trace as it is played: what to tell people, and what `Demand` needs of it.

    `window` is in the trace's time; the rest is in played time, `speed` times as fast.
    `forecast_rps` is the mean of the played window after thinning, before any launch;
    `kept` is the share of the requests that thinning leaves.
    """

    trace: str
    window: Window
    speed: float
    length_s: float
    kept: float
    forecast_rps: float
    cv: float
    work_sigma: float | None
    shape: Shape


def forecast_within(max_rps: float, shape: Shape, *, factor: float) -> float:
    """Return the largest forecast whose peak under a launch factor stays within `max_rps`."""
    return max_rps / (shape.peak * factor)


def thin(trace: Trace, *, max_rps: float, length_s: float, factor: float, speed: float) -> Played:
    """Choose a trace's busiest window, as long as is played, and thin it to the stage.

    The window is `length_s` x speed long, at `speed` or, where the trace is too short for it,
    at trace span / `length_s`. Thinning makes forecast x `factor` x the shape's peak at most
    `max_rps`, and never adds requests. Raises PlanError (code `demand`) on a figure of 0 or less.
    """
    given = {"max_rps": max_rps, "length_s": length_s, "factor": factor, "speed": speed}
    wrong = [
        f"demand.{name}: got {value}, expected more than 0. Write it so in the scenario."
        for name, value in given.items()
        if not 0.0 < value < math.inf
    ]
    if wrong:
        raise PlanError("\n".join(wrong), code="demand", mistakes=wrong)
    real_speed = min(speed, trace.span_s / length_s)
    window = trace.busiest_window(length_s * real_speed)
    shape = trace.shape(window, speed=real_speed)
    whole_rps = trace.mean_rps(window.from_s, window.to_s) * real_speed
    forecast_rps = min(whole_rps, forecast_within(max_rps, shape, factor=factor))
    kept = forecast_rps / whole_rps
    return Played(
        trace=trace.name,
        window=window,
        speed=real_speed,
        length_s=length_s,
        kept=kept,
        forecast_rps=forecast_rps,
        cv=_thinned_cv(trace.cv(window), kept),
        work_sigma=trace.work_sigma,
        shape=shape,
    )


def _thinned_cv(cv: float, kept: float) -> float:
    """Keep each request with probability p: the counts' dispersion I becomes 1 + p (I - 1)."""
    return math.sqrt(1.0 + kept * (cv**2 - 1.0))
