"""What manifests say of one another: names that must exist, ranks and reserves that must fit."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tidegate.catalogue import FeatureSpec, ModelSpec, PoolSpec, TierSpec
from tidegate.mistakes import nearest, shown
from tidegate.plans import PreviewSpec, RolloutSpec
from tidegate.quantities import format_duration, format_share
from tidegate.retiring import RetirementSpec

_REFERENCES: Final = (
    ("Pool", "model", "Model"),
    ("Pool", "gpuType", "Budget"),
    ("Supply", "gpuType", "Budget"),
    ("Feature", "pool", "Pool"),
    ("Feature", "requires.[]", "Feature"),
    ("Feature", "quotas.{}", "Tier"),
    ("Rollout", "feature", "Feature"),
    ("Rollout", "stages.[].tiers.[]", "Tier"),
    ("CodeRed", "core.[]", "Feature"),
    ("Preview", "feature", "Feature"),
    ("Preview", "becomes.stages.[].tiers.[]", "Tier"),
    ("Retirement", "model", "Model"),
    ("Retirement", "successor", "Model"),
    ("Retirement", "cutOffs.[].tiers.[]", "Tier"),
    ("Retirement", "useBelow.weights.{}", "Tier"),
    ("CodeRed", "keep.{}", "Pool"),
)
"""Which field of which kind holds the name of what; `[]` stands for each item of a list, `{}` for
each name that heads something."""


@dataclass(frozen=True, slots=True)
class Written:
    """One manifest as written, whether or not all of it is right; `title` leads its messages."""

    title: str
    kind: str
    name: str
    spec: object


def dangling_names(
    written: Iterable[Written], known: Mapping[str, Collection[str]]
) -> Iterator[str]:
    """Say which names nothing declares; `known` holds the declared names by kind."""
    for manifest in written:
        for kind, field, target in _REFERENCES:
            if manifest.kind != kind:
                continue
            for path, name in _at(manifest.spec, field.split("."), "spec"):
                if isinstance(name, str) and name and name not in known[target]:
                    near = nearest(name, known[target])
                    hint = f'Did you mean "{near}"?' if near else "Declare it, or correct the name."
                    yield (
                        f"{manifest.title}: {path}: got {shown(name)}, "
                        f"expected the name of a {target}. {hint}"
                    )


def shared_ranks(tiers: Mapping[str, TierSpec]) -> Iterator[str]:
    """Say which tiers have a rank that another has: one of them must be shed first."""
    first: dict[int, str] = {}
    for name, tier in tiers.items():
        if (other := first.setdefault(tier.rank, name)) != name:
            yield (
                f'Tier "{name}": spec.rank: got {tier.rank}, which "{other}" has, '
                "expected a rank of its own. Choose another."
            )


def circular_requirements(features: Mapping[str, FeatureSpec]) -> Iterator[str]:
    """Say which features require themselves, by however many steps; each circle once."""
    steps = {name: feature.requires for name, feature in features.items()}
    told: set[str] = set()
    for name in features:
        circle = _circle(name, steps)
        if circle is not None and told.isdisjoint(circle):
            told.update(circle)
            way = " → ".join([*circle, circle[0]])
            yield (
                f'Feature "{circle[0]}": spec.requires: got a circle ({way}), expected features '
                "that do not lead back to it. Drop one of the steps."
            )


def repeated_requirements(features: Mapping[str, FeatureSpec]) -> Iterator[str]:
    """Say which features name what they require more than once."""
    for name, feature in features.items():
        for required in dict.fromkeys(feature.requires):
            if (times := feature.requires.count(required)) > 1:
                yield (
                    f'Feature "{name}": spec.requires: got "{required}" {times} times, expected '
                    "each feature once. Drop the others."
                )


def circular_successors(retirements: Mapping[str, RetirementSpec]) -> Iterator[str]:
    """Say which models are to be replaced by themselves, by however many steps."""
    steps = {spec.model: (spec.successor,) for spec in retirements.values()}
    told: set[str] = set()
    for name, spec in retirements.items():
        circle = _circle(spec.model, steps)
        if circle is not None and told.isdisjoint(circle):
            told.update(circle)
            way = " → ".join([*circle, circle[0]])
            yield (
                f'Retirement "{name}": spec.successor: got a circle ({way}), expected '
                "a model that stays in the end. Name another."
            )


def short_notices(
    retirements: Mapping[str, RetirementSpec], tiers: Mapping[str, TierSpec]
) -> Iterator[str]:
    """Say which tiers would be told later than is promised; who lost the model before is told."""
    for name, spec in retirements.items():
        for tier, promised in tiers.items():
            end = spec.end_of(tier)
            if spec.announced_at < end < spec.announced_at + promised.notice:
                field = "sunsetAt" if end == spec.sunset_at else "cutOffs"
                yield (
                    f'Retirement "{name}": spec.{field}: got {end.isoformat()} for {tier}, '
                    f"expected {format_duration(promised.notice)} of notice at least, from "
                    f"{spec.announced_at.isoformat()} on. Move it later, or announce it earlier."
                )


def shared_surfaces(
    previews: Mapping[str, PreviewSpec], features: Mapping[str, FeatureSpec]
) -> Iterator[str]:
    """Say which previews are on a surface that another feature has: others would see them."""
    for name, preview in previews.items():
        shown = features.get(preview.feature)
        for other, feature in features.items():
            both = set(feature.surfaces) & set(() if shown is None else shown.surfaces)
            if other != preview.feature and both:
                yield (
                    f'Preview "{name}": spec.feature: got "{preview.feature}", whose surface '
                    f'"{min(both)}" is "{other}"\'s as well, expected a surface of its own. '
                    "Name another."
                )


def shared_aliases(models: Mapping[str, ModelSpec]) -> Iterator[str]:
    """Say which aliases are another model's name or alias: a caller would mean both."""
    first = {name: name for name in models}
    for name, model in models.items():
        for i, alias in enumerate(model.aliases):
            if alias in model.aliases[:i] or first.setdefault(alias, name) != name:
                yield (
                    f'Model "{name}": spec.aliases[{i}]: got {shown(alias)}, which means '
                    f'"{first[alias]}", expected a name that means one model. Choose another.'
                )


