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
if not is_open then return {run, -1, 0} end
return {run, tonumber(held[2]), tonumber(held[3])}
"""
)
# Only on the run that was looked at, and only as it was found: what was forgotten meanwhile, or
# is another server by now, must not be taken for what was open.
_OPEN: Final = (
    _IS_OPEN
    + """
if run ~= ARGV[1] or (ARGV[2] == 'anew') == (is_open and true or false) then return {-1, 0} end
local first, below = tonumber(ARGV[3]), tonumber(ARGV[4])
if is_open then
  first, below = tonumber(held[2]), math.max(below, tonumber(held[3]))
end
redis.call('HSET', KEYS[1], 'run', run, 'next', first, 'below', below)
return {first, below}
"""
)


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a lane may give out, on one run of a server: nothing where it is not `is_open`."""

    run: str
    next: int = 0
    below: int = 0
    """Numbers at or above are not open."""
    is_open: bool = False


class NumberBook:
    """Leases blocks of a lane's numbers to gateways; the gate controller opens them."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def lease(self, feature: str, tier: str, count: int) -> range:
        """Return up to so many numbers that nobody else gets; raises Unavailable for none."""
        first, granted = await self._run(_LEASE, feature, tier, count)
        if int(granted) <= 0:
            lane = f'waitlist "{feature}", tier {tier}'
            message = f"{lane}: no numbers are open. The gate controller opens them; ask again."
            raise Unavailable(message, code="numbers-closed")
        return range(int(first), int(first) + int(granted))

    async def look(self, feature: str, tier: str) -> Numbers:
        """Return what is open; after a loss, nothing is."""
        run, first, below = await self._run(_LOOK, feature, tier)
        is_open = int(first) >= 0
        return (
            Numbers(str(run), int(first), int(below), is_open=True)
            if is_open
            else Numbers(str(run))
        )

    async def open(self, feature: str, tier: str, found: Numbers, first: int, below: int) -> bool:
        """Open numbers from `first` to below `below`, or more of those that are `found` open.

        False where something else is there by now than was found; look again.
        """
        how = "more" if found.is_open else "anew"
        _, opened = await self._run(_OPEN, feature, tier, found.run, how, first, below)
        return int(opened) > 0

    async def _run(
        self, script: str, feature: str, tier: str, *arguments: int | str
    ) -> Sequence[int | str]:
        key = f"{_NUMBERS}{feature}/{tier}"
        texts = [str(each) for each in arguments]
        answer = await self._redis.call(self._redis.commands.eval(script, 1, key, *texts))
        return cast("Sequence[int | str]", answer)
