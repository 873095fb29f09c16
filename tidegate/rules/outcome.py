"""What is asked, and what is answered: one code, one reason, interned for each snapshot."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec

from tidegate.rules.quota import Quota
from tidegate.snapshot import DateRange

Attributes = Mapping[str, object]
"""What the caller says of a user beside tier and surface: region, cohorts, and its own."""

NOTHING_SAID: Final[Attributes] = MappingProxyType({})


class Code(StrEnum):
    """Why, for machines; stable, and counted apart."""

    ALLOWED = "allowed"
    NOT_EXPOSED = "not-exposed"
    NOT_IN_AUDIENCE = "not-in-audience"
    PREREQUISITE = "prerequisite"
    LAYER_EXCLUDED = "layer-excluded"
    GATE_SHED = "gate-shed"
    QUOTA_EXCEEDED = "quota-exceeded"
    RATE_LIMITED = "rate-limited"
    QUOTA_UNKNOWN = "quota-unknown"
    SIGNUPS_SUSPENDED = "signups-suspended"
    WAITLISTED = "waitlisted"
    KILLED = "killed"
    MODEL_BROWNOUT = "model-brownout"
    MODEL_RETIRED = "model-retired"
    SURFACE_CLOSED = "surface-closed"
    FEATURE_UNKNOWN = "feature-unknown"
    TIER_UNKNOWN = "tier-unknown"
    INTENT_STALE = "intent-stale"


class Asks(StrEnum):
    """Whether somebody inside wants to use a feature, or somebody outside wants to come in."""

    USE = "use"
    SIGNUP = "signup"


class Question(msgspec.Struct, frozen=True, gc=False):
    """Who wants to use what, and where; a struct, because one is made for each request."""

    feature: str
    user: str
    tier: str
    surface: str
    attributes: Attributes = NOTHING_SAID
    asks: Asks = Asks.USE


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer with its reason; interned, so a snapshot makes each once."""

    allowed: bool
    code: Code
    reason: str
    feature: str
    tier: str
    pool: str | None
    version: int
    opens: DateRange | None = None
    retry_after_s: float | None = None
    """When to come back, before jitter; None where coming back soon does not help."""
    until: float | None = None
    """When this refusal ends, in seconds since the epoch, where that is known."""
    quotas: tuple[Quota, ...] = ()
    """What a use takes from, where it is allowed."""
    counted_under: tuple[str, str, str] = field(init=False, repr=False, compare=False)
    """Pool, tier and code, ready to be counted under; what nobody published counts as none."""

    def __post_init__(self) -> None:
        tier = "" if self.code is Code.FEATURE_UNKNOWN else self.tier
        # An enumeration is hashed by slow code of its own; its value is not.
        object.__setattr__(self, "counted_under", (self.pool or "", tier, self.code.value))
