"""How the command line shows where things stand."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from tidegate.messages.feature import FeatureState
from tidegate.messages.rollout import RolloutOrder, RolloutState
from tidegate.quantities import format_share
from tidegate.rules.signups import tell_signups
from tidegate.snapshot import DateRange


def show_rollout(order: RolloutOrder) -> Iterator[str]:
    """Tell a rollout stage by stage, and what it waits for."""
    state = order.state
    yield f"rollout/{order.name}  {state.phase}, waits for {_waits(state)}"
    for stage in order.spec.stages:
        progress = state.progress.get(stage.name)
        opened = progress.exposed_at if progress else None
        mark = "open since " + _at(opened) if opened else "not open"
        if progress and opened and progress.baked_at is None and stage.steps:
            mark += f", at {format_share(stage.shares[progress.reached - 1])}"
        if progress and progress.skipped_at:
            mark += ", skipped"
        yield (
            f"  {stage.name:<18} {', '.join(stage.tiers):<16} {format_share(stage.exposure):>6} "
            f"{stage.reserve:>3} GPUs  {mark}"
        )
    if state.claim is not None:
        yield f"  {state.stage} is expected {show_range(state.claim.forecast)}"


def show_feature(feature: FeatureState) -> Iterator[str]:
    """Tell who a feature is exposed to, what holds it, and whether sign-ups are suspended."""
    reached = [f"{tier} {format_share(s)}" for tier, s in feature.exposure.items()]
    reached += [str(opening) for opening in feature.openings]
    yield f"feature/{feature.name}  exposed to {', '.join(reached) or 'nobody'}"
    for hold in feature.holds.values():
        far = ", nobody is let in" if hold.rolls_back else ""
        yield f"  held by {hold.role} since {_at(hold.since)}{far}: {hold.reason}"
    if feature.signups.state == "suspended":
        yield f"  sign-ups are {tell_signups(feature.signups)}: {feature.signups.reason}"


def show_range(forecast: DateRange | None) -> str:
    """Write a range as people read it, or say that it is unknown."""
    return (
        "at an unknown date"
        if forecast is None
        else (f"between {_at(forecast.p50)} and {_at(forecast.p90)} (p50 to p90)")
    )


def show_why(answer: Mapping[str, object]) -> Iterator[str]:
    """Tell a gateway's answer, its inputs, and what would have made it yes."""
    for key, value in answer.items():
        yield f"{key}: {value}"


def _waits(state: RolloutState) -> str:
    if state.hold is not None:
        return f"{state.hold.role} to release its hold: {state.hold.reason}"
    if state.freezes:
        freeze = next(iter(state.freezes.values()))
        return f"{freeze.freeze_id} to end: {freeze.reason}"
    if state.paused is not None:
        return f"{state.paused.by} to resume it: {state.paused.reason}"
    return str(state.waits)


def _at(instant: datetime) -> str:
    return f"{instant.astimezone():%F %H:%M:%S}"
