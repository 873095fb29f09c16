"""Redis: what is published and what is counted. It may be lost at any time."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, cast

from pydantic import ValidationError
from redis.asyncio.client import PubSub

from tidegate.edges import redis_readings as readings
from tidegate.edges.parts import IntentReader
from tidegate.edges.redis_link import DEADLINE_S, LOST, RedisLink
from tidegate.errors import Unavailable
from tidegate.events import Event
from tidegate.readings import DemandReading, NodeReading
from tidegate.snapshot import (
    INTENT,
    GatePart,
    IntentPart,
    KillPart,
    Snapshot,
    WaitlistPart,
    gate_part,
    kill_part,
    waitlist_part,
)

_PARTS: Final = "tidegate:parts"
_KILLS: Final = kill_part("")
_WAITLISTS: Final = waitlist_part("")
_EVENTS: Final = "tidegate:events"
_ACKED: Final = "tidegate:acked"
_EVENTS_KEPT: Final = 100_000
_TOGETHER_S: Final = 0.02
"""Readings that move a level so shortly after one another are looked at together."""

Part = IntentPart | GatePart | WaitlistPart
"""What one writer publishes in one piece."""

# A part is replaced by a newer version only, so that a late writer cannot undo its successor.
_PUBLISH: Final = """
local written = {}
for i = 1, #ARGV, 3 do
  local held = redis.call('HGET', KEYS[1], ARGV[i])
  local version = held and tonumber(string.match(held, '^%d+') or '')
  if version and version >= tonumber(ARGV[i + 1]) then
    written[#written + 1] = 0
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1] .. ' ' .. ARGV[i + 2])
    redis.call('PUBLISH', KEYS[1], ARGV[i])
    written[#written + 1] = 1
  end
end
return written
"""


# An order to close a feature is written over the very token that its writer saw.
_PUBLISH_OVER: Final = """
local held = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if ARGV[4] == 'seen' and (string.match(held, ' (.*)$') or held) ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PUBLISH', KEYS[1], ARGV[1])
return 1
"""
_DROP_SEEN: Final = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
"""


# A large part that is held already never leaves the server; orders are few, and always told whole.
_READ: Final = """
local held, found = {}, {}
for i = 2, #ARGV, 2 do held[ARGV[i]] = tonumber(ARGV[i + 1]) end
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  local is_order = string.sub(name, 1, 5) == 'kill/'
  if is_order or ARGV[1] == '' or ARGV[1] == name then
    local value = redis.call('HGET', KEYS[1], name)
    local version = tonumber(string.match(value, '^%d+') or '')
    if is_order or not (version and held[name] and version <= held[name]) then
      found[#found + 1] = name
      found[#found + 1] = value
    end
  end
end
return found
"""


@dataclass(frozen=True, slots=True)
class Published:
    """The parts, and by feature the tokens of orders to close it, which nobody has checked yet."""

    snapshot: Snapshot
    kills: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Heard:
    """A page of the stream: its events, where to read on, and the ids of what is no event."""

    events: tuple[Event, ...]
    after: str
    ids: tuple[str, ...] = ()
    """Where in the stream each of the events is."""
    unreadable: tuple[str, ...] = ()


class PartChanges:
    """A subscription to the parts as they are published."""

    def __init__(self, subscription: PubSub) -> None:
        self._subscription = subscription

    async def wait(self, at_most_s: float) -> str | None:
        """Return the name of a part that was published, None when none was in that time.

        Raises Unavailable when the connection is lost.
        """
        try:
            message = await self._subscription.get_message(timeout=at_most_s)
        except LOST as error:
            lost = f"redis: the subscription was lost ({error}). It is taken up again."
            raise Unavailable(lost, code="redis-unavailable") from error
        return None if message is None else str(message["data"])


class ReadingChanges:
    """A subscription to the readings that others should not wait a period for."""

    def __init__(self, subscription: PubSub) -> None:
        self._subscription = subscription

    async def wait(self, at_most_s: float) -> bool:
        """Return once a level has moved, and what moved with it; False when none did in that time.

        Raises Unavailable when the connection is lost.
        """
        clock = asyncio.get_running_loop().time
        until_s, first = clock() + at_most_s, None
        try:
            # The answer to the subscription itself is read as nothing, and at once.
            while first is None and (left_s := until_s - clock()) > 0.0:
                first = await self._subscription.get_message(timeout=left_s)
            if first is not None:
                await asyncio.sleep(_TOGETHER_S)
                while await self._subscription.get_message(timeout=0.0) is not None:
                    pass
        except LOST as error:
            lost = f"redis: the subscription was lost ({error}). It is taken up again."
            raise Unavailable(lost, code="redis-unavailable") from error
        return first is not None


class Redis(RedisLink):
    """One connection pool; every call has a deadline and raises Unavailable."""

    def __init__(self, url: str, deadline_s: float = DEADLINE_S) -> None:
        super().__init__(url, deadline_s)
        self._intents = IntentReader()

    async def publish(self, part: Part) -> bool:
        """Write a snapshot part; False when a version at least as new is there already."""
        (is_newest,) = await self.publish_all([part])
        return is_newest

    async def publish_all(self, parts: Sequence[Part]) -> tuple[bool, ...]:
        """Write parts in one round trip; says of each whether it is the newest now."""
        texts: list[str] = []
        for part in parts:
            texts += (_name_of(part), str(part.version), part.model_dump_json())
        written = await self.call(self.commands.eval(_PUBLISH, 1, _PARTS, *texts))
        return tuple(each == 1 for each in cast("list[int]", written))

    async def snapshot(self) -> Snapshot:
        """Read every part but orders to close a feature; what cannot be read is left out."""
        return (await self.published()).snapshot

    async def published(
        self, held: Mapping[str, int] | None = None, *, only: str = ""
    ) -> Published:
        """Read the parts that are newer than those `held`, by version; without it, every part.

        Orders to close a feature are always there, all of them and as they are written. `only`
        names the one part that is read beside them.
        """
        known = [str(each) for part in (held or {}).items() for each in part]
        read = await self.call(self.commands.eval(_READ, 1, _PARTS, only, *known))
        found = iter(cast("list[str]", read))
        intent: IntentPart | None = None
        gates: dict[str, GatePart] = {}
        waitlists: dict[str, WaitlistPart] = {}
        kills: dict[str, str] = {}
        for name, text in zip(found, found, strict=True):
            body = text.partition(" ")[2]
            if name.startswith(_KILLS):
                kills[name.removeprefix(_KILLS)] = body
                continue
            try:
                if name == INTENT:
                    intent = self._intents.read(body)
                elif name.startswith(_WAITLISTS):
                    waitlist = WaitlistPart.model_validate_json(body)
                    waitlists[waitlist.feature] = waitlist
                else:
                    gate = GatePart.model_validate_json(body)
                    gates[gate.pool] = gate
            except ValidationError:
                continue  # written by another release; its reader keeps what it holds
        return Published(Snapshot(intent=intent, gates=gates, waitlists=waitlists), kills)

    async def publish_kill(self, part: KillPart, *, over: str | None) -> bool:
        """Write a signed order over the token that was seen there, "" where there was nothing.

        None writes over whatever is there: for what was seen to be no order. False when another
        token is there by now.
        """
        name, text = kill_part(part.feature), _as_text(part)
        check = "any" if over is None else "seen"
        arguments = (_PARTS, name, text, over or "", check)
        return await self.call(self.commands.eval(_PUBLISH_OVER, 1, *arguments)) == 1

    async def drop_kill(self, part: KillPart) -> None:
        """Drop an order that is over, where it is there yet."""
        name = kill_part(part.feature)
        await self.call(self.commands.eval(_DROP_SEEN, 1, _PARTS, name, _as_text(part)))

    async def readings(
        self, *, gpus: bool = True
    ) -> tuple[tuple[NodeReading, ...], tuple[DemandReading, ...]]:
        """Return the last reading of every node and every gateway, however old.

        Without `gpus`, no node says more of its cards than which are sick and which well.
        """
        asked = "gpus" if gpus else ""
        names = (readings.READINGS, readings.GPUS)
        found = await self.call(self.commands.eval(readings.READ, 2, *names, asked))
        return readings.read_all(*cast("list[str]", found))

    async def forget_reading(self, field: str) -> None:
        """Drop what a node or gateway that is gone for good last read."""
        pipeline = self.commands.pipeline(transaction=True)
        pipeline.hdel(readings.READINGS, field)
        pipeline.hdel(readings.GPUS, field)
        await self.call(pipeline.execute())

    async def append(self, events: Sequence[Event]) -> None:
        """Append events to the stream, in order."""
        pipeline = self.commands.pipeline(transaction=False)
        for event in events:
            pipeline.xadd(
                _EVENTS, {"event": event.model_dump_json()}, maxlen=_EVENTS_KEPT, approximate=True
            )
        await self.call(pipeline.execute())

    async def events(self, *, after: str, wait_s: float = 0.0) -> Heard:
        """Read at most 500 entries behind a stream id ("0" for all), waiting `wait_s` for one.

        `wait_s` stays below the deadline of a call. What is no event is named, never raised:
        whoever can write to the stream must not be able to stop those who read it.
        """
        block_ms = int(min(wait_s, DEADLINE_S * 0.75) * 1000) or None
        found = await self.call(self.commands.xread({_EVENTS: after}, count=500, block=block_ms))
        streams = cast("list[tuple[str, list[tuple[str, dict[str, str]]]]]", found or [])
        entries = [entry for _, page in streams for entry in page]
        events: list[Event] = []
        ids: list[str] = []
        unreadable: list[str] = []
        for stream_id, fields in entries:
            try:
                events.append(Event.model_validate_json(fields["event"]))
                ids.append(stream_id)
            except (KeyError, ValidationError):
                unreadable.append(stream_id)
        last = entries[-1][0] if entries else after
        return Heard(tuple(events), last, tuple(ids), tuple(unreadable))

    async def last_stream_id(self) -> str | None:
        """Return the id of the stream's last entry; None when it has none, as after a loss."""
        found = await self.call(self.commands.xrevrange(_EVENTS, count=1))
        entries = cast("list[tuple[str, dict[str, str]]]", found)
        return entries[0][0] if entries else None

    async def acknowledge(self, recorded: Mapping[str, int]) -> None:
        """Tell producers up to which sequence, without a gap, their events are recorded."""
        if recorded:
            await self.call(
                self.commands.hset(_ACKED, mapping={k: str(v) for k, v in recorded.items()})
            )

    async def acknowledged(self, source: str) -> int | None:
        """Return up to which sequence a source's events are recorded; None when unknown."""
        text = await self.call(self.commands.hget(_ACKED, source))
        return None if text is None else int(cast("str", text))

    @asynccontextmanager
    async def part_changes(self) -> AsyncIterator[PartChanges]:
        """Subscribe to the names of parts as they change."""
        subscription = self.commands.pubsub(ignore_subscribe_messages=True)
        try:
            await self.call(subscription.subscribe(_PARTS))
            yield PartChanges(subscription)
        finally:
            await subscription.aclose()  # type: ignore[no-untyped-call]

    @asynccontextmanager
    async def reading_changes(self) -> AsyncIterator[ReadingChanges]:
        """Subscribe to the readings that move a level."""
        subscription = self.commands.pubsub(ignore_subscribe_messages=True)
        try:
            await self.call(subscription.subscribe(readings.CHANGED))
            yield ReadingChanges(subscription)
        finally:
            await subscription.aclose()  # type: ignore[no-untyped-call]


def _name_of(part: Part) -> str:
    match part:
        case IntentPart():
            return INTENT
        case GatePart():
            return gate_part(part.pool)
        case WaitlistPart():
            return waitlist_part(part.feature)


def as_json(part: GatePart | WaitlistPart) -> str:
    """Return a part as the text that gateways echo."""
    return json.dumps(part.model_dump(mode="json"), sort_keys=True)


def _as_text(kill: KillPart) -> str:
    return f"{kill.version} {kill.token}"
