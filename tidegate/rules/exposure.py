"""Who is in: sticky shares of a tier, decided by a hash and nothing else."""

from functools import lru_cache
from typing import Final

from xxhash import xxh3_64_intdigest

FULL: Final = 1 << 64
"""One past the largest 64-bit hash: the threshold that lets everybody in."""

SHED_ROTATION_S: Final = 3600.0
"""Who is shed inside a tier changes hourly, so that it is not always the same users."""

_TURN: Final = 0xBB67AE8584CAA73B
"""How far the order of shedding turns each hour, of 2^64: the part of √3 behind the point.

Turned by such a number, and not drawn anew, everybody's refusals over a day come to nearly the same
count. This one is also even over the days where only one and the same hour of each is narrowed,
which the golden ratio is not: 24 of its turns come back to where they began within six days.
"""


@lru_cache(maxsize=1024)
def threshold(share: float) -> int:
    """Turn a share from 0 to 1 into the hash value below which a user is in; beyond is clipped."""
    # Written so that NaN lets nobody in, and no published number can make a request fail.
    return (FULL if share >= 1.0 else round(share * FULL)) if share > 0.0 else 0


def place(salt: str, user: str) -> int:
    """Give a user a fixed place from 0 to 2^64 - 1 under this salt.

    The place never moves, so raising a share only adds users, lowering it drops those who came
    in last, and a restarted rollout does not reshuffle. The salt is the feature's name, so that
    features are independent of one another.
    """
    return xxh3_64_intdigest(salted(salt) + as_bytes(user))


def shed_place(pool: str, user: str, now: float) -> int:
    """Give a user a place in a pool's order of shedding, for the hour that `now` is in.

    They are let in while it is below the ceiling. All places of a pool turn together each hour;
    those of two pools, and of a pool and a feature, are independent.
    """
    fixed = xxh3_64_intdigest(_shed_salt(pool) + as_bytes(user))
    return (fixed + int(now // SHED_ROTATION_S) * _TURN) % FULL


@lru_cache(maxsize=1024)
def _shed_salt(pool: str) -> bytes:
    # No feature can be called so: a name has no slash.
    return salted(f"shed/{pool}")


def salted(salt: str) -> bytes:
    """Return what comes before a user's bytes in what is hashed."""
    return as_bytes(salt) + b"\0"


def as_bytes(text: str) -> bytes:
    """Encode any text, also half of a surrogate pair, which an identifier from JSON can hold."""
    return text.encode(errors="surrogatepass")


def is_exposed(feature: str, user: str, share: float) -> bool:
    """Say whether this user is among the share of their tier that a feature is exposed to."""
    return place(feature, user) < threshold(share)
