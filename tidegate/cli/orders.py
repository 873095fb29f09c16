"""Writing what plans are started with, from what is declared."""

from tidegate.catalogue import PoolSpec
from tidegate.manifests import Manifests
from tidegate.messages.preview import PreviewOrder
from tidegate.messages.retirement import PoolRef, RetirementOrder
from tidegate.messages.rollout import RolloutOrder
from tidegate.plans import PreviewSpec, RolloutSpec
from tidegate.retiring import RetirementSpec


def order_for(name: str, rollout: RolloutSpec, declared: Manifests) -> RolloutOrder:
    """Write what a rollout is started with, from its plan and its feature's pool."""
    pool_name = declared.features[rollout.feature].pool
    pool = declared.pools[pool_name]
    return RolloutOrder(
        name=name,
        spec=rollout,
        pool=pool_name,
        gpu_type=pool.gpu_type,
        lead_p50_s=pool.cold_start.p50.total_seconds(),
        lead_p90_s=pool.cold_start.p90.total_seconds(),
        reading_limit_s=pool.reading_limit.total_seconds(),
    )


def preview_for(name: str, spec: PreviewSpec, declared: Manifests) -> PreviewOrder:
    """Write what a preview is started with, and the rollout that it may become."""
    rollout = None if spec.becomes is None else order_for(name, spec.becomes, declared)
    return PreviewOrder(name=name, spec=spec, rollout=rollout)


def retirement_for(name: str, spec: RetirementSpec, declared: Manifests) -> RetirementOrder:
    """Write what a retirement is started with: whom it is about, and which pools."""
    return RetirementOrder(
        name=name,
        spec=spec,
        tiers=tuple(sorted(declared.tiers, key=lambda tier: declared.tiers[tier].rank)),
        pools=_serving(spec.model, declared),
        successors=_serving(spec.successor, declared),
        pinned=declared.models[spec.model].pinned,
        notices={name: tier.notice.total_seconds() for name, tier in declared.tiers.items()},
    )


def _serving(model: str, declared: Manifests) -> tuple[PoolRef, ...]:
    return tuple(
        _ref(name, pool) for name, pool in sorted(declared.pools.items()) if pool.model == model
    )


def _ref(name: str, pool: PoolSpec) -> PoolRef:
    return PoolRef(
        pool=name,
        gpu_type=pool.gpu_type,
        lead_p50_s=pool.cold_start.p50.total_seconds(),
        lead_p90_s=pool.cold_start.p90.total_seconds(),
    )
