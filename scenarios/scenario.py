"""A scenario as it is written: a story with its own clock, and what must hold at its end."""

import re
import shlex
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from scenarios.assertions import ALL
from tidegate.documents import read_documents
from tidegate.errors import PlanError
from tidegate.events import Event
from tidegate.manifests import Manifest
from tidegate.mistakes import describe, nearest
from tidegate.quantities import AS_WRITTEN, Duration, Instant, Share
from tidegate.spec import Name, Spec

FOLDER: Final = Path(__file__).parent
_PERCENT: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")


def parse_forecast_share(text: object) -> float:
    """Read a share of the forecast such as `150%`, which may be more than all of it.

    Raises ValueError on anything else.
    """
    match = _PERCENT.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError('expected a share of the forecast. Write it like "150%"')
    return float(match[1]) / 100.0


def _known_assertion(entry: str | dict[str, str | list[str]]) -> str | dict[str, str | list[str]]:
    names = [entry] if isinstance(entry, str) else list(entry)
    for name in names:
        if name not in ALL:
            near = nearest(name, ALL)
            hint = f'Write "{near}"' if near else f"Choose one of {', '.join(ALL)}"
            raise ValueError(f"expected an assertion. {hint}")
    if len(names) != 1:
        raise ValueError("expected one assertion an item. Start each with a dash of its own")
    return entry


ForecastShare = Annotated[float, BeforeValidator(parse_forecast_share)]
"""A share of the forecast demand, or the GPUs that serve it; in scenarios `150%`."""

Hold = Annotated[str | dict[str, str | list[str]], AfterValidator(_known_assertion)]
"""What must hold: an assertion's name, or its name and what it is about."""


class Clock(Spec):
    """The story's own time, and how much faster than ours it runs."""

    starts_at: Instant
    ends_at: Instant
    speed: float = Field(gt=0.0, allow_inf_nan=False)

    @property
    def length_s(self) -> float:
        """How long it takes to play, in real seconds."""
        return (self.ends_at - self.starts_at).total_seconds() / self.speed

    def real_s(self, instant: datetime) -> float:
        """Return how many real seconds after the start an instant of the story comes."""
        return (instant - self.starts_at).total_seconds() / self.speed

    def story_at(self, real_s: float) -> datetime:
        """Return the instant of the story that is played `real_s` after the start."""
        return self.starts_at + timedelta(seconds=real_s * self.speed)

    @field_validator("ends_at")
    @classmethod
    def _in_order(cls, ends_at: datetime, info: ValidationInfo) -> datetime:
        starts_at = info.data.get("starts_at")
        if starts_at is not None and ends_at <= starts_at:
            expected = f'expected later than "startsAt", which is {starts_at.isoformat()}'
            raise ValueError(f"{expected}. Swap the two")
        return ends_at


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

    at: Instant
    factor: float = Field(ge=1.0, allow_inf_nan=False)


class DemandSpec(Spec):
    """Who asks, and how much more than expected."""

    tiers: dict[Name, Share]
    launch: LaunchSpec
    max_rps: float = Field(
        gt=0.0, allow_inf_nan=False, description="What the machine that plays it can serve."
    )
    seed: int = 1


class LocalPoolTerms(Spec):
    """What one local replica is."""

    name: Name
    slots: int = Field(ge=1)
    service: Duration = Field(description="Of a request of work 1, on its own.")


class ArrivalInFact(Spec):
    """GPUs that really come, whatever the plan says."""

    at: Instant
    gpus: ForecastShare = Field(description="The share of the forecast that they serve.")


class SupplySpec(Spec):
    """GPUs, as shares of the forecast demand that they serve."""

    installed: ForecastShare
    arrivals: tuple[ArrivalInFact, ...] = ()


class Command(Spec):
    """What a person types; PLAN stands for the plan's file, others go by their name."""

    at: Instant
    run: str


class ScenarioSpec(Spec):
    """A whole story."""

    title: str
    clock: Clock
    plan: str
    feature: Name = Field(description="What those who ask want to use.")
    ends_with: tuple[str, ...] = Field(
        min_length=1,
        description="Events after which nothing is left to tell: a type each, and a subject.",
    )
    demand: DemandSpec
    pools: tuple[LocalPoolTerms, ...] = Field(min_length=1)
    supply: SupplySpec
    commands: tuple[Command, ...]
    holds: tuple[Hold, ...] = Field(min_length=1)

    @property
    def plans(self) -> tuple[str, ...]:
        """The files that the commands apply, the plan first."""
        words = (word for command in self.commands for word in shlex.split(command.run))
        named = (word for word in words if word.endswith("-plan.yaml"))
        return tuple(dict.fromkeys([self.plan, *named]))

    def words(self, command: Command, folder: Path) -> list[str]:
        """Return what is typed after `tidegate`, where the plans lie in a folder."""
        files = {"PLAN": self.plan, **{name: name for name in self.plans}}
        split = shlex.split(command.run)
        return [str(folder / files[word]) if word in files else word for word in split]

    def has_ended(self, told: Iterable[Event]) -> bool:
        """Say whether nothing is left to tell after these events."""
        seen = {name for e in told for name in (e.type, f"{e.type} {e.subject}")}
        return seen.issuperset(self.ends_with)


def load_scenario(name: str) -> ScenarioSpec:
    """Read a scenario by its name; raises PlanError with every mistake."""
    path = FOLDER / f"{name}.yaml"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml") if "-plan" not in p.stem))
        message = f'scenario "{name}": there is no {path.name}. There is {known}.'
        raise PlanError(message, code="scenario")
    documents = read_documents(path.read_text(encoding="utf-8"), where=path.name)
    kinds = [d.get("kind") if isinstance(d, dict) else None for d in documents]
    if kinds != ["Scenario"]:
        expected = "expected one manifest of kind Scenario. Choose another file, or mend it."
        message = f"{path.name}: got {', '.join(map(str, kinds)) or 'nothing'}, {expected}"
        raise PlanError(message, code="scenario")
    model = Manifest[ScenarioSpec]
    try:
        return model.model_validate(documents[0], context=AS_WRITTEN).spec
    except ValidationError as error:
        mistakes = [f"{path.name}: {line}" for line in describe(error, model)]
        raise PlanError("\n".join(mistakes), code="scenario", mistakes=mistakes) from error
