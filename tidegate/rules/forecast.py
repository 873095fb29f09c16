"""When a waiting reservation is expected to be backed: a range of dates, or unknown."""

from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import accumulate

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


class Outlook:
    """What a ledger tells of the GPUs to come, worked out once for as many claims as are asked."""

    def __init__(self, ledger: Ledger, now: datetime) -> None:
        self._ledger = ledger
        self._now = now
        queue = waiting(ledger)
        self._turns = [turn(claim) for claim in queue]
        self._ahead = list(accumulate((claim.gpus for claim in queue), initial=0))
        self._held: dict[int, int] = {}
        arrivals = [
            (arrival.expected_at, arrival.expected_by, arrival.gpus)
            for arrival in ledger.of(ClaimKind.ARRIVING)
            if arrival.expected_at is not None
            and arrival.expected_by is not None
            and arrival.expected_by >= now
        ]
        # Each end by its own order: were both to follow `expected_at`, a delay that puts an arrival
        # behind a surer one would make the p90 earlier.
        self._soonest = sorted((at, gpus) for at, _, gpus in arrivals)
        self._by = sorted((by, gpus) for _, by, gpus in arrivals)
        # Below 0 where more are sick than installed: the first that come make up for these.
        sick = sum(claim.gpus for claim in ledger.of(ClaimKind.SICK))
        self._usable = None if ledger.installed is None else ledger.installed - sick

    def backing(self, claim: Claim) -> DateRange | None:
        """Say when ready replicas should cover a reservation; None where nothing tells.

        One that is not in the ledger is taken as if it were. A granted claim waits for its cold
        start alone. A waiting one needs the first arrivals that together bring what it, and those
        before it in the queue, lack; its p50 is when so many are as likely as not there plus the
        median cold start, its p90 when so many are there nine times in ten plus the slow one. An
        arrival past its `latest` tells nothing any more.
        """
        soonest, by = self._now, self._now
        if claim.state is ClaimState.WAITING:
            arrived = self._arrivals_cover(claim)
            if arrived is None:
                return None
            soonest, by = arrived
        return DateRange(
            p50=soonest + timedelta(seconds=claim.lead_p50_s),
            p90=by + timedelta(seconds=claim.lead_p90_s),
        )

    def _arrivals_cover(self, claim: Claim) -> tuple[datetime, datetime] | None:
        if self._usable is None:
            return None
        ahead = self._ahead[bisect_right(self._turns, turn(claim))]
        if claim.id not in self._ledger.claims:
            ahead += claim.gpus
        lacking = self._held_beside(claim) + ahead - self._usable
        soonest = _when_covered(self._soonest, lacking, self._now)
        by = _when_covered(self._by, lacking, self._now)
        return None if soonest is None or by is None else (soonest, by)

    def _held_beside(self, claim: Claim) -> int:
        """GPUs that are held, less what would give way to a claim of this priority."""
        held = self._held.get(claim.priority)
        if held is None:
            # What would give way is as good as there; whatever else gave way waits ahead of it.
            gives_way = (c.id for c in preemptible(self._ledger, claim))
            held = self._held[claim.priority] = held_in_all(self._ledger.drop(gives_way))
        return held


def forecast_backing(ledger: Ledger, claim: Claim, now: datetime) -> DateRange | None:
    """Say when ready replicas should cover this one reservation, as an `Outlook` does."""
    return Outlook(ledger, now).backing(claim)


def _when_covered(
    arrivals: Iterable[tuple[datetime, int]], lacking: int, now: datetime
) -> datetime | None:
    if lacking <= 0:
        return now
    for at, gpus in arrivals:
        lacking -= gpus
        if lacking <= 0:
            return max(now, at)
    return None
