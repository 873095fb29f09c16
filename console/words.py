"""The state and the decisions in sentences, the same on the page and in the terminal."""

from collections.abc import Iterable
from itertools import groupby

from console.history import History, number
from console.measures import GpuUse, engines_seen, gpu_use
from console.stages import Standing, TierStage, tier_stages
from console.times import Clock, date_range, time_of_day
from tidegate.events import Event
from tidegate.quantities import format_share
from tidegate.readings import Absent
from tidegate.rules.signups import tell_signups
from tidegate.snapshot import GatePart, GateState, Signups


def title(name: str) -> str:
    """Write a tier's name as people say it: `free` is `Free`."""
    return name[:1].upper() + name[1:]


def listed(names: Iterable[str]) -> str:
    """Write tiers in a row: `Pro, Plus, Team`."""
    return ", ".join(title(name) for name in names)


def share(value: float) -> str:
    """Write a share shortly: `25%`, `2.5%`, `0.001%`."""
    return format_share(round(value, 3) if value >= 0.01 else value)  # noqa: PLR2004 - one per cent


def headline(history: History, clock: Clock) -> str:
    """Say in one sentence what is happening, feature by feature."""
    stages, intent = tier_stages(history), history.snapshot.intent
    if intent is None or not stages:
        return "Nothing is published yet: the first intent is awaited"
    return " · ".join(
        f"{feature}: {_feature_words(tuple(of_one), history.now, clock)}"
        f"{_signups_words(intent.features[feature].signups)}"
        for feature, of_one in groupby(stages, key=lambda stage: stage.feature)
    )


def gate_words(gate: GatePart) -> str:
    """Say how far a gate is open for its tiers, and why."""
    match gate.state:
        case GateState.OPEN:
            words = "open"
        case GateState.THROTTLED | GateState.WAITLISTED | GateState.REOPENING:
            lets_in = ", ".join(f"{title(t)} {share(c)}" for t, c in gate.ceilings.items())
            words = f"{gate.state.value}, lets in {lets_in}" if lets_in else gate.state.value
    return f"{words}: {gate.reason}" if gate.reason else words


def gpu_words(history: History, pool: str) -> str:
    """Say how many GPUs a pool needs and has, as its capacity controller last said."""
    event = history.sizing(pool)
    if event is None:
        return "absent (no sizing was heard yet)"
    parts = [sizes(event)]
    if (engines := engines_seen(history.nodes, pool)) is not None:
        parts.append(f"{engines} engine{'s' * (engines != 1)} answering")
    return ", ".join(parts)


def sizes(event: Event) -> str:
    """Say a sizing's figures: `needed 9, ready 6, arriving 2, installed 8`."""
    return ", ".join(
        f"{word} {'?' if (gpus := number(event.data, field)) is None else f'{gpus:g}'}"
        for word, field in (
            ("needed", "needed_gpus"),
            ("ready", "ready_gpus"),
            ("arriving", "loading_gpus"),
            ("installed", "installed_gpus"),
        )
    )


def gpu_use_words(history: History) -> str:
    """Say the GPUs' duty cycle, or that it is absent and why."""
    match gpu_use(history.nodes):
        case GpuUse(share=busy, gpus=gpus):
            return f"{busy:.0%} over {gpus} GPU{'s' * (gpus != 1)}"
        case Absent(reason=reason):
            return f"absent ({reason})"


def heard_words(history: History) -> str:
    """Say who was heard lately: agents, engines and gateways."""
    engines = sum(len(node.engines) for node in history.nodes)
    return ", ".join(
        f"{count or 'no'} {noun}{'s' * (count != 1)}"
        for count, noun in (
            (len(history.nodes), "agent"),
            (engines, "engine"),
            (len(history.gateways), "gateway"),
        )
    )


def warnings(history: History, clock: Clock) -> tuple[str, ...]:
    """Say what of the state shown is old or held back by missing readings; often nothing."""
    if history.silent_because is not None:
        age = (
            "Nothing was heard yet."
            if history.heard_at is None
            else f"Showing the state of {time_of_day(history.heard_at, clock)}."
        )
        return (f"{history.silent_because} {age}",)
    found: list[str] = []
    intent = history.snapshot.intent
    if intent is not None and intent.expires_at < history.now:
        found.append(f"intent: not renewed since {time_of_day(intent.issued_at, clock)}.")
    for pool, gate in history.snapshot.gates.items():
        if gate.expires_at < history.now:
            found.append(
                f"gate of {pool}: not renewed since {time_of_day(gate.issued_at, clock)}; "
                f"gateways let in at most {share(gate.safe_share)} of its gated tiers."
            )
        elif gate.stale:
            found.append(f"gate of {pool}: required readings are missing; it may not reopen.")
    return tuple(found)


def _feature_words(stages: tuple[TierStage, ...], now: float, clock: Clock) -> str:
    words: list[str] = []
    is_open = [stage.tier for stage in stages if stage.standing is Standing.OPEN]
    if is_open:
        words.append(f"{listed(is_open)} open")
    rest = [stage for stage in stages if stage.standing is not Standing.OPEN]
    for said, of_one in groupby(rest, key=lambda stage: _tier_words(stage, now, clock)):
        words.append(f"{listed(stage.tier for stage in of_one)} {said}")
    return "; ".join(words)


def _signups_words(signups: Signups) -> str:
    if signups.state == "open":
        return ""
    return f"; sign-ups {tell_signups(signups)}: {signups.reason}"


def _tier_words(stage: TierStage, now: float, clock: Clock) -> str:
    until = f": {date_range(stage.opens, now, clock)}" if stage.is_dated else ""
    match stage.standing:
        case Standing.OPEN:
            return "open"
        case Standing.SHUT:
            return "not open"
        case Standing.ON_HOLD:
            return f"on hold at {share(stage.exposure)}: {stage.why}"
        case Standing.WAITING:
            return (_in_short(stage.why) or "waits") + until
        case Standing.PARTLY_OPEN:
            at = f"at {share(stage.exposure)}"
            return f"{at}, more {_in_short(stage.why)}{until}" if stage.is_dated else at


def _in_short(why: str) -> str:
    """Keep what stands before the first colon or semicolon; the table of stages tells it all."""
    return why.partition(";")[0].partition(":")[0]
