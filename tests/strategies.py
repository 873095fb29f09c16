"""Hypothesis strategies for Tidegate's own values: readings, tiers, pools, gates, ledgers."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from hypothesis import strategies as st

from tidegate.readings import Reading
from tidegate.rules.gate import derive_ceilings, widest_openness
from tidegate.rules.ledger import Claim, ClaimKind, ClaimState, Ledger
from tidegate.snapshot import GatePart, GateState, PoolIntent, TierPolicy

NOW: Final = datetime(2026, 3, 4, 9, 0, tzinfo=UTC)
NOW_S: Final = NOW.timestamp()
POOLS: Final = ("chat", "image", "video")

gpus = st.integers(0, 32)
pools = st.sampled_from(POOLS)
instants = st.integers(-1000, 1000).map(lambda minutes: NOW + timedelta(minutes=minutes))
shares = st.floats(0.0, 1.0)
priorities = st.integers(0, 2)
leads_s = st.integers(0, 600)


def reading(name: str, value: float | None, *, age_s: float | None = 1.0) -> Reading:
    """Make a reading that is fresh up to 15 s, unless `value` or `age_s` says otherwise."""
    return Reading(name, value, age_s, 15.0)


def fresh_readings(name: str, values: st.SearchStrategy[float]) -> st.SearchStrategy[Reading]:
    """Draw readings that may be acted on."""
    return st.builds(reading, st.just(name), values, age_s=st.floats(0.0, 15.0))


def unusable_readings(name: str) -> st.SearchStrategy[Reading]:
    """Draw readings that are stale or absent, whatever they say."""
    return st.sampled_from(
        [
            reading(name, value, age_s=age_s)
            for value in (0.0, 1.0, 1e6, *_NO_NUMBERS)
            for age_s in (0.0, 15.001, 1e6, *_NO_AGES)
            if value in _NO_NUMBERS or age_s in _NO_AGES or (age_s or 0.0) > 15.0
        ]
    )


_NO_NUMBERS: Final = (None, float("nan"), float("inf"), float("-inf"))
_NO_AGES: Final = (None, float("nan"))


def any_readings(name: str, values: st.SearchStrategy[float]) -> st.SearchStrategy[Reading]:
    """Draw readings that are fresh, stale or absent."""
    return fresh_readings(name, values) | unusable_readings(name)


_NAMES: Final = ("plus", "free", "student", "team", "guest", "pro")

tiers = st.lists(
    st.builds(TierPolicy, rank=st.integers(0, 5), gated=st.booleans()), max_size=6
).map(lambda policies: dict(zip(_NAMES, policies, strict=False)))


@st.composite
def pool_intents(draw: st.DrawFn) -> PoolIntent:
    """Draw a pool's settings with any bounds, some of them unknown."""
    least = draw(st.integers(0, 8))
    return PoolIntent(
        model="image-2",
        gpu_type="h100",
        gpus_per_replica=draw(st.integers(1, 8)),
        capacity_rps=draw(st.sampled_from([0.1, 2.5, 100.0])),
        target_utilisation=draw(st.sampled_from([0.05, 0.6, 1.0])),
        queue_wait_target_s=2.0,
        min_replicas=least,
        max_replicas=draw(st.integers(max(1, least), 40)),
        required_readings=("queue_wait", "demand"),
        reading_limit_s=15.0,
        actuation_lag_s=10.0,
        cold_start_p50_s=60.0,
        cold_start_p90_s=120.0,
        scale_down_window_s=draw(st.sampled_from([0.0, 60.0, 600.0])),
        safe_share=0.2,
        floor_gpus=draw(gpus),
        ceiling_gpus=draw(st.none() | st.integers(0, 128)),
    )


def pool_intent(**changes: object) -> PoolIntent:
    """Make a pool of one-GPU replicas that serve 10 requests a second, sized to half of that."""
    pool = PoolIntent(
        model="image-2",
        gpu_type="h100",
        gpus_per_replica=1,
        capacity_rps=10.0,
        target_utilisation=0.5,
        queue_wait_target_s=2.0,
        min_replicas=0,
        max_replicas=40,
        required_readings=("queue_wait", "demand"),
        reading_limit_s=15.0,
        actuation_lag_s=10.0,
        cold_start_p50_s=60.0,
        cold_start_p90_s=120.0,
        scale_down_window_s=300.0,
        safe_share=0.2,
        floor_gpus=0,
        ceiling_gpus=64,
    )
    return PoolIntent.model_validate({**pool.model_dump(), **changes})


