"""What the entities hold becomes the intent; what is unknown opens and grows nothing."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import claim, ledgers
from tidegate.catalogue import ColdStart, FeatureSpec, ModelSpec, PoolSpec, TierSpec
from tidegate.manifests import Manifests
from tidegate.messages.feature import FeatureState, Hold, WaitingNote
from tidegate.messages.model import Going, ModelState
from tidegate.rules.intent import compile_intent
from tidegate.rules.ledger import ClaimKind, Ledger, ceiling_gpus, floor_gpus
from tidegate.snapshot import (
    DateRange,
    FeatureIntent,
    IntentPart,
    PoolIntent,
    Signups,
    TierPolicy,
)

POOL = PoolSpec(
    model="image-2",
    gpu_type="h100",
    gpus_per_replica=2,
    min_replicas=1,
    max_replicas=40,
    capacity_rps=8.0,
    target_utilisation=0.6,
    queue_wait_target=timedelta(seconds=2),
    cold_start=ColdStart(p50=timedelta(minutes=1), p90=timedelta(minutes=2)),
    required_readings=("queue_wait",),
    reading_limit=timedelta(seconds=15),
    actuation_lag=timedelta(seconds=10),
    scale_down_window=timedelta(minutes=5),
    safe_share=0.3,
)
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
DECLARED = Manifests(
    tiers={"pro": TierSpec(rank=0, gated=False), "free": TierSpec(rank=1)},
    models={"image-2": ModelSpec()},
    pools={"image": POOL},
    features={"image": FeatureSpec(pool="image")},
)
SPEC = FeatureSpec(pool="image", surfaces=("chat", "api"), on_stale="close")


def pool(ledger: Ledger | None) -> PoolIntent:
    ledgers = {} if ledger is None else {"h100": ledger}
    return compile_intent(DECLARED, {}, {}, ledgers, NOON).pools["image"]


def feature(**held: object) -> FeatureIntent:
    state = FeatureState.model_validate({"name": "image", "spec": SPEC, **held})
    return compile_intent(DECLARED, {"image": state}, {}, {}, NOON).features["image"]


def test_tiers_carry_their_rank_and_whether_they_are_gated() -> None:
    assert compile_intent(DECLARED, {}, {}, {}, NOON).tiers == {
        "pro": TierPolicy(rank=0, gated=False),
        "free": TierPolicy(rank=1, gated=True),
    }


def test_a_pool_carries_its_settings_in_the_units_of_the_request_path() -> None:
    assert pool(Ledger(installed=16)) == PoolIntent(
        model="image-2",
        gpu_type="h100",
        gpus_per_replica=2,
        capacity_rps=8.0,
        target_utilisation=0.6,
        queue_wait_target_s=2.0,
        min_replicas=1,
        max_replicas=40,
        required_readings=("queue_wait",),
        reading_limit_s=15.0,
        actuation_lag_s=10.0,
        cold_start_p50_s=60.0,
        cold_start_p90_s=120.0,
        scale_down_window_s=300.0,
        safe_share=0.3,
        floor_gpus=0,
        ceiling_gpus=16,
        may_grow=True,
    )


def test_a_pool_grows_when_one_more_replica_is_backed_and_not_above_its_most() -> None:
    arrival = claim(
        "new",
        ClaimKind.ARRIVING,
        8,
        expected_at=NOON + timedelta(days=1),
        expected_by=NOON + timedelta(days=3),
    )
    full = claim("all", ClaimKind.IN_USE, 16)
    none_left = Ledger(installed=16).put(full)
    assert growing(none_left) == (False, None)
    dates = DateRange(
        p50=NOON + timedelta(days=1, minutes=1), p90=NOON + timedelta(days=3, minutes=2)
    )
    assert growing(none_left.put(arrival)) == (False, dates)
    assert growing(Ledger(installed=160, ready={"image": 80})) == (False, None)
    assert growing(None) == (False, None)


def growing(ledger: Ledger | None) -> tuple[bool, DateRange | None]:
    return pool(ledger).may_grow, pool(ledger).grows


def test_a_budget_that_is_unknown_or_counted_nothing_lets_nothing_grow() -> None:
    assert pool(None).ceiling_gpus is None
    assert pool(Ledger()).ceiling_gpus is None
    reserved = claim("r", ClaimKind.RESERVED, 4)
    assert pool(Ledger(installed=0).put(reserved)).ceiling_gpus == 0


@given(ledgers())
def test_a_pool_is_bounded_as_its_ledger_says(ledger: Ledger) -> None:
    bounds = pool(ledger)
    assert bounds.ceiling_gpus == ceiling_gpus(ledger, "image")
    assert bounds.floor_gpus == floor_gpus(ledger, "image")


def test_a_feature_carries_who_is_in_and_what_the_others_wait_for() -> None:
    opens = DateRange(p50=datetime(2026, 3, 4, tzinfo=UTC), p90=datetime(2026, 3, 6, tzinfo=UTC))
    note = WaitingNote(stage="free", tiers=("free",), waits_for="8 GPUs", opens=opens)
    unknown = WaitingNote(stage="guest", tiers=("guest",), waits_for="approval by safety")
    seen = feature(exposure={"pro": 1.0}, notes={"free": note, "guest": unknown})
    assert seen == FeatureIntent(
        pool="image",
        surfaces=("chat", "api"),
        exposure={"pro": 1.0},
        opens={"free": opens, "guest": None},
        waits_for={"free": "8 GPUs", "guest": "approval by safety"},
        held_because=None,
        on_stale="close",
    )


def test_a_hold_says_who_and_why() -> None:
    hold = Hold(role="legal", by="lee", reason="a review", since=datetime(2026, 3, 4, tzinfo=UTC))
    held = feature(holds={"legal": hold})
    assert (held.held_because, held.is_withdrawn) == ("legal: a review", False)
    withdrawn = hold.model_copy(update={"rolls_back": True})
    held = feature(holds={"legal": hold, "hold/safety": withdrawn})
    assert (held.held_because, held.is_withdrawn) == ("legal: a review; legal: a review", True)


def test_how_sign_ups_stand_is_carried() -> None:
    signups = Signups(state="suspended", cohorts=("beta",), share=0.1, reason="a surge")
    assert feature(signups=signups).signups == signups


def test_a_feature_that_was_never_declared_is_unknown_to_gateways() -> None:
    state = FeatureState(name="image", exposure={"pro": 1.0})
    assert compile_intent(DECLARED, {"image": state}, {}, {}, NOON).features == {}
    assert compile_intent(DECLARED, {}, {}, {}, NOON).features == {}


@given(st.dictionaries(st.sampled_from(["pro", "free"]), st.floats(0.0, 1.0)))
def test_exposure_is_carried_as_it_is_and_never_widened(exposure: dict[str, float]) -> None:
    assert feature(exposure=exposure).exposure == exposure


def gone(**changes: object) -> IntentPart:
    """Compile what is published of a model that goes."""
    state = FeatureState(name="image", spec=FeatureSpec(pool="image", invited=("lee",)))
    written = {"successor": "image-3", "deprecated_at": NOON, "sunset_at": None, **changes}
    model = ModelState(name="image-2", going=Going.model_validate(written), carried={"x": ("ada",)})
    return compile_intent(DECLARED, {"image": state}, {"image-2": model}, {}, NOON)


def test_a_model_that_goes_says_so_and_nobody_knows_the_day_while_it_stands_still() -> None:
    model = gone(gone={"free": NOON}, spared=("pro",), personality={"a": "b"}).models["image-2"]
    at = NOON.timestamp()
    assert (model.deprecated_at, model.sunset_at, model.successor) == (at, None, "image-3")
    assert (model.gone, model.spared) == ((("free", at),), ("pro",))
    assert model.personality == (("a", "b"),)


def test_a_pool_whose_model_is_retired_is_for_no_replica_and_before_that_as_declared() -> None:
    pool = gone(retired_at=NOON).pools["image"]
    assert (pool.min_replicas, pool.max_replicas) == (0, 0)
    declared = DECLARED.pools["image"]
    pool = gone().pools["image"]
    assert (pool.min_replicas, pool.max_replicas) == (declared.min_replicas, declared.max_replicas)


def test_users_who_are_pinned_to_a_model_may_use_what_it_serves() -> None:
    assert gone().features["image"].invited == ("lee", "ada")
