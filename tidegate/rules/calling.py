"""Who of those that wait may be called now: whom the feature would take in, and nobody else."""

from collections.abc import Iterable, Mapping

from tidegate.rules.decision import Decider
from tidegate.rules.exposure import FULL
from tidegate.rules.outcome import Outcome
from tidegate.rules.waitlist import Stop
from tidegate.snapshot import FeatureIntent, Snapshot


def may_be_called(
    decider: Decider, name: str, tiers: Iterable[str], now: float
) -> Mapping[str, float] | Stop:
    """Return how far each tier may be let in, 0 to 1, or why nobody of any is called.

    By the very rules that a sign-up is decided by: whoever is called and then refused has lost
    their place for nothing.
    """
    snapshot = decider.snapshot
    intent = snapshot.intent
    feature = None if intent is None else intent.features.get(name)
    if intent is None or feature is None or now > intent.expires_at:
        return Stop("nothing is heard of what people decided", by_people=False)
    stop = _stopped(snapshot, feature, now)
    if stop is not None:
        return stop
    reaches = {tier: _reach(decider, name, feature, tier, now) for tier in tiers}
    shut = [why for ceiling, why in reaches.values() if ceiling == 0.0]
    if shut and len(shut) == len(reaches):
        return Stop(shut[0], by_people=False)
    return {tier: ceiling for tier, (ceiling, _) in reaches.items()}


def _stopped(snapshot: Snapshot, feature: FeatureIntent, now: float) -> Stop | None:
    if feature.held_because is not None:
        return Stop(f"the feature is on hold: {feature.held_because}", by_people=True)
    if feature.signups.state == "suspended":
        # Also while they reopen for some: who of those that wait is among them is not known here.
        return Stop("sign-ups are suspended", by_people=True)
    gate, pool = snapshot.gates.get(feature.pool), f"pool {feature.pool}"
    if gate is None or now > gate.expires_at:
        return Stop(f"{pool}: nothing is heard of its gate", by_people=False)
    if gate.stale:
        return Stop(f"{pool} is not reopened: {gate.reason}", by_people=False)
    if gate.ceilings and not any(gate.ceilings.values()):
        return Stop(f"{pool} is {gate.state}: {gate.reason}", by_people=False)
    return None


def _reach(
    decider: Decider, name: str, feature: FeatureIntent, tier: str, now: float
) -> tuple[float, str]:
    """Return how far a tier may be let in, and why not at all where that is so."""
    rule = decider.rule(name, tier, feature.surfaces[0]) if feature.surfaces else None
    if rule is None or isinstance(rule, Outcome):
        return 0.0, f"{name} is offered nowhere"
    closed = decider.closed(rule, now)
    if closed is not None:
        return 0.0, closed.reason
    if not rule.exposed_below:
        return 0.0, f"{name} is not open for {tier}"
    return decider.ceiling_below(rule, now) / FULL, f"pool {feature.pool} lets in nobody of {tier}"