def gate_part(openness: float, tiers: Mapping[str, TierPolicy], **changes: object) -> GatePart:
    """Make a pool's gate at this openness, moved long ago."""
    widest = widest_openness(tiers)
    part = GatePart(
        pool="image",
        version=7,
        issued_at=NOW_S,
        expires_at=NOW_S + 10.0,
        state=GateState.OPEN if openness >= widest else GateState.THROTTLED,
        stale=False,
        openness=openness,
        ceilings=derive_ceilings(openness, tiers),
        moved_at=NOW_S - 3600.0,
        reason="as it was",
        retry_after_s=1.0,
        safe_share=0.2,
    )
    return GatePart.model_validate({**part.model_dump(), **changes})


@st.composite
def gates(draw: st.DrawFn, tiers: Mapping[str, TierPolicy]) -> GatePart:
    """Draw a gate over these tiers, as some tick before may have left it."""
    openness = draw(st.floats(0.0, widest_openness(tiers)))
    if openness >= widest_openness(tiers):
        return gate_part(openness, tiers)
    is_shut_for_some = 0.0 in derive_ceilings(openness, tiers).values()
    narrowed = GateState.WAITLISTED if is_shut_for_some else GateState.THROTTLED
    state = draw(st.sampled_from([narrowed, GateState.REOPENING]))
    return gate_part(openness, tiers, state=state, moved_at=NOW_S - draw(st.floats(0.0, 120.0)))


def claim(claim_id: str, kind: ClaimKind, gpus: int, **changes: object) -> Claim:
    """Make a claim for the pool "image", made now, arriving an hour from now at the latest."""
    made: dict[str, object] = {"id": claim_id, "kind": kind, "gpus": gpus, "made_at": NOW}
    if kind is ClaimKind.ARRIVING:
        made |= {"expected_at": NOW, "expected_by": NOW + timedelta(hours=1)}
    elif kind is not ClaimKind.SICK:
        made["pool"] = "image"
    return Claim.model_validate({**made, **changes})


@st.composite
def arrivals(draw: st.DrawFn, number: int = 0) -> Claim:
    """Draw GPUs that are expected, some of them overdue."""
    at = draw(instants)
    by = at + timedelta(minutes=draw(st.integers(0, 600)))
    return claim(
        f"arriving/{number}", ClaimKind.ARRIVING, draw(gpus), expected_at=at, expected_by=by
    )


@st.composite
def claims(draw: st.DrawFn, number: int = 0) -> Claim:
    """Draw a claim of any kind, in a state that its kind can be in."""
    kind = draw(st.sampled_from(ClaimKind))
    if kind is ClaimKind.ARRIVING:
        return draw(arrivals(number))
    lead_p50_s, lead_p90_s = sorted(draw(st.tuples(leads_s, leads_s)))
    states = ClaimState if kind is ClaimKind.RESERVED else [ClaimState.GRANTED]
    pool = None if kind is ClaimKind.SICK else draw(pools)
    others = pools.filter(lambda other: other != pool)
    return claim(
        f"{kind}/{number}",
        kind,
        draw(gpus),
        pool=pool,
        lender=draw(others) if kind is ClaimKind.LENT else None,
        state=draw(st.sampled_from(list(states))),
        made_at=draw(instants),
        priority=draw(priorities) if kind is ClaimKind.RESERVED else 0,
        lead_p50_s=lead_p50_s,
        lead_p90_s=lead_p90_s,
    )


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    """Draw a ledger at any moment: over-claimed, uncounted, with anybody waiting."""
    size = draw(st.integers(0, 7))
    made = [draw(claims(number)) for number in range(size)]
    return Ledger(
        installed=draw(st.none() | st.integers(0, 128)),
        claims={c.id: c for c in made},
        ready=draw(st.dictionaries(pools, gpus)),
    )
