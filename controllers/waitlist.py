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
from tidegate.kills import KillReader
from tidegate.readings import DemandReading
from tidegate.rules.calling import may_be_called
from tidegate.rules.decision import Decider
from tidegate.rules.waitlist import Seen, lanes_of, step
from tidegate.signing import Keyring
from tidegate.snapshot import (
    IntentPart,
    KillPart,
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

    def __init__(
        self, redis: Redis, record: Record, outbox: Outbox, keys: Keyring | None = None
    ) -> None:
        """Believe orders to close a feature that `keys` signed; none without keys."""
        self._redis = redis
        self._kills = KillReader(keys)
        self._orders: Mapping[str, KillPart] = {}
        self._outbox = outbox
        self._keeper = LaneKeeper(NumberBook(redis), record)
        self._came = Came()
        self._published: dict[str, WaitlistPart] = {}
        self._probes: dict[tuple[str, str], Probes] = {}
        self._told_stopped: dict[str, str | None] = {}

    async def tick(self, now: float) -> None:
        """Move each feature's waitlist on, and publish it."""
        snapshot = await self._snapshot(now)
        _, gateways = await self._redis.readings(gpus=False)
        came = self._came.since_last(gateways)
        intent = snapshot.intent
        if intent is not None:
            decider = Decider(snapshot)
            for name, feature in intent.features.items():
                if feature.waitlist is not None:
                    asked = _Asked(name, feature.waitlist, intent, gateways, came)
                    await self._move(asked, decider, now)
        await self._outbox.tick(datetime.fromtimestamp(now, UTC))

    async def _snapshot(self, now: float) -> Snapshot:
        published = await self._redis.published()
        orders = self._kills.verified(published.kills, self._orders)
        self._orders = self._kills.in_force(orders, self._orders, now)
        return published.snapshot.model_copy(update={"kills": self._orders})

    async def _move(self, asked: _Asked, decider: Decider, now: float) -> None:
        name = asked.feature
        known = [
            decider.snapshot.waitlists.get(name),
            self._published.get(name),
            *(echoed(WaitlistPart, each.waitlists.get(name)) for each in asked.gateways),
        ]
        last = newest(waitlist_part(name), known, asked.gateways) or _none_yet(name, now)
        kept = await self._with_numbers(asked, last, now)
        seen = {
            tier: Seen(lane.issued_below, asked.came.get((name, tier), 0))
            for tier, lane in kept.lanes.items()
        }
        gate = may_be_called(decider, name, seen, now)
        moved = step(kept, seen, asked.pace, gate, now)
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
            lane = await self._keeper.keep(name, tier, last.lanes.get(tier), leased_below, now)
            if lane is not None:
                lanes[tier] = lane
        called = {tier: lane.called_below for tier, lane in lanes.items()}
        before = {tier: last.lanes.get(tier, Lane()).called_below for tier in lanes}
        moves = last.moves
        if called != before:
            moves = (*moves, (now + asked.pace.claim_window_s, called))
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
