"""What people want to happen: a rollout, stage by stage."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tidegate.audience import Segment
from tidegate.checks import CheckSpec
from tidegate.freezes import FreezeSpec, leaves_no_time
from tidegate.quantities import Duration, Instant, PositiveDuration, Share, format_share
from tidegate.spec import Name, Spec


class StepsSpec(Spec):
    """How a stage grows to its exposure: share by share, each watched for as long."""

    shares: tuple[Share, ...] = Field(min_length=1, description="From the smallest on.")
    each: PositiveDuration = Field(description="How long to watch each of them.")


class StageSpec(Spec):
    """One stage of exposure: to whom, how far, from when, and on which GPUs."""

    name: Name
    tiers: tuple[Name, ...] = Field(min_length=1)
    only: Segment | None = Field(default=None, description="A part of these tiers; by default all.")
    exposure: Share = Field(default=1.0, description="The share of these tiers reached.")
    steps: StepsSpec | None = Field(
        default=None, description="Smaller shares on the way to it; by default none."
    )
    starts_at: Instant | None = Field(
        default=None, description="Not before this instant; by default after the stage before."
    )
    approval: Name | None = Field(default=None, description="The role that must approve.")
    reserve: int = Field(default=0, ge=0, description="GPUs to be ready before it opens.")
    reserve_for: PositiveDuration | None = Field(
        default=None,
        description="It asks anew if it has not opened so long after it was granted them.",
    )
    bake: Duration = Field(description="How long to watch before the next stage.")
    checks: tuple[CheckSpec, ...] = Field(default=(), description="What must hold while it bakes.")
    looks: int = Field(
        default=5, ge=1, le=20, description="How often its checks are looked at in a bake."
    )

    @property
    def segment(self) -> Segment:
        """The part of its tiers that it opens for."""
        return self.only or Segment()

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares that it reaches, one after the other."""
        return (*(self.steps.shares if self.steps else ()), self.exposure)

    @property
    def measured(self) -> tuple[CheckSpec, ...]:
        """Its checks but for those that a person answers."""
        return tuple(check for check in self.checks if check.answer is None)

    def bake_of(self, step: int) -> timedelta:
        """Return how long its so-many-eth share is watched; the last for the stage's bake."""
        return self.steps.each if self.steps and step < len(self.steps.shares) else self.bake

    @field_validator("looks")
    @classmethod
    def _may_fail(cls, looks: int, info: ValidationInfo) -> int:
        for check in info.data.get("checks", ()):
            if check.answer is None and check.fails_after > looks:
                raise ValueError(
                    f'expected at least {check.fails_after}, the failsAfter of "{check.name}". '
                    "Raise it, or lower that"
                )
        return looks

    @field_validator("checks")
    @classmethod
    def _have_names(cls, checks: tuple[CheckSpec, ...]) -> tuple[CheckSpec, ...]:
        names = [check.name for check in checks]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'expected names of their own; "{name}" comes twice. Rename one')
        return checks

    @field_validator("steps")
    @classmethod
    def _grow(cls, steps: StepsSpec | None, info: ValidationInfo) -> StepsSpec | None:
        shares = [] if steps is None else [*steps.shares, info.data.get("exposure", 1.0)]
        for before, after in pairwise(shares):
            if after <= before:
                raise ValueError(
                    f"expected each share above the one before, and all below the exposure; "
                    f"{format_share(after)} comes after {format_share(before)}. Correct them"
                )
        return steps


class SupplySpec(Spec):
    """GPUs that are expected: as likely as not by `at`, nine times in ten by `latest`."""

    gpu_type: Name = Field(description="The Budget that they come to.")
    owner: str = Field(min_length=1, description="Whom to ask about them.")
    gpus: int = Field(ge=1, description="How many come.")
    at: Instant = Field(description="As likely as not they are there by then.")
    latest: Instant = Field(description="Nine times in ten they are there by then.")

    @field_validator("latest")
    @classmethod
    def _in_order(cls, latest: datetime, info: ValidationInfo) -> datetime:
        at = info.data.get("at")
        if at is not None and latest < at:
            raise ValueError(
                f'expected no earlier than "at", which is {at.isoformat()}. Swap the two'
            )
        return latest


