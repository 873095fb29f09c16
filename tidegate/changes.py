"""What changed from one snapshot to the next, so that nothing is sent or saved again as it was."""

from collections.abc import Mapping
from typing import TypeVar

from tidegate.snapshot import (
    GatePart,
    IntentPart,
    KillPart,
    Renewal,
    Snapshot,
    WaitlistPart,
    is_same_intent,
)

_P = TypeVar("_P", GatePart, KillPart, WaitlistPart)


class Change(Snapshot):
    """The parts that say something else, or are newer; without the intent that was renewed."""

    renewed: Renewal | None = None
    """For how long the intent that is held may be relied on, where nothing else changed in it."""


def change_between(before: Snapshot, after: Snapshot) -> Change:
    """Return what makes `after` of `before`, but for parts that are gone."""
    intent, renewed = after.intent, None
    if before.intent is not None and intent is not None and is_same_intent(before.intent, intent):
        if intent.version != before.intent.version:
            stamps = {"of": before.intent.version, **_stamps(intent)}
            renewed = Renewal.model_validate(stamps)
        intent = None
    return Change(
        intent=intent,
        renewed=renewed,
        gates=_others(before.gates, after.gates),
        kills=_others(before.kills, after.kills),
        waitlists=_others(before.waitlists, after.waitlists),
    )


def offered_by(change: Change, held: Snapshot) -> Snapshot | None:
    """Return what a change offers to whoever holds this; None where it renews what is not held."""
    intent, renewed = change.intent, change.renewed
    if renewed is not None:
        if held.intent is None or held.intent.version not in {renewed.of, renewed.version}:
            return None
        intent = held.intent.model_copy(update=_stamps(renewed))
    return Snapshot(
        intent=intent, gates=change.gates, kills=change.kills, waitlists=change.waitlists
    )


def _stamps(part: IntentPart | Renewal) -> dict[str, float]:
    return {
        "version": part.version,
        "issued_at": part.issued_at,
        "expires_at": part.expires_at,
    }


def _others(before: Mapping[str, _P], after: Mapping[str, _P]) -> dict[str, _P]:
    return {name: part for name, part in after.items() if part is not before.get(name)}
