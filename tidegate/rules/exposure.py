"""Who is in: sticky shares of a tier, decided by a hash and nothing else."""

from typing import Final

from xxhash import xxh3_64_intdigest

FULL: Final = 1 << 64
"""One past the largest 64-bit hash: the threshold that lets everybody in."""


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


def salted(salt: str) -> bytes:
    """Return what comes before a user's bytes in what is hashed."""
    return as_bytes(salt) + b"\0"


def as_bytes(text: str) -> bytes:
    """Encode any text, also half of a surrogate pair, which an identifier from JSON can hold."""
    return text.encode(errors="surrogatepass")


def is_exposed(feature: str, user: str, share: float) -> bool:
    """Say whether this user is among the share of their tier that a feature is exposed to."""
    return place(feature, user) < threshold(share)
