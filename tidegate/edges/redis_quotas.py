"""What users have used of their quotas, shared by all gateways; it may be lost with Redis."""

import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

from tidegate.edges.redis import Redis

AHEAD: Final = 10
"""Beyond what is needed now, a lease is given one in so many of the uses that are left."""
_QUOTA: Final = "tidegate:quota:"

# What a lease holds is written whole, as "NUMBER HELD" in the field "PART/LEASE", and an ask with
# a number that is not newer is dropped: an answer that was lost, or an ask that arrives late,
# counts nothing twice. A lease that ends adds what it used to the field "PART/", once.
_SCRIPT: Final = """
local key, lease, number, limit = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local part, counts_from, kept_ms = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local held, needed, ends = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9] == '1'
local field = part .. '/' .. lease
local mine = redis.call('HGET', key, field)
if ends then
  if mine and redis.call('HDEL', key, field) == 1 and held > 0 then
    redis.call('HINCRBY', key, part .. '/', held)
    redis.call('PEXPIRE', key, kept_ms)
  end
  return {0, 0}
end
local used, counts, parts = 0, {}, {}
local all = redis.call('HGETALL', key)
for n = 1, #all, 2 do
  local start = tonumber(string.match(all[n], '^%d+'))
  if start < counts_from - kept_ms then
    redis.call('HDEL', key, all[n])
  elseif start >= counts_from and all[n] ~= field then
    local count = tonumber(string.match(all[n + 1], '%d+$'))
    used = used + count
    if not counts[start] then parts[#parts + 1] = start end
    counts[start] = (counts[start] or 0) + count
  end
end
local left = limit - used - held
local granted = 0
if left > 0 and needed > 0 then
  granted = math.min(needed, left)
  granted = granted + math.floor((left - granted) / AHEAD)
end
held = held + granted
if not mine or tonumber(string.match(mine, '^%d+')) < number then
  redis.call('HSET', key, field, number .. ' ' .. held)
  redis.call('PEXPIRE', key, kept_ms)
end
local frees = 0
if granted < needed then
  local own = tonumber(part)
  if not counts[own] then parts[#parts + 1] = own end
  counts[own] = (counts[own] or 0) + held
  table.sort(parts)
  used = used + held
  for _, start in ipairs(parts) do
    used = used - counts[start]
    frees = start
    if used < limit then break end
  end
end
return {held, frees}
""".replace("AHEAD", str(AHEAD))
_SHA: Final = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


class Ask(NamedTuple):
    """A lease says what it holds of one user's quota, and asks for more."""

    key: str
    lease: str
    """Names the lease; no other of any gateway has or had it."""
    number: int
    """Higher with each ask of this lease."""
    limit: int
    part_ms: int
    counts_from_ms: int
    kept_ms: int
    held: int
    """What it used, with what it may use still; when it ends, what it used."""
    needed: int
    ends: bool


class Granted(NamedTuple):
    """What a lease holds from now on."""

    held: int
    frees_ms: int
    """The start of the part whose uses must stop counting before there is more; 0 if enough."""


class QuotaBook:
    """Leases uses to gateways: all of them together are never granted more than the limit."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def lease(self, asks: Sequence[Ask]) -> list[Granted]:
        """Return what is granted to each, in one round trip; raises Unavailable.

        Without any ask it tells whether Redis answers.
        """
        pipeline = self._redis.commands.pipeline(transaction=False)
        # Loaded each time, so that a Redis that lost it needs no second round trip.
        pipeline.script_load(_SCRIPT)
        for ask in asks:
            key, *arguments, ends = ask
            pipeline.evalsha(
                _SHA, 1, _QUOTA + key, *(str(each) for each in arguments), "1" if ends else "0"
            )
        _, *answers = cast("list[object]", await self._redis.call(pipeline.execute()))
        return [Granted(*cast("list[int]", answer)) for answer in answers]
