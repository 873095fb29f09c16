"""How the ledger changes by itself: who is granted, who gives way, and what has had its time."""

from datetime import datetime, timedelta

from tidegate.rules.ledger import (
    Claim,
    ClaimKind,
    ClaimState,
    Ledger,
    turn,
    unclaimed_gpus,
    usable_gpus,
    waiting,
)


def enter(ledger: Ledger, claim: Claim) -> Ledger:
    """Return the ledger with a claim in it; one that has this id already stays as it is."""
    return ledger if claim.id in ledger.claims else ledger.put(claim)


def settle(ledger: Ledger, now: datetime) -> Ledger:
    """Grant waiting reservations as far as GPUs reach: by priority, then first come first served.

    The first that does not fit takes what reservations of lower priority were granted and have not
    spent, the last of the line first, and only where that is enough; they wait again, in their old
    place. Where it is not enough it stops the line, so that a large claim is not starved by small
    ones behind it. Nothing is granted where nobody has counted the GPUs.
    """
    while queue := waiting(ledger):
        first = queue[0]
        if not _fits(ledger, first):
            room = _make_room(ledger, first)
            if room is None:
                break
            ledger = room
        expires_at = None if first.lasts_s is None else now + timedelta(seconds=first.lasts_s)
        granted = {"state": ClaimState.GRANTED, "expires_at": expires_at}
        ledger = ledger.put(first.model_copy(update=granted))
    return ledger


def preemptible(ledger: Ledger, claim: Claim) -> tuple[Claim, ...]:
    """Return what would give way to a claim, in that order: the last in line first.

    Only what is granted and not spent, and of a lower priority: whoever is inside stays inside.
    """
    lower = (
        c
        for c in ledger.of(ClaimKind.RESERVED)
        if c.state is ClaimState.GRANTED and c.priority < claim.priority
    )
    return tuple(sorted(lower, key=turn, reverse=True))


def overdue(ledger: Ledger, now: datetime) -> tuple[Claim, ...]:
    """Return the claims whose time is up, those first that were up first."""
    late = (c for c in ledger.claims.values() if c.expires_at is not None and c.expires_at <= now)
    return tuple(sorted(late, key=lambda c: (c.expires_at, c.id)))


def next_expiry(ledger: Ledger) -> datetime | None:
    """Say when the next claim's time is up; None where none's ever is."""
    return min((c.expires_at for c in ledger.claims.values() if c.expires_at), default=None)


def spend(claim: Claim) -> Claim:
    """Return the claim as it stands once its stage is open: its users stay, so it never expires."""
    return claim.model_copy(update={"state": ClaimState.SPENT, "expires_at": None})


def _fits(ledger: Ledger, claim: Claim) -> bool:
    return usable_gpus(ledger) is not None and claim.gpus <= unclaimed_gpus(ledger)


def _make_room(ledger: Ledger, claim: Claim) -> Ledger | None:
    for lower in preemptible(ledger, claim):
        back = {"state": ClaimState.WAITING, "expires_at": None}
        ledger = ledger.put(lower.model_copy(update=back))
        if _fits(ledger, claim):
            return ledger
    return None
