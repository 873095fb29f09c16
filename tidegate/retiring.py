"""How a model goes, as people write it: its dates, its windows, its last users, its successor."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Self

from pydantic import Field, model_validator

from tidegate.quantities import Duration, Instant
from tidegate.spec import Name, Spec


class Window(Spec):
    """A stretch of time in which a retiring model is switched off, so that its users notice."""

    start: Instant
    end: Instant

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end <= self.start:
            raise ValueError(
                f"expected an end after the start, which is {self.start.isoformat()}. "
                "Write the later instant as end"
            )
        return self


class CutOffSpec(Spec):
    """Some tiers lose the model before the others."""

    tiers: tuple[Name, ...] = Field(min_length=1)
    at: Instant = Field(description="From then on these are refused.")


class UseLimitSpec(Spec):
    """How much a model may still be used when it goes; nobody knows, and it stays."""

    requests_a_day: float = Field(gt=0.0, allow_inf_nan=False, description="As weighted, at most.")
    over_days: int = Field(default=7, ge=1, le=40, description="The mean of so many days in UTC.")
    weights: Mapping[Name, float] = Field(
        default_factory=dict, description="By tier: what one request counts; by default 1."
    )


class RetirementSpec(Spec):
    """How a model goes: announced, restricted, browned out, cut off tier by tier, and gone."""

    model: Name = Field(description="The Model that goes.")
    owner: str = Field(min_length=1)
    successor: Name = Field(description="The Model to use instead.")
    announced_at: Instant = Field(description="From then on answers say that it will go.")
    restricted_at: Instant | None = Field(
        default=None, description="From then on nobody new may come to it."
    )
    brownouts: tuple[Window, ...] = Field(default=(), description="Refused in these before.")
    cut_offs: tuple[CutOffSpec, ...] = Field(
        default=(), description="Tiers that lose it before the sunset."
    )
    sunset_at: Instant = Field(description="From then on it is refused to everybody else.")
    use_below: UseLimitSpec | None = Field(
        default=None, description="It waits while it is used more than this."
    )
    headroom: int = Field(
        default=0, ge=0, description="It waits until the successor has so many GPUs to spare."
    )
    notices: tuple[Duration, ...] = Field(
        default=(timedelta(days=30), timedelta(days=7), timedelta(days=1)),
        description="Each tier is told again so long before it loses the model.",
    )
    personality: Mapping[str, str] = Field(
        default_factory=dict,
        description="For settings of its manner: the successor's that come nearest.",
    )
    grace: Duration = Field(
        default=timedelta(days=30), description="How long it can be restored when it is gone."
    )
    link: str | None = Field(default=None, description="A page that says more.")

    def end_of(self, tier: str) -> datetime:
        """Return when a tier loses the model."""
        cut_off = (cut.at for cut in self.cut_offs if tier in cut.tiers)
        return next(cut_off, self.sunset_at)

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        mistakes = [*_backward_dates(self), *_strange_brownouts(self), *_repeated_tiers(self)]
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self


def _backward_dates(spec: RetirementSpec) -> Iterator[str]:
    announced, sunset = spec.announced_at.isoformat(), spec.sunset_at.isoformat()
    if spec.sunset_at < spec.announced_at:
        yield (
            f"sunsetAt: got {sunset}, expected no earlier than announcedAt, which is {announced}. "
            "Swap the two."
        )
    restricted = spec.restricted_at
    if restricted is not None and not spec.announced_at <= restricted <= spec.sunset_at:
        yield (
            f"restrictedAt: got {restricted.isoformat()}, expected it between announcedAt "
            f"({announced}) and sunsetAt ({sunset}). Move it."
        )
    for i, cut in enumerate(spec.cut_offs):
        if cut.at > spec.sunset_at:
            yield (
                f"cutOffs[{i}].at: got {cut.at.isoformat()}, expected no later than sunsetAt, "
                f"which is {sunset}. Move it."
            )


def _strange_brownouts(spec: RetirementSpec) -> Iterator[str]:
    earliest = spec.announced_at
    for i, window in enumerate(spec.brownouts):
        if window.start < earliest or window.end > spec.sunset_at:
            yield (
                f"brownouts[{i}]: got {window.start.isoformat()} to {window.end.isoformat()}, "
                f"expected a window between {earliest.isoformat()} (announcedAt, or the end of "
                f"the one before) and sunsetAt, which is {spec.sunset_at.isoformat()}. Move it."
            )
        earliest = max(earliest, window.end)


def _repeated_tiers(spec: RetirementSpec) -> Iterator[str]:
    seen: set[str] = set()
    for i, cut in enumerate(spec.cut_offs):
        for tier in cut.tiers:
            if tier in seen:
                yield f'cutOffs[{i}].tiers: got "{tier}" again, expected each tier once. Drop it.'
            seen.add(tier)