def _circle(start: str, steps: Mapping[str, Iterable[str]]) -> list[str] | None:
    """Return the names on a way from `start` back to itself."""
    seen: set[str] = set()
    ways = [[start]]
    while ways:
        way = ways.pop()
        for following in steps.get(way[-1], ()):
            if following == start:
                return way
            if following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return None


def overlapping_layers(features: Mapping[str, FeatureSpec]) -> Iterator[str]:
    """Say which features share users in a layer whose parts exclude one another."""
    parts = sorted(
        (feature.layer.name, feature.layer.start, feature.layer.end, name)
        for name, feature in features.items()
        if feature.layer is not None
    )
    for i, (layer, start, _, name) in enumerate(parts):
        # All before it: a long part may overlap more than the one that comes next.
        for other_layer, _, other_end, other in parts[:i]:
            if other_layer == layer and start < other_end:
                yield (
                    f'Feature "{name}": spec.layer.start: got {format_share(start)} of '
                    f'"{layer}", where "{other}" reaches to {format_share(other_end)}, expected '
                    "parts that do not overlap. Move the one or shorten the other."
                )


def unreachable_reserves(
    rollouts: Mapping[str, RolloutSpec],
    features: Mapping[str, FeatureSpec],
    pools: Mapping[str, PoolSpec],
) -> Iterator[str]:
    """Say which stages would wait for ever: their pool may not hold what they reserve in all."""
    for name, rollout in rollouts.items():
        feature = features.get(rollout.feature)
        pool = pools.get(feature.pool) if feature is not None else None
        if feature is None or pool is None:
            continue
        most = pool.max_replicas * pool.gpus_per_replica
        reserved = 0
        for i, stage in enumerate(rollout.stages):
            reserved += stage.reserve
            if stage.reserve and reserved > most:
                yield (
                    f'Rollout "{name}": spec.stages[{i}].reserve: got {stage.reserve}, with the '
                    f"stages before {reserved}, expected at most {most} in all, the most that "
                    f'pool "{feature.pool}" may hold. Lower it, or raise the pool\'s maxReplicas.'
                )


def surfaces_not_offered(
    rollouts: Mapping[str, RolloutSpec], features: Mapping[str, FeatureSpec]
) -> Iterator[str]:
    """Say which stages name a surface that their feature is not offered on."""
    for name, rollout in rollouts.items():
        feature = features.get(rollout.feature)
        offered = () if feature is None else feature.surfaces
        for i, stage in enumerate(rollout.stages):
            for j, surface in enumerate(stage.segment.surfaces):
                if feature is not None and surface not in offered:
                    yield (
                        f'Rollout "{name}": spec.stages[{i}].only.surfaces[{j}]: got "{surface}", '
                        f'expected one of {", ".join(offered)}. Offer feature "{rollout.feature}" '
                        "there, or correct the name."
                    )


def _at(value: object, steps: list[str], path: str) -> Iterator[tuple[str, object]]:
    if not steps:
        yield path, value
    elif steps[0] == "[]" and isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _at(item, steps[1:], f"{path}[{i}]")
    elif steps[0] == "{}" and isinstance(value, dict):
        yield from ((path, key) for key in value)
    elif isinstance(value, dict) and steps[0] in value:
        yield from _at(value[steps[0]], steps[1:], f"{path}.{steps[0]}")
