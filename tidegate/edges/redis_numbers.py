"""The numbers that waitlists give out, leased to gateways in blocks; none is given out twice."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from tidegate.edges.redis import Redis
from tidegate.errors import Unavailable

_NUMBERS: Final = "tidegate:numbers:"

# A server that was started anew, or that follows the one that died, may have forgotten the newest
# leases. It has another run id, so nothing is leased there before numbers were opened above all
# that can have been leased.
_IS_OPEN: Final = """
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local held = redis.call('HMGET', KEYS[1], 'run', 'next', 'below')
local is_open = held[1] == run and held[2] and held[3]
"""
_LEASE: Final = (
    _IS_OPEN
    + """
if not is_open then return {-1, 0} end
local first = tonumber(held[2])
local count = math.max(0, math.min(tonumber(ARGV[1]), tonumber(held[3]) - first))
redis.call('HINCRBY', KEYS[1], 'next', count)
return {first, count}
"""
)
_LOOK: Final = (
    _IS_OPEN
    + """
if not is_open then return {-1, 0} end
return {tonumber(held[2]), tonumber(held[3])}
"""
)
_OPEN: Final = (
    _IS_OPEN
    + """
local first, below = tonumber(ARGV[1]), tonumber(ARGV[2])
if is_open then
  first, below = math.max(first, tonumber(held[2])), math.max(below, tonumber(held[3]))
end
redis.call('HSET', KEYS[1], 'run', run, 'next', first, 'below', below)
return {first, below}
"""
)


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a lane may give out: the next number, and below which one to stay."""

    next: int
    below: int


class NumberBook:
    """Leases blocks of a lane's numbers to gateways; the gate controller opens them."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def lease(self, feature: str, tier: str, count: int) -> range:
        """Return up to so many numbers that nobody else gets; raises Unavailable for none."""
        first, granted = await self._run(_LEASE, feature, tier, count)
        if granted <= 0:
            lane = f'waitlist "{feature}", tier {tier}'
            message = f"{lane}: no numbers are open. The gate controller opens them; ask again."
            raise Unavailable(message, code="numbers-closed")
        return range(first, first + granted)

    async def look(self, feature: str, tier: str) -> Numbers | None:
        """Return what is open; None where nothing is, as after a loss."""
        first, below = await self._run(_LOOK, feature, tier)
        return None if first < 0 else Numbers(first, below)

    async def open(self, feature: str, tier: str, first: int, below: int) -> Numbers:
        """Open numbers, never lower ones than are open; returns what is open then."""
        return Numbers(*await self._run(_OPEN, feature, tier, first, below))

    async def _run(self, script: str, feature: str, tier: str, *arguments: int) -> Sequence[int]:
        key = f"{_NUMBERS}{feature}/{tier}"
        texts = [str(each) for each in arguments]
        answer = await self._redis.call(self._redis.commands.eval(script, 1, key, *texts))
        return cast("Sequence[int]", answer)
