"""When a waiting reservation is expected to be backed: a range of dates, or unknown."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from tidegate.rules.granting import preemptible
from tidegate.rules.ledger import (
    Claim,
    ClaimKind,
    ClaimState,
    Ledger,
    held_in_all,
    turn,
    waiting,
)
from tidegate.snapshot import DateRange


def forecast_backing(ledger: Ledger, claim: Claim, now: datetime) -> DateRange | None:
    """Say when ready replicas should cover this reservation; None where nothing tells.

    A granted claim waits for its cold start alone. A waiting one needs the first arrivals that
    together bring what it, and those before it in the queue, lack; its p50 is when so many are as
    likely as not there plus the median cold start, its p90 when so many are there nine times in
    ten plus the slow one. An arrival past its `latest` tells nothing any more.
    """
    soonest, by = now, now
    if claim.state is ClaimState.WAITING:
        arrived = _arrivals_cover(ledger, _lacking(ledger, claim), now)
        if arrived is None:
            return None
        soonest, by = arrived
    return DateRange(
        p50=soonest + timedelta(seconds=claim.lead_p50_s),
        p90=by + timedelta(seconds=claim.lead_p90_s),
    )


def _lacking(ledger: Ledger, claim: Claim) -> int | None:
    """GPUs that have to come before this claim is granted."""
    if ledger.installed is None:
        return None
    # Below 0 where more are sick than installed: the first that come make up for these.
    usable = ledger.installed - sum(c.gpus for c in ledger.of(ClaimKind.SICK))
    # What would give way to it is as good as there; whatever else gave way waits ahead of it.
    kept = ledger.drop(c.id for c in preemptible(ledger, claim))
    ahead = sum(c.gpus for c in waiting(ledger) if turn(c) <= turn(claim))
    return held_in_all(kept) + ahead - usable


def _arrivals_cover(
    ledger: Ledger, lacking: int | None, now: datetime
) -> tuple[datetime, datetime] | None:
    if lacking is None:
        return None
    likely = [
        (arrival.expected_at, arrival.expected_by, arrival.gpus)
        for arrival in ledger.of(ClaimKind.ARRIVING)
        if arrival.expected_at is not None
        and arrival.expected_by is not None
        and arrival.expected_by >= now
    ]
    # Each end by its own order: were both to follow `expected_at`, a delay that puts an arrival
    # behind a surer one would make the p90 earlier.
    soonest = _when_covered(((at, gpus) for at, _, gpus in likely), lacking, now)
    by = _when_covered(((by, gpus) for _, by, gpus in likely), lacking, now)
    return None if soonest is None or by is None else (soonest, by)


def _when_covered(
    arrivals: Iterable[tuple[datetime, int]], lacking: int, now: datetime
) -> datetime | None:
    if lacking <= 0:
        return now
    for at, gpus in sorted(arrivals):
        lacking -= gpus
        if lacking <= 0:
            return max(now, at)
    return None
