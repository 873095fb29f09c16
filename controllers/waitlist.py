"""The waitlist loop: about once a second, who of those that wait is called, and when others are."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from controllers.echoes import echoed, newest
from controllers.lanes import Came, LaneKeeper
from controllers.probes import Probes
from tidegate.edges.outbox import Outbox
from tidegate.edges.record import Record
from tidegate.edges.redis import Redis
from tidegate.edges.redis_numbers import NumberBook
from tidegate.readings import DemandReading
from tidegate.rules.waitlist import Seen, lanes_of, step, why_stopped
from tidegate.snapshot import (
    IntentPart,
    Lane,
    Snapshot,
    WaitlistIntent,
    WaitlistPart,
    next_version,
    waitlist_part,
)

LIVES_S: Final = 10.0
"""How long a part may be relied on."""


class _Asked(NamedTuple):
    """One feature's waitlist, as it is meant and as it is heard of."""

    feature: str
    pace: WaitlistIntent
    intent: IntentPart
    gateways: Sequence[DemandReading]
    came: Mapping[tuple[str, str], int]


class WaitlistLoop:
    """The only writer of the waitlist parts, and the only one that calls anybody."""

    def __init__(self, redis: Redis, record: Record, outbox: Outbox) -> None:
        self._redis = redis
        self._outbox = outbox
        self._keeper = LaneKeeper(NumberBook(redis), record)
        self._came = Came()
        self._published: dict[str, WaitlistPart] = {}
        self._probes: dict[tuple[str, str], Probes] = {}
        self._told_stopped: dict[str, str | None] = {}

    async def tick(self, now: float) -> None:
        """Move each feature's waitlist on, and publish it."""
        snapshot = await self._redis.snapshot()
        _, gateways = await self._redis.readings()
        came = self._came.since_last(gateways)
        intent = snapshot.intent
        if intent is not None:
            for name, feature in intent.features.items():
                if feature.waitlist is not None:
                    asked = _Asked(name, feature.waitlist, intent, gateways, came)
                    await self._move(asked, snapshot, now)
        await self._outbox.tick(datetime.fromtimestamp(now, UTC))

    async def _move(self, asked: _Asked, snapshot: Snapshot, now: float) -> None:
        name = asked.feature
        known = [
            snapshot.waitlists.get(name),
            self._published.get(name),
            *(echoed(WaitlistPart, each.waitlists.get(name)) for each in asked.gateways),
        ]
        last = newest(waitlist_part(name), known, asked.gateways) or _none_yet(name, now)
        kept = await self._with_numbers(asked, last, now)
        feature = asked.intent.features[name]
        gate = snapshot.gates.get(feature.pool)
        ceilings = {} if gate is None else gate.ceilings
        stop = why_stopped(feature, gate, now)
        seen = {
            tier: Seen(lane.issued_below, asked.came.get((name, tier), 0))
            for tier, lane in kept.lanes.items()
        }
        moved = step(kept, seen, asked.pace, ceilings if stop is None else stop, now)
        part = moved.model_copy(
            update={
                "lanes": {tier: self._judged(name, tier, moved, now) for tier in moved.lanes},
                "version": next_version(now, last.version),
                "expires_at": now + LIVES_S,
            }
        )
        if await self._redis.publish(part):
            self._published[name] = part
            await self._tell(asked, part, now)

    async def _with_numbers(self, asked: _Asked, last: WaitlistPart, now: float) -> WaitlistPart:
        name, lanes = asked.feature, {}
        for tier in lanes_of(asked.intent.tiers):
            leased = [each.lanes.get(name, {}).get(tier) for each in asked.gateways]
            leased_below = max((use.leased_below for use in leased if use is not None), default=0)
            lane = last.lanes.get(tier, Lane())
            lanes[tier] = await self._keeper.keep(name, tier, lane, leased_below, now)
        called = {tier: lane.called_below for tier, lane in lanes.items()}
        moves = last.moves
        if any(
            lane.called_below > last.lanes.get(t, Lane()).called_below for t, lane in lanes.items()
        ):
            moves = (*moves, (now, called))
        return last.model_copy(update={"lanes": lanes, "moves": moves})

    def _judged(self, name: str, tier: str, part: WaitlistPart, now: float) -> Lane:
        lane = part.lanes[tier]
        probes = self._probes.setdefault((name, tier), Probes(lane))
        return lane.model_copy(update={"late": probes.late(now)})

    async def _tell(self, asked: _Asked, part: WaitlistPart, now: float) -> None:
        name, at = asked.feature, datetime.fromtimestamp(now, UTC)
        subject = f"waitlist/{name}"
        if part.stopped_because != self._told_stopped.get(name):
            is_stopped = part.stopped_because is not None
            await self._outbox.tell(
                "waitlist.stopped" if is_stopped else "waitlist.resumed",
                subject=subject,
                at=at,
                feature=name,
                waiting=sum(lane.waiting for lane in part.lanes.values()),
                reason=part.stopped_because or "somebody may be called again",
            )
            self._told_stopped[name] = part.stopped_because
        for tier, lane in part.lanes.items():
            for forecast in self._probes[name, tier].close(lane.called_below, now):
                place = f"{tier}/{forecast.number}"
                await self._outbox.tell("waitlist.called", subject=subject, at=at, place=place)
            await self._forecast(asked, part, tier, now)

    async def _forecast(self, asked: _Asked, part: WaitlistPart, tier: str, now: float) -> None:
        """Say when somebody should be called, so that it can be held against when they are."""
        pool = asked.intent.pools.get(asked.intent.features[asked.feature].pool)
        made = self._probes[asked.feature, tier].make(part, tier, asked.pace, pool)
        if made is None:
            return
        dates = None if made.wait is None else made.wait.as_dates(now)
        await self._outbox.tell(
            "waitlist.forecast",
            subject=f"waitlist/{asked.feature}",
            at=datetime.fromtimestamp(now, UTC),
            place=f"{tier}/{made.number}",
            ahead=made.ahead,
            p50=None if dates is None else dates.p50.isoformat(),
            p90=None if dates is None else dates.p90.isoformat(),
        )


def _none_yet(feature: str, now: float) -> WaitlistPart:
    return WaitlistPart(feature=feature, version=0, issued_at=now, expires_at=now, lanes={})
