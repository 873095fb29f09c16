"""Where each feature stands with each tier, why, and until when."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from console.history import History
from tidegate.events import Event
from tidegate.snapshot import DateRange, FeatureIntent


class Standing(StrEnum):
    """How a tier stands with a feature."""

    OPEN = "open"
    PARTLY_OPEN = "partly open"
    WAITING = "waiting"
    ON_HOLD = "on hold"
    SHUT = "not open"


@dataclass(frozen=True, slots=True)
class TierStage:
    """One tier of one feature: `exposure` from 0 to 1, `stage` as its last event named it.

    `rollout` is the id of the rollout that spoke last. `is_dated` says whether a next stage
    waits; only then does `opens` mean something, and there None means unknown.
    """

    feature: str
    tier: str
    standing: Standing
    exposure: float
    stage: str | None
    rollout: str | None
    why: str
    is_dated: bool
    opens: DateRange | None


_TELLS_A_STAGE: Final = "stage."


def tier_stages(history: History) -> tuple[TierStage, ...]:
    """Return every feature's tiers, the tier served first at the front."""
    intent = history.snapshot.intent
    if intent is None:
        return ()
    last = _last_stage_events(history)
    return tuple(
        _tier_stage(name, feature, tier, last)
        for name, feature in intent.features.items()
        for tier in history.tiers()
    )


def tiers_of(event: Event) -> tuple[str, ...]:
    """Return the tiers that an event names, one or several."""
    named = event.data.get("tier")
    return tuple(named.replace(",", " ").split()) if isinstance(named, str) else ()


def _last_stage_events(history: History) -> Mapping[tuple[str, str], Event]:
    last: dict[tuple[str, str], Event] = {}
    for event in history.events:
        if event.type.startswith(_TELLS_A_STAGE):
            for tier in tiers_of(event):
                last[str(event.data.get("feature")), tier] = event
    return last


def _tier_stage(
    name: str, feature: FeatureIntent, tier: str, last: Mapping[tuple[str, str], Event]
) -> TierStage:
    exposure = 0.0 if feature.is_withdrawn else feature.exposure.get(tier, 0.0)
    event = last.get((name, tier))
    stage = event.data.get("stage") if event else None
    waits_for = feature.waits_for.get(tier)
    reason = event.data.get("reason") if event else None
    if feature.held_because is not None and exposure < 1.0:
        why = feature.held_because
    elif waits_for is not None:
        why = f"waits for {waits_for}"
    else:
        why = str(reason or "")
    return TierStage(
        feature=name,
        tier=tier,
        standing=_standing(feature, tier, exposure),
        exposure=exposure,
        stage=str(stage) if stage else None,
        rollout=event.subject if event else None,
        why=why,
        is_dated=tier in feature.opens,
        opens=feature.opens.get(tier),
    )


def _standing(feature: FeatureIntent, tier: str, exposure: float) -> Standing:
    if exposure >= 1.0:
        return Standing.OPEN
    if feature.held_because is not None:
        return Standing.ON_HOLD
    if exposure > 0.0:
        return Standing.PARTLY_OPEN
    if tier in feature.waits_for or tier in feature.opens:
        return Standing.WAITING
    return Standing.SHUT
