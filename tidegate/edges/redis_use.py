"""Who used which model, by tier: requests an hour, and different users a day."""

import base64
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final, cast

from datasketches import HLL_8, hll_sketch, hll_union

from tidegate.edges.redis import Redis
from tidegate.readings import Absent, UseOfModel

_USE: Final = "tidegate:use:"
_REPORTED: Final = "tidegate:use-reported:"
_KEPT: Final = timedelta(days=40)
_LOST: Final = "!lost"
"""Stands among those that reported on a day, and is no gateway's name."""
_LG_REGISTERS: Final = 14
"""2^14 registers of a byte: a relative standard error of 0.81 %, in 16 KiB."""


def new_sketch() -> hll_sketch:
    """Return an empty HyperLogLog."""
    return hll_sketch(_LG_REGISTERS, HLL_8)


def union(sketches: Iterable[hll_sketch]) -> hll_sketch:
    """Return the sketch of everybody who is in any of them."""
    joined = hll_union(_LG_REGISTERS)
    for sketch in sketches:
        joined.update(sketch)
    return joined.get_result(HLL_8)


@dataclass
class DayOfUse:
    """What one process saw of a day in UTC, as 2026-03-04."""

    day: str
    requests: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By model, tier and hour, as 09."""
    users: dict[tuple[str, str], hll_sketch] = field(default_factory=dict)
    """By model and tier."""
    changed: set[tuple[str, str]] = field(default_factory=set)
    """Models and tiers that were not published as they are now."""


class UseLog:
    """Writes one process's share of the counts, and reads the sum; all of it may be lost."""

    def __init__(self, redis: Redis, source: str = "") -> None:
        """Write in the name of `source`, which no other process has or had."""
        self._redis = redis
        self._source = source
        self._marked: set[str] = set()
        self._lost: set[str] = set()

    async def record(self, use: DayOfUse) -> None:
        """Write what changed, whole, and mark this day as one that the source reported on.

        Raises Unavailable; what was not written is written the next time.
        """
        pipeline = self._redis.commands.pipeline(transaction=True)
        marks = _REPORTED + use.day
        pipeline.sadd(marks, self._source)
        if use.day in self._lost:
            pipeline.sadd(marks, _LOST)
        pipeline.expire(marks, _KEPT)
        written = set(use.changed)
        for (model, tier, hour), count in use.requests.items():
            if (model, tier) in written:
                pipeline.hset(_key(model, use.day), f"{hour}/{tier}/{self._source}", str(count))
        for model, tier in written:
            users = base64.b64encode(use.users[model, tier].serialize_compact()).decode()
            pipeline.hset(_key(model, use.day), f"users/{tier}/{self._source}", users)
            pipeline.expire(_key(model, use.day), _KEPT)
        answers = cast("list[object]", await self._redis.call(pipeline.execute()))
        use.changed -= written
        if answers[0] == 1 and use.day in self._marked and use.day not in self._lost:
            # The mark of before is gone, and with it whatever others had written. What this
            # process has seen it writes again; for those who ended nobody can.
            self._lost.add(use.day)
            use.changed |= set(use.users)
            await self.record(use)
        self._marked = {use.day}

    async def use_of(
        self, model: str, over_days: int, today: date
    ) -> Mapping[str, UseOfModel] | Absent:
        """Return the use by tier over so many days (1 to 40) in UTC, the last of them `today`.

        A tier that is not there used nothing. Absent where a day has no report of any gateway, or
        where Redis lost what was counted on it.
        """
        days = [f"{today - timedelta(days=ago):%F}" for ago in range(over_days)]
        pipeline = self._redis.commands.pipeline(transaction=False)
        for day in days:
            pipeline.smembers(_REPORTED + day)
        for day in days:
            pipeline.hgetall(_key(model, day))
        answers = cast("list[object]", await self._redis.call(pipeline.execute()))
        for day, members in zip(days, cast("list[set[str]]", answers[:over_days]), strict=True):
            if not members:
                return Absent(f"no gateway reported on {day}")
            if _LOST in members:
                return Absent(f"Redis lost what was counted on {day}")
        return _by_tier(cast("list[Mapping[str, str]]", answers[over_days:]))


def _by_tier(days: Iterable[Mapping[str, str]]) -> Mapping[str, UseOfModel]:
    requests: Counter[str] = Counter()
    users: dict[str, list[hll_sketch]] = {}
    for day in days:
        for name, value in day.items():
            what, tier, _ = name.split("/", 2)
            if what == "users":
                sketch = hll_sketch.deserialize(base64.b64decode(value))
                users.setdefault(tier, []).append(sketch)
            else:
                requests[tier] += int(value)
    return {
        tier: UseOfModel(requests[tier], round(union(users[tier]).get_estimate()))
        for tier in sorted(requests)
    }


def _key(model: str, day: str) -> str:
    return f"{_USE}{model}:{day}"
