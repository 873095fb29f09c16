"""What a pool's gate means for one tier, before and after nothing is heard of it."""

from dataclasses import dataclass
from typing import Final

from tidegate.quantities import format_share
from tidegate.rules.gate import ceiling_in_force
from tidegate.snapshot import GatePart, IntentPart


@dataclass(frozen=True, slots=True)
class Gated:
    """Shares of a tier's users that are let in, 0 to 1, and what those left out are told."""

    ceiling: float
    ceiling_after_expiry: float
    reason: str
    reason_after_expiry: str
    retry_after_s: float | None


NEVER_GATED: Final = Gated(1.0, 1.0, "", "", None)


def gated(pool_name: str, tier: str, gate: GatePart | None, intent: IntentPart) -> Gated:
    """Work out what a pool's gate, or that there is none, means for a tier that is known."""
    if not intent.tiers[tier].gated:
        return NEVER_GATED
    pool = intent.pools.get(pool_name)
    if gate is not None:
        ceiling = ceiling_in_force(tier, gate.ceilings, gate.safe_share, intent.tiers)
        left = min(ceiling, ceiling_in_force(tier, {}, gate.safe_share, intent.tiers))
        return Gated(
            ceiling=ceiling,
            ceiling_after_expiry=left,
            reason=f"pool {pool_name} is {gate.state}: {gate.reason}",
            reason_after_expiry=_unheard(pool_name, tier, left),
            retry_after_s=gate.retry_after_s,
        )
    # A gate never heard of is not an open one: its tiers begin at the safe share.
    safe = 1.0 if pool is None else pool.safe_share
    retry_after_s = None if pool is None else pool.actuation_lag_s
    reason = _unheard(pool_name, tier, safe)
    return Gated(safe, safe, reason, reason, retry_after_s)


def _unheard(pool_name: str, tier: str, share: float) -> str:
    reach = f"{tier} is let in up to {format_share(share)}"
    return f"pool {pool_name}: nothing is heard of its gate; {reach}"
