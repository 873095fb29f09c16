"""What people want to happen: a rollout, stage by stage."""

from typing import Self

from pydantic import AwareDatetime, Field, model_validator

from tidegate.catalogue import Name, Spec
from tidegate.quantities import Duration, Share, format_share


class CheckSpec(Spec):
    """What must hold while a stage bakes; missing data is inconclusive, never a pass."""

    queue_wait_below: Duration = Field(description="Mean queue wait of the pool.")


class StageSpec(Spec):
    """One step of exposure: to whom, how far, from when, and on which GPUs."""

    name: Name
    tiers: tuple[Name, ...] = Field(min_length=1)
    exposure: Share = Field(default=1.0, description="The share of these tiers reached.")
    starts_at: AwareDatetime | None = Field(
        default=None, description="Not before this instant; by default after the stage before."
    )
    approval: Name | None = Field(default=None, description="The role that must approve.")
    reserve: int = Field(default=0, ge=0, description="GPUs to be ready before it opens.")
    bake: Duration = Field(description="How long to watch before the next stage.")
    check: CheckSpec | None = None


class RolloutSpec(Spec):
    """How a feature is opened; stages follow one another."""

    feature: Name
    owner: str = Field(min_length=1)
    stages: tuple[StageSpec, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _stages_make_sense(self) -> Self:
        mistakes = [*self._repeated_names(), *self._backward_steps(), *self._backward_starts()]
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self

    def _repeated_names(self) -> list[str]:
        names = [stage.name for stage in self.stages]
        return [
            f'stages[{i}].name: got "{name}" again, expected a name of its own. Rename the stage.'
            for i, name in enumerate(names)
            if name in names[:i]
        ]

    def _backward_steps(self) -> list[str]:
        mistakes: list[str] = []
        reached: dict[str, float] = {}
        for i, stage in enumerate(self.stages):
            for tier in stage.tiers:
                if stage.exposure <= reached.get(tier, 0.0) and tier in reached:
                    mistakes.append(
                        f'stages[{i}].exposure: got "{format_share(stage.exposure)}" for {tier}, '
                        f"expected more than the {format_share(reached[tier])} reached before. "
                        "Raise it, or drop the stage."
                    )
                reached[tier] = stage.exposure
        return mistakes

    def _backward_starts(self) -> list[str]:
        mistakes: list[str] = []
        latest: AwareDatetime | None = None
        for i, stage in enumerate(self.stages):
            if stage.starts_at is None:
                continue
            if latest is not None and stage.starts_at < latest:
                mistakes.append(
                    f"stages[{i}].startsAt: got {stage.starts_at.isoformat()}, expected no "
                    f"earlier than {latest.isoformat()}. Put the stages in the order they open."
                )
            latest = stage.starts_at
        return mistakes