class CodeRedSpec(Spec):
    """Everything for the core: side projects stand still, and lend their GPUs, for a while."""

    owner: str = Field(min_length=1)
    reason: str = Field(min_length=1, description="Why; whoever is stopped is told.")
    core: tuple[Name, ...] = Field(
        min_length=1, description="Features that everything goes to, the most important first."
    )
    lets_through: tuple[Name, ...] = Field(
        default=(), description="Plans that go on all the same, such as a hotfix."
    )
    keep: Mapping[Name, int] = Field(
        default_factory=dict, description="By pool: GPUs that it does not lend; by default none."
    )
    lasts: PositiveDuration = Field(description="It is lifted by itself after this.")

    @field_validator("keep")
    @classmethod
    def _not_below_none(cls, keep: Mapping[str, int]) -> Mapping[str, int]:
        for pool, gpus in keep.items():
            if gpus < 0:
                raise ValueError(f"expected 0 or more for {pool}. Correct it")
        return keep

    def freezes(self, plan: str, feature: str) -> bool:
        """Say whether a plan of this name, about this feature, is to stand still."""
        return feature not in self.core and plan not in self.lets_through


class RolloutSpec(Spec):
    """How a feature is opened; stages follow one another."""

    feature: Name
    owner: str = Field(min_length=1)
    priority: int = Field(
        default=0, ge=0, le=100, description="Stages of a higher one get GPUs before others."
    )
    freezes: tuple[FreezeSpec, ...] = Field(
        default=(), description="When no stage opens, however ready it is."
    )
    stages: tuple[StageSpec, ...] = Field(min_length=1)

    @field_validator("freezes")
    @classmethod
    def _leave_time(cls, freezes: tuple[FreezeSpec, ...]) -> tuple[FreezeSpec, ...]:
        if leaves_no_time(freezes):
            raise ValueError("expected a day of the week to be left. Drop a day")
        return freezes

    @model_validator(mode="after")
    def _stages_make_sense(self) -> Self:
        mistakes = list(stage_mistakes(enumerate(self.stages)))
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self


class PreviewSpec(Spec):
    """A feature that only those see who are invited, on a surface that no other has."""

    feature: Name
    owner: str = Field(min_length=1)
    lasts: PositiveDuration = Field(description="It ends by itself after this, without a trace.")
    becomes: RolloutSpec | None = Field(
        default=None, description="The rollout that it becomes when it is promoted."
    )

    @model_validator(mode="after")
    def _becomes_its_own(self) -> Self:
        if self.becomes is not None and self.becomes.feature != self.feature:
            raise ValueError(
                f'becomes.feature: got "{self.becomes.feature}", expected "{self.feature}". '
                "A preview becomes a rollout of what it showed."
            )
        return self


def stage_mistakes(stages: Iterable[tuple[int, StageSpec]]) -> Iterator[str]:
    """Say what is wrong between stages, each given with its place in the plan; a line each."""
    placed = list(stages)
    yield from _repeated_names(placed)
    yield from _repeated_tiers(placed)
    yield from _backward_steps(placed)
    yield from _backward_starts(placed)


def _repeated_names(stages: list[tuple[int, StageSpec]]) -> Iterator[str]:
    seen: set[str] = set()
    for i, stage in stages:
        if stage.name in seen:
            yield (
                f'stages[{i}].name: got "{stage.name}" again, expected a name of its own. '
                "Rename the stage."
            )
        seen.add(stage.name)


def _repeated_tiers(stages: list[tuple[int, StageSpec]]) -> Iterator[str]:
    for i, stage in stages:
        for j, tier in enumerate(stage.tiers):
            if tier in stage.tiers[:j]:
                yield (
                    f'stages[{i}].tiers[{j}]: got "{tier}" again, expected each tier once. '
                    "Drop one of the two."
                )


def _backward_steps(stages: list[tuple[int, StageSpec]]) -> Iterator[str]:
    reached: dict[tuple[str, Segment], float] = {}
    for i, stage in stages:
        for tier in dict.fromkeys(stage.tiers):
            before = reached.get((tier, stage.segment))
            first, field = stage.shares[0], "steps.shares[0]" if stage.steps else "exposure"
            if before is not None and first <= before:
                yield (
                    f'stages[{i}].{field}: got "{format_share(first)}" for {tier}, '
                    f"expected more than the {format_share(before)} reached before. "
                    "Raise it, or drop the stage."
                )
            reached[tier, stage.segment] = max(stage.exposure, before or 0.0)


def _backward_starts(stages: list[tuple[int, StageSpec]]) -> Iterator[str]:
    latest: datetime | None = None
    for i, stage in stages:
        if stage.starts_at is None:
            continue
        if latest is not None and stage.starts_at < latest:
            yield (
                f"stages[{i}].startsAt: got {stage.starts_at.isoformat()}, expected no "
                f"earlier than {latest.isoformat()}. Put the stages in the order they open."
            )
        latest = stage.starts_at if latest is None else max(latest, stage.starts_at)
