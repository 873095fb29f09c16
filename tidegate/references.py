"""What manifests say of one another: names that must exist, ranks and reserves that must fit."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tidegate.catalogue import FeatureSpec, PoolSpec, TierSpec
from tidegate.mistakes import nearest, shown
from tidegate.plans import RolloutSpec

_REFERENCES: Final = (
    ("Pool", "model", "Model"),
    ("Pool", "gpuType", "Budget"),
    ("Feature", "pool", "Pool"),
    ("Rollout", "feature", "Feature"),
    ("Rollout", "stages.[].tiers.[]", "Tier"),
)
"""Which field of which kind holds the name of what; `[]` stands for each item of a list."""


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


def _at(value: object, steps: list[str], path: str) -> Iterator[tuple[str, object]]:
    if not steps:
        yield path, value
    elif steps[0] == "[]" and isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _at(item, steps[1:], f"{path}[{i}]")
    elif isinstance(value, dict) and steps[0] in value:
        yield from _at(value[steps[0]], steps[1:], f"{path}.{steps[0]}")
