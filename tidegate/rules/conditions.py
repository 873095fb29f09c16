"""What a feature asks of a user beside a place below the exposure, and beside other features."""

from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Final

from xxhash import xxh3_64_intdigest

from tidegate.audience import AudienceSpec
from tidegate.rules.audience import Test, compile_audience
from tidegate.rules.exposure import FULL, as_bytes, salted, threshold
from tidegate.rules.outcome import Attributes, Code
from tidegate.snapshot import FeatureIntent


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a feature asks; without what it requires, the same in every tier."""

    invited: frozenset[str] = frozenset()
    audience: tuple[Test, ...] = ()
    layer_salt: bytes = b""
    layer_from: int = 0
    layer_below: int = FULL
    requires: tuple["Reach", ...] = ()
    wider: tuple["Wider", ...] = ()

    def missed_by(
        self, user: str, said: Attributes, hashed: int, exposed_below: int
    ) -> Code | None:
        """Return why a feature does not reach a user; None where it does.

        `hashed` is the user's place in the feature's order, and `exposed_below` what all are let
        in below.
        """
        for required in self.requires:
            if not required.takes_in(user, said):
                return Code.PREREQUISITE
        if user in self.invited:
            return None
        for passes in self.audience:
            if not passes(said):
                return Code.NOT_IN_AUDIENCE
        if self.layer_salt:
            place = xxh3_64_intdigest(self.layer_salt + as_bytes(user))
            if not self.layer_from <= place < self.layer_below:
                return Code.LAYER_EXCLUDED
        if hashed < exposed_below or any(each.takes_in(said, hashed) for each in self.wider):
            return None
        return Code.NOT_EXPOSED


@dataclass(frozen=True, slots=True)
class Wider:
    """A part of a tier that a feature is exposed to further than to all of it."""

    audience: tuple[Test, ...]
    exposed_below: int

    def takes_in(self, said: Attributes, hashed: int) -> bool:
        """Say whether a user at this place is let in as one of this part."""
        return hashed < self.exposed_below and all(passes(said) for passes in self.audience)


@dataclass(frozen=True, slots=True)
class Reach:
    """Whom a feature reaches in one tier, apart from what it requires in turn."""

    salt: bytes
    exposed_below: int
    conditions: Conditions

    def takes_in(self, user: str, said: Attributes) -> bool:
        """Say whether a user is among them."""
        hashed = xxh3_64_intdigest(self.salt + as_bytes(user))
        return self.conditions.missed_by(user, said, hashed, self.exposed_below) is None


NOTHING_ASKED: Final = Conditions()
NOBODY: Final = Reach(b"", 0, NOTHING_ASKED)


def conditions_of(feature: FeatureIntent) -> Conditions:
    """Compile what a feature asks, apart from what it requires."""
    layer = feature.layer
    if not (feature.invited or feature.audience or layer):
        return NOTHING_ASKED
    return Conditions(
        invited=frozenset(feature.invited),
        audience=() if feature.audience is None else compile_audience(feature.audience),
        layer_salt=b"" if layer is None else salted(f"layer/{layer.name}"),
        layer_from=0 if layer is None else threshold(layer.start),
        layer_below=FULL if layer is None else threshold(layer.end),
    )


def reach_of(feature: FeatureIntent, tier: str, surface: str) -> tuple[float, tuple[Wider, ...]]:
    """Return the share of a tier that is in on a surface, and the parts that are in further."""
    share, wider = feature.exposure.get(tier, 0.0), list[Wider]()
    for opening in feature.openings:
        segment = opening.segment
        if opening.tier != tier or (segment.surfaces and surface not in segment.surfaces):
            continue
        if segment.regions or segment.cohorts:
            meant = AudienceSpec(regions=segment.regions, cohorts=segment.cohorts)
            wider.append(Wider(compile_audience(meant), threshold(opening.share)))
        else:
            share = max(share, opening.share)
    return share, tuple(wider)


def all_required(feature: str, features: Mapping[str, FeatureIntent]) -> tuple[str, ...] | None:
    """Name all that a feature requires, by however many steps.

    None where nobody can have it all: something is missing, is offered nowhere, or is in a
    circle. Such plans are refused on load; a published one lets nobody in.
    """
    steps: dict[str, tuple[str, ...]] = {feature: features[feature].requires}
    ahead = list(features[feature].requires)
    while ahead:
        name = ahead.pop()
        required = features.get(name)
        if required is None or not required.surfaces:
            return None
        if name not in steps:
            steps[name] = required.requires
            ahead.extend(required.requires)
    try:
        order = tuple(TopologicalSorter(steps).static_order())
    except CycleError:
        return None
    return order[:-1]
