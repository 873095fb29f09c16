"""What the entities hold, compiled into the intent that gateways and controllers read."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from tidegate.catalogue import ModelSpec, PoolSpec, WaitlistSpec
from tidegate.manifests import Manifests
from tidegate.messages.feature import FeatureState
from tidegate.messages.model import ModelState
from tidegate.rules.forecast import Outlook
from tidegate.rules.ledger import (
    Claim,
    ClaimKind,
    ClaimState,
    Ledger,
    bounds,
)
from tidegate.snapshot import (
    DateRange,
    FeatureIntent,
    IntentPart,
    ModelIntent,
    PoolIntent,
    TierPolicy,
    WaitlistIntent,
)


def compile_intent(
    declared: Manifests,
    features: Mapping[str, FeatureState],
    models: Mapping[str, ModelState],
    ledgers: Mapping[str, Ledger],
    now: datetime,
) -> IntentPart:
    """Build the intent as of `now`, unversioned; a pool whose budget is unknown may not grow."""
    return IntentPart(
        version=0,
        issued_at=0.0,
        expires_at=0.0,
        tiers={
            name: TierPolicy(rank=tier.rank, gated=tier.gated)
            for name, tier in declared.tiers.items()
        },
        features={
            name: intent
            for name, state in features.items()
            if (intent := _feature(state, _pinned(state, declared, models))) is not None
        },
        pools=_pools(declared, models, ledgers, now),
        models={name: _model(spec, models.get(name)) for name, spec in declared.models.items()},
    )


def _pinned(
    state: FeatureState, declared: Manifests, models: Mapping[str, ModelState]
) -> tuple[str, ...]:
    """Return the users who are pinned to the model behind a feature."""
    pool = None if state.spec is None else declared.pools.get(state.spec.pool)
    model = None if pool is None else models.get(pool.model)
    return () if model is None else model.pinned


def _served(pool: PoolSpec, model: ModelState | None) -> PoolSpec:
    """Return a pool's settings; where its model is gone, for no replica at all."""
    going = None if model is None else model.going
    if going is None or going.retired_at is None:
        return pool
    return pool.model_copy(update={"min_replicas": 0, "max_replicas": 0})


def _feature(state: FeatureState, pinned: tuple[str, ...]) -> FeatureIntent | None:
    if state.spec is None:
        return None
    return FeatureIntent(
        pool=state.spec.pool,
        surfaces=state.spec.surfaces,
        exposure=state.exposure,
        openings=state.openings,
        opens={tier: note.opens for tier, note in state.notes.items()},
        waits_for={tier: note.waits_for for tier, note in state.notes.items()},
        held_because="; ".join(f"{h.role}: {h.reason}" for h in state.holds.values()) or None,
        is_withdrawn=any(hold.rolls_back for hold in state.holds.values()),
        on_stale=state.spec.on_stale,
        audience=state.spec.audience,
        invited=tuple(dict.fromkeys([*state.spec.invited, *pinned])),
        requires=state.spec.requires,
        layer=state.spec.layer,
        quotas=state.spec.quotas,
        signups=state.signups,
        waitlist=_waitlist(state.spec.waitlist),
    )


def _waitlist(spec: WaitlistSpec | None) -> WaitlistIntent | None:
    if spec is None:
        return None
    return WaitlistIntent(
        calls_per_s=spec.calls_per_s, claim_window_s=spec.claim_window.total_seconds()
    )


def _model(spec: ModelSpec, model: ModelState | None) -> ModelIntent:
    going = None if model is None else model.going
    if going is None:
        return ModelIntent(aliases=spec.aliases)
    return ModelIntent(
        aliases=spec.aliases,
        deprecated_at=going.deprecated_at.timestamp(),
        sunset_at=going.sunset_at.timestamp() if going.sunset_at else None,
        successor=going.successor,
        brownouts=tuple((w.start.timestamp(), w.end.timestamp()) for w in going.brownouts),
        link=going.link,
        is_restricted=going.is_restricted,
        gone=tuple((tier, at.timestamp()) for tier, at in going.gone.items()),
        retired_at=going.retired_at.timestamp() if going.retired_at else None,
        spared=going.spared,
        personality=tuple(going.personality.items()),
    )


class _Book:
    """What a ledger says of its pools, once for all: anew for each, it would take their square."""

    def __init__(self, ledger: Ledger, pools: Iterable[str], now: datetime) -> None:
        self.ready = ledger.ready
        self.bounds = bounds(ledger, pools)
        self.outlook = Outlook(ledger, now)


def _pools(
    declared: Manifests,
    models: Mapping[str, ModelState],
    ledgers: Mapping[str, Ledger],
    now: datetime,
) -> dict[str, PoolIntent]:
    by_type: dict[str, list[str]] = {}
    for name, pool in declared.pools.items():
        by_type.setdefault(pool.gpu_type, []).append(name)
    books = {
        gpu_type: _Book(ledgers.get(gpu_type, Ledger()), names, now)
        for gpu_type, names in by_type.items()
    }
    return {
        name: _pool(name, _served(pool, models.get(pool.model)), books[pool.gpu_type], now)
        for name, pool in declared.pools.items()
    }


def _pool(name: str, pool: PoolSpec, book: _Book, now: datetime) -> PoolIntent:
    grows = _grows(name, pool, book, now)
    allowed = book.bounds[name]
    return PoolIntent(
        model=pool.model,
        gpu_type=pool.gpu_type,
        gpus_per_replica=pool.gpus_per_replica,
        capacity_rps=pool.capacity_rps,
        target_utilisation=pool.target_utilisation,
        queue_wait_target_s=pool.queue_wait_target.total_seconds(),
        min_replicas=pool.min_replicas,
        max_replicas=pool.max_replicas,
        required_readings=pool.required_readings,
        reading_limit_s=pool.reading_limit.total_seconds(),
        actuation_lag_s=pool.actuation_lag.total_seconds(),
        cold_start_p50_s=pool.cold_start.p50.total_seconds(),
        cold_start_p90_s=pool.cold_start.p90.total_seconds(),
        scale_down_window_s=pool.scale_down_window.total_seconds(),
        safe_share=pool.safe_share,
        gated_objective=pool.gated_objective,
        floor_gpus=allowed.floor_gpus,
        ceiling_gpus=allowed.ceiling_gpus,
        may_grow=grows is not None and grows.p50 == now + pool.cold_start.p50,
        grows=grows if grows is not None and grows.p50 > now + pool.cold_start.p50 else None,
    )


def _grows(name: str, pool: PoolSpec, book: _Book, now: datetime) -> DateRange | None:
    """Say when one more replica should serve; None where nothing tells, or none may be added."""
    most_gpus = pool.max_replicas * pool.gpus_per_replica
    if book.ready.get(name, 0) + pool.gpus_per_replica > most_gpus:
        return None
    one_more = Claim(
        id=f"{name}/one-more",
        kind=ClaimKind.RESERVED,
        gpus=pool.gpus_per_replica,
        pool=name,
        state=ClaimState.WAITING,
        made_at=now,
        lead_p50_s=pool.cold_start.p50.total_seconds(),
        lead_p90_s=pool.cold_start.p90.total_seconds(),
    )
    return book.outlook.backing(one_more)
