"""A retirement's steps in the order in which they come, and what may be changed about them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from tidegate.quantities import format_duration
from tidegate.retiring import RetirementSpec


class StepKind(StrEnum):
    """What is done at an instant."""

    ANNOUNCE = "announce"
    RESTRICT = "restrict"
    NOTICE = "notice"
    BROWNOUT_BEGINS = "brownout-begins"
    BROWNOUT_ENDS = "brownout-ends"
    CUT_OFF = "cut-off"
    SUNSET = "sunset"


@dataclass(frozen=True, slots=True)
class Step:
    """One step, of which each id is taken once."""

    kind: StepKind
    at: datetime
    about: str = ""
    """A tier and how long before, or a number."""
    tiers: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """What it is remembered by; the same when its instant moves."""
        return f"{self.kind}/{self.about}" if self.about else str(self.kind)


def steps_of(spec: RetirementSpec, tiers: Iterable[str]) -> list[Step]:
    """Return all steps by their instants; at one instant, in the order of StepKind.

    A notice that would come before the announcement, or at once with it, is left out.
    """
    order = list(StepKind)
    return sorted(_steps(spec, tuple(tiers)), key=lambda step: (step.at, order.index(step.kind)))


def _steps(spec: RetirementSpec, tiers: tuple[str, ...]) -> Iterator[Step]:
    yield Step(StepKind.ANNOUNCE, spec.announced_at)
    if spec.restricted_at is not None:
        yield Step(StepKind.RESTRICT, spec.restricted_at)
    for i, window in enumerate(spec.brownouts):
        yield Step(StepKind.BROWNOUT_BEGINS, window.start, str(i))
        yield Step(StepKind.BROWNOUT_ENDS, window.end, str(i))
    for i, cut in enumerate(spec.cut_offs):
        # Who lost it before it was announced again goes on without it from the announcement.
        yield Step(StepKind.CUT_OFF, max(cut.at, spec.announced_at), str(i), cut.tiers)
    for tier in tiers:
        for lead in spec.notices:
            at = spec.end_of(tier) - lead
            if at > spec.announced_at:
                yield Step(StepKind.NOTICE, at, f"{tier}/{format_duration(lead)}", (tier,))
    yield Step(StepKind.SUNSET, spec.sunset_at, tiers=tiers)


def find_conflict(
    before: RetirementSpec,
    after: RetirementSpec,
    done: Iterable[str],
    tiers: Iterable[str],
    notices: Mapping[str, timedelta],
) -> str | None:
    """Say why a running retirement cannot become another; None where it can, in time.

    What has happened stays as it was. Earlier dates are another matter: `find_earlier`.
    """
    if after.model != before.model:
        return f'model: got "{after.model}", expected "{before.model}". Write another plan for it.'
    new = {step.id: step for step in steps_of(after, tiers)}
    for step in steps_of(before, tiers):
        if step.id in set(done) and step.kind is not StepKind.NOTICE and new.get(step.id) != step:
            return (
                f"{step.id}: has happened, {step.at:%F %H:%M} UTC as it was written. "
                "Leave it as it is."
            )
    for tier in tiers:
        end, least = after.end_of(tier), notices.get(tier, timedelta())
        if after.announced_at < end < after.announced_at + least:
            return (
                f"sunsetAt or cutOffs: got {end.isoformat()} for {tier}, expected "
                f"{format_duration(least)} of notice at least. Move it later."
            )
    return None


def find_overuse(spec: RetirementSpec, used: float | None) -> str:
    """Say how a model is used too much to go, or that nobody knows; nothing where it may go."""
    limit = spec.use_below
    if limit is None:
        return ""
    if used is None:
        return f"nobody knows how much {spec.model} is used"
    if used <= limit.requests_a_day:
        return ""
    most = f"at most {limit.requests_a_day:g} may be"
    return f"{spec.model} has {used:.0f} weighted requests a day, {most}"


def find_lack_of_room(spec: RetirementSpec, spare_gpus: int | None) -> str:
    """Say what the successor lacks, or that nobody knows; nothing where it has room."""
    if not spec.headroom or (spare_gpus is not None and spare_gpus >= spec.headroom):
        return ""
    has = "an unknown number" if spare_gpus is None else str(spare_gpus)
    return f"{spec.successor} needs {spec.headroom} GPUs to spare, it has {has}"


def find_earlier(before: RetirementSpec, after: RetirementSpec, tiers: Iterable[str]) -> str | None:
    """Say what would come earlier than people were told; None where nothing does."""
    for tier in tiers:
        told, wanted = before.end_of(tier), after.end_of(tier)
        if wanted < told:
            return (
                f"{tier} would lose {after.model} {wanted:%F %H:%M}, and was told {told:%F %H:%M}"
            )
    for old, new in zip(before.brownouts, after.brownouts, strict=False):
        if new.start < old.start:
            return f"a brownout would begin {new.start:%F %H:%M}, and was told {old.start:%F %H:%M}"
    if after.restricted_at is not None and (
        before.restricted_at is None or after.restricted_at < before.restricted_at
    ):
        return f"nobody new could come from {after.restricted_at:%F %H:%M} on"
    return None
