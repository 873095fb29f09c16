"""The stages and the decisions as HTML; everything that was heard is escaped."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from console.decisions import decision_words, digest, reason_of
from console.links import WorkflowUrl
from console.stages import Standing, TierStage
from console.times import Clock, date_range, stamp
from console.words import share, title
from tidegate.events import Event
from tidegate.messages.feature import feature_id

_DECISIONS_SHOWN: Final = 80

_MARKS: Final = {
    Standing.OPEN: "good",
    Standing.PARTLY_OPEN: "waiting",
    Standing.WAITING: "waiting",
    Standing.ON_HOLD: "needed",
    Standing.SHUT: "absent",
}

_TELLING: Final = (
    ("gate.tightened", "needed"),
    ("gate.", "good"),
    ("stage.waiting", "waiting"),
    ("stage.forecast", "waiting"),
    ("claim.waiting", "waiting"),
    ("feature.held", "waiting"),
    ("feature.signups_suspended", "waiting"),
    ("feature.signups_", "good"),
    ("stage.", "good"),
    ("rollout.", "good"),
)
"""The colour of an event's mark, by how its type begins; the first that fits."""


def stages_table(stages: Sequence[TierStage], now: float, clock: Clock, url: WorkflowUrl) -> str:
    """Return the table of every feature's tiers: standing, why, until when."""
    if not stages:
        return '<p class="none-yet">absent (no intent was heard yet)</p>'
    rows = "".join(_stage_row(stage, now, clock, url) for stage in stages)
    heads = "".join(f"<th>{head}</th>" for head in ("feature", "tier", "state", "why", "when"))
    return f'<table class="stages"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def decisions_list(events: Iterable[Event], now: float, clock: Clock) -> str:
    """Return the newest decisions first, each with its reason."""
    newest = digest(events, _DECISIONS_SHOWN)
    if not newest:
        return '<p class="none-yet">absent (no event was heard yet)</p>'
    items = "".join(_decision_item(event, now, clock) for event in reversed(newest))
    return f'<ol class="decisions">{items}</ol>'


def _stage_row(stage: TierStage, now: float, clock: Clock, url: WorkflowUrl) -> str:
    standing = stage.standing.value
    if stage.standing is Standing.PARTLY_OPEN:
        standing = f"open to {share(stage.exposure)}"
    when = date_range(stage.opens, now, clock) if stage.is_dated else ""
    step = _link(url(stage.rollout or ""), stage.stage, "quiet") if stage.stage else ""
    feature = _link(url(feature_id(stage.feature)), stage.feature, "")
    mark = _MARKS[stage.standing]
    return (
        f'<tr><td data-head="feature">{feature}</td>'
        f'<td data-head="tier">{escape(title(stage.tier))} {step}</td>'
        f'<td data-head="state"><span class="mark {mark}"></span>{escape(standing)}</td>'
        f'<td data-head="why">{escape(stage.why)}</td>'
        f'<td data-head="when">{escape(when)}</td></tr>'
    )


def _link(url: str, text: str, kind: str) -> str:
    return (
        f'<a href="{escape(url)}" class="{kind}" target="_blank" rel="noopener">{escape(text)}</a>'
    )


def _decision_item(event: Event, now: float, clock: Clock) -> str:
    mark = next((mark for start, mark in _TELLING if event.type.startswith(start)), "absent")
    reason = reason_of(event)
    why = f'<span class="why">{escape(reason)}</span>' if reason else ""
    about = f"{event.type} · {event.id}"
    if decision := event.data.get("decision_id"):
        about += f" · {decision}"
    return (
        f'<li title="{escape(about)}"><time>{stamp(event.at.timestamp(), now, clock)}</time>'
        f'<span class="mark {mark}"></span>'
        f'<span class="what">{escape(decision_words(event, clock))}{why}</span></li>'
    )
