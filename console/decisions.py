"""The stream of decisions as people read it: what was decided about what, and why."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from console.times import Clock, date_range
from console.words import listed, share, sizes
from tidegate.events import Event
from tidegate.rules.signups import tell_let_in
from tidegate.snapshot import DateRange, Signups

_ASIDES: Final = frozenset({
    "catalogue.declared",
    "claim.made",
    "claim.released",
    "claim.spent",
    "feature.declared",
    "stage.due",
})  # fmt: skip
"""Told in the list of decisions, and left out where the story is told line by line."""

_ECHOES: Final = frozenset({"feature.exposed", "feature.waiting"})
"""What a feature tells of a stage, the rollout has told itself."""

_SHARES_OF: Final = ("gate.", "stage.", "feature.")
"""Events whose figures before and after are shares of a tier."""

_Gist = tuple[object, ...]


class Sieve:
    """Keeps the events that tell something new, out of those that repeat a state as it changes."""

    def __init__(self) -> None:
        self._gists: dict[_Gist, _Gist] = {}

    def keeps(self, event: Event) -> bool:
        """Whether to tell of this event, given those before it."""
        data = event.data
        if event.type in _ECHOES:
            return "stage" not in data
        about: _Gist = (event.type, event.subject, data.get("stage"))
        match event.type:
            case "pool.sized":  # one that only reckoned the need anew booked nothing
                gist: _Gist = (data.get("booked_gpus"), data.get("installed_gpus"))
            case "stage.forecast":
                gist = (data.get("p50"), data.get("p90"))
            case "stage.waiting":  # that it waits is news once; what it lacks changes by the second
                gist = ()
            case _:
                return True
        is_news = self._gists.get(about) != gist
        self._gists[about] = gist
        return is_news


def digest(events: Iterable[Event], most: int) -> list[Event]:
    """Return at most so many newest decisions, oldest first, a gate's ramp folded into one.

    The one that stands for a ramp is its last step, with the ramp's `before` and its `steps`.
    """
    sieve = Sieve()
    kept: list[Event | None] = []
    ramps: dict[str, tuple[str, int]] = {}
    for event in events:
        if not sieve.keeps(event):
            continue
        if event.type.startswith("gate."):
            kind, place = ramps.get(event.subject, ("", 0))
            if kind == event.type and (earlier := kept[place]) is not None:
                kept[place] = None
                event = _longer(earlier, event)  # noqa: PLW2901 - the ramp up to this step
            ramps[event.subject] = (event.type, len(kept))
        kept.append(event)
    return [event for event in kept if event is not None][-most:]


def decision_words(event: Event, clock: Clock) -> str:
    """Say in one line what was decided about what, without the reason."""
    data = event.data
    about = [_subject(event)]
    if stage := data.get("stage"):
        about.append(f"stage {stage}")
    tier = data.get("tier")
    if isinstance(tier, str) and tier:
        about.append(listed(tier.replace(",", " ").split()))
    if isinstance(gpus := data.get("gpus"), int):
        about.append(f"{gpus} GPU{'s' * (gpus != 1)}")
    verb = event.type.partition(".")[2].replace("-", " ").replace("_", " ") or event.type
    return f"{', '.join(about)}: {verb}{_change(event, clock)}"


def reason_of(event: Event) -> str:
    """Return why it was decided; empty where the event does not say."""
    return str(event.data.get("reason") or "")


def is_worth_a_line(event: Event) -> bool:
    """Whether a line-by-line telling of the story needs this event."""
    return event.type not in _ASIDES


def _subject(event: Event) -> str:
    family = event.type.partition(".")[0]
    feature, pool = event.data.get("feature"), event.data.get("pool")
    if feature:
        return str(feature)
    if pool:
        return f"{family} of {pool}" if family != "pool" else f"pool {pool}"
    return event.subject.replace("/", " ", 1)


def _change(event: Event, clock: Clock) -> str:
    if event.type == "pool.sized":
        return f", {sizes(event)}"
    if event.type == "stage.forecast":
        return f" {date_range(forecast_of(event), event.at.timestamp(), clock)}"
    if event.type == "feature.signups_widened":
        return f" to {_let_in(event)}"
    before, after = event.data.get("before"), event.data.get("after")
    if after is None:
        return ""
    figures = [v for v in (before, after) if isinstance(v, int | float)]
    are_shares = event.type.startswith(_SHARES_OF) and all(0 <= v <= 1 for v in figures)
    said = [_said(value, is_share=are_shares) for value in (before, after) if value is not None]
    steps = event.data.get("steps")
    return " " + " → ".join(said) + (f" in {steps} steps" if steps else "")


def _let_in(event: Event) -> str:
    cohorts, reached = str(event.data.get("cohorts") or ""), event.data.get("share")
    signups = Signups(
        state="suspended",
        cohorts=tuple(cohorts.split(", ")) if cohorts else (),
        share=reached if isinstance(reached, float) else 0.0,
    )
    return tell_let_in(signups)


def _longer(ramp: Event, step: Event) -> Event:
    steps = ramp.data.get("steps")
    so_far = steps if isinstance(steps, int) else 1
    data = {**step.data, "before": ramp.data.get("before"), "steps": so_far + 1}
    return step.model_copy(update={"data": data})


def forecast_of(event: Event) -> DateRange | None:
    """Return the range that a forecast tells; None where it is unknown."""
    p50, p90 = event.data.get("p50"), event.data.get("p90")
    if not isinstance(p50, str) or not isinstance(p90, str):
        return None
    try:
        return DateRange(p50=datetime.fromisoformat(p50), p90=datetime.fromisoformat(p90))
    except ValueError:
        return None


def _said(value: object, *, is_share: bool) -> str:
    if not isinstance(value, int | float):
        return str(value)
    return share(value) if is_share else f"{value:g}"
