"""Who used which model, by tier: requests an hour, and different users a day."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final, cast

from tidegate.edges.redis import Redis
from tidegate.readings import Absent, UseOfModel

_USE: Final = "tidegate:use:"
_USERS: Final = "tidegate:users:"
_REPORTED: Final = "tidegate:use-reported:"
_KEPT: Final = timedelta(days=40)
_AT_ONCE: Final = 1000
_LOST: Final = "!lost"
"""Stands among the gateways that reported on a day, and is no gateway's name."""

OnDay = tuple[str, str, str]
"""Model, tier and day in UTC, as 2026-03-04."""


@dataclass
class Uses:
    """What was used and is not published yet."""

    requests: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By model, tier and hour in UTC, as 2026-03-04/09."""
    users: dict[OnDay, set[str]] = field(default_factory=dict)
    dropped: Counter[OnDay] = field(default_factory=Counter)
    """Uses whose user is in no count of users."""

    def add_users(self, key: OnDay, users: set[str], most: int) -> int:
        """Add users up to a bound; returns how many were dropped beyond it."""
        held = self.users.setdefault(key, set())
        new = users - held
        room = max(0, most - len(held))
        held.update(list(new)[:room])
        over = max(0, len(new) - room)
        self.dropped[key] += over
        return over


class UseLog:
    """Adds to the counts in the name of a gateway, and reads them; all of it may be lost."""

    def __init__(self, redis: Redis, gateway: str = "") -> None:
        self._redis = redis
        self._gateway = gateway
        self._marked_on = ""
        self._lost_on = ""

    async def record(self, uses: Uses, at: datetime) -> None:
        """Add uses, all or none, and mark this day as one that the gateway reported on."""
        today = at.strftime("%Y-%m-%d")
        pipeline = self._redis.commands.pipeline(transaction=True)
        pipeline.sadd(_REPORTED + today, self._gateway)
        keys = {_REPORTED + today}
        if self._lost_on:
            pipeline.sadd(_REPORTED + self._lost_on, _LOST)
            keys.add(_REPORTED + self._lost_on)
        for (model, tier, hour), count in uses.requests.items():
            day, _, of_day = hour.partition("/")
            pipeline.hincrby(f"{_USE}{model}:{day}", f"requests/{tier}/{of_day}", count)
            keys.add(f"{_USE}{model}:{day}")
        for (model, tier, day), count in uses.dropped.items():
            if count:
                pipeline.hincrby(f"{_USE}{model}:{day}", f"dropped/{tier}", count)
                keys.add(f"{_USE}{model}:{day}")
        for (model, tier, day), users in uses.users.items():
            for page in _pages(users):
                pipeline.pfadd(_users_key(model, tier, day), *page)
            keys.add(_users_key(model, tier, day))
        for key in keys:
            pipeline.expire(key, _KEPT)
        answers = cast("list[object]", await self._redis.call(pipeline.execute()))
        # What this gateway marked is gone, and with it whatever was counted on this day.
        self._lost_on = today if answers[0] == 1 and self._marked_on == today else ""
        self._marked_on = today

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
            pipeline.hgetall(f"{_USE}{model}:{day}")
        answers = cast("list[object]", await self._redis.call(pipeline.execute()))
        for day, members in zip(days, cast("list[set[str]]", answers[:over_days]), strict=True):
            if not members:
                return Absent(f"no gateway reported on {day}")
            if _LOST in members:
                return Absent(f"Redis lost what was counted on {day}")
        counts = cast("list[Mapping[str, str]]", answers[over_days:])
        requests, dropped = _by_tier(counts, "requests"), _by_tier(counts, "dropped")
        found: dict[str, UseOfModel] = {}
        for tier in sorted(requests):
            keys = [_users_key(model, tier, day) for day in days]
            users = cast("int", await self._redis.call(self._redis.commands.pfcount(*keys)))
            if not users:
                return Absent(f"the users of tier {tier} were lost")
            found[tier] = UseOfModel(requests[tier], users, dropped[tier])
        return found


def _by_tier(days: Iterable[Mapping[str, str]], what: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for day in days:
        for name, count in day.items():
            kind, tier, *_ = name.split("/")
            if kind == what:
                counts[tier] += int(count)
    return counts


def _pages(users: set[str]) -> Iterable[list[str]]:
    listed = list(users)
    for start in range(0, len(listed), _AT_ONCE):
        yield listed[start : start + _AT_ONCE]


def _users_key(model: str, tier: str, day: str) -> str:
    return f"{_USERS}{model}:{tier}:{day}"
