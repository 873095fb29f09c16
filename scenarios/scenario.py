"""A scenario as it is written: a story with its own clock, and what must hold at its end."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

import yaml
from pydantic import AwareDatetime, Field, ValidationError, model_validator

from tidegate.catalogue import Name, Spec
from tidegate.errors import PlanError
from tidegate.quantities import Duration, Share

FOLDER: Final = Path(__file__).parent


class Clock(Spec):
    """The story's own time, and how much faster than ours it runs."""

    starts_at: AwareDatetime
    ends_at: AwareDatetime
    speed: float = Field(gt=0.0)

    @property
    def length_s(self) -> float:
        """How long it takes to play, in real seconds."""
        return (self.ends_at - self.starts_at).total_seconds() / self.speed

    def real_s(self, instant: AwareDatetime) -> float:
        """Return how many real seconds after the start an instant of the story comes."""
        return (instant - self.starts_at).total_seconds() / self.speed

    def story_at(self, real_s: float) -> AwareDatetime:
        """Return the instant of the story that is played `real_s` after the start."""
        return self.starts_at + timedelta(seconds=real_s * self.speed)


class StoryClock:
    """Turns instants of ours into the story's, once `started_at` is set (seconds, epoch)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.started_at = 0.0

    def __call__(self, at: float) -> datetime:
        """Return the story's time; its beginning, as long as it has not started."""
        played_s = at - self.started_at if self.started_at else 0.0
        return self._clock.story_at(played_s)


class LaunchSpec(Spec):
    """From `at` on, demand is `factor` times what it was."""

    at: AwareDatetime
    factor: float = Field(ge=1.0)


class DemandSpec(Spec):
    """Who asks, and how much more than expected."""

    tiers: dict[Name, Share]
    launch: LaunchSpec
    max_rps: float = Field(gt=0.0, description="What the machine that plays it can serve.")
    seed: int = 1


class LocalPoolTerms(Spec):
    """What one local replica is."""

    name: Name
    slots: int = Field(ge=1)
    service: Duration = Field(description="Of a request of work 1, on its own.")


class ArrivalInFact(Spec):
    """GPUs that really come, whatever the plan says."""

    at: AwareDatetime
    gpus: float = Field(description="The share of the forecast that they serve.")


class SupplySpec(Spec):
    """GPUs, as shares of the forecast demand that they serve."""

    installed: float
    arrivals: tuple[ArrivalInFact, ...] = ()


class Command(Spec):
    """What a person types; PLAN stands for the plan's file."""

    at: AwareDatetime
    run: str


class ScenarioSpec(Spec):
    """A whole story."""

    title: str
    clock: Clock
    plan: str
    rollout: Name
    demand: DemandSpec
    pool: LocalPoolTerms
    supply: SupplySpec
    commands: tuple[Command, ...]
    holds: tuple[str | dict[str, str | list[str]], ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _read_supply_shares(cls, given: Any) -> Any:  # noqa: ANN401 - as YAML gives it
        supply = given.get("supply", {}) if isinstance(given, dict) else {}
        for holder in (supply, *supply.get("arrivals", ())):
            for key in ("installed", "gpus"):
                if isinstance(holder.get(key), str):
                    holder[key] = float(holder[key].removesuffix("%")) / 100.0
        return given

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Self:
        if self.clock.ends_at <= self.clock.starts_at:
            raise ValueError('expected "endsAt" to be later than "startsAt"')
        return self


def load_scenario(name: str) -> ScenarioSpec:
    """Read a scenario by its name; raises PlanError with every mistake."""
    path = FOLDER / f"{name}.yaml"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml") if "-plan" not in p.stem))
        message = f'scenario "{name}": there is no {path.name}. There is {known}.'
        raise PlanError(message, code="scenario")
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        return ScenarioSpec.model_validate(document["spec"])
    except ValidationError as error:
        mistakes = [
            f"{path.name}: spec.{'.'.join(map(str, e['loc']))}: got {e['input']!r}, {e['msg']}"
            for e in error.errors()
        ]
        raise PlanError("\n".join(mistakes), code="scenario", mistakes=mistakes) from error
