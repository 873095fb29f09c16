"""The demand of a scenario: generated, or a trace's shape, thinned to the machine that plays it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from scenarios.scenario import ScenarioSpec, load_scenario
from tidegate.demand import Arrival, Demand, Launch, arrivals
from tidegate.playing import forecast_within, thin
from tidegate.shapes import rising_day
from tidegate.traces import read_trace


@dataclass(frozen=True, slots=True)
class PlayedDemand:
    """A demand in real seconds, and what to tell people of where it comes from."""

    demand: Demand
    told: str


def play_demand(scenario: ScenarioSpec, trace: Path | None) -> PlayedDemand:
    """Build the demand of a scenario, from a trace where one is given; raises PlanError."""
    spec, clock = scenario.demand, scenario.clock
    launch = Launch(at_s=clock.real_s(spec.launch.at), factor=spec.launch.factor)
    if trace is None:
        shape = rising_day(clock.length_s, seed=spec.seed)
        forecast_rps = forecast_within(spec.max_rps, shape, factor=spec.launch.factor)
        told = f"generated, seed {spec.seed}, forecast {forecast_rps:.1f} requests/s"
        return PlayedDemand(
            Demand(forecast_rps, spec.tiers, shape=shape, launches=(launch,), work_sigma=0.6), told
        )
    played = thin(
        read_trace(trace),
        max_rps=spec.max_rps,
        length_s=clock.length_s,
        factor=spec.launch.factor,
        speed=clock.speed,
    )
    hours = (played.window.to_s - played.window.from_s) / 3600.0
    told = (
        f"{played.trace}, its busiest {hours:.1f} h at {played.speed:.0f} times its speed, "
        f"{played.kept:.2%} of its requests kept, forecast {played.forecast_rps:.1f} requests/s"
    )
    demand = Demand(
        played.forecast_rps,
        spec.tiers,
        shape=played.shape,
        launches=(launch,),
        cv=played.cv,
        work_sigma=0.6,
    )
    return PlayedDemand(demand, told)


class CrowdOrder(BaseModel):
    """What the crowd's process is told."""

    model_config = ConfigDict(frozen=True)

    scenario: str
    trace: Path | None
    gateway: str
    pool: str
    feature: str
    surface: str
    started_at: float
    until_s: float
    tally: Path


def crowd_arrivals(order: CrowdOrder) -> Iterator[Arrival]:
    """Draw the arrivals that the crowd sends; the same for the same order."""
    scenario = load_scenario(order.scenario)
    demand = play_demand(scenario, order.trace).demand
    return arrivals(demand, seed=scenario.demand.seed, from_s=0.0, until_s=order.until_s)
