"""What the command line shows: where things stand, and for what they wait."""

from datetime import UTC, datetime, timedelta

from tidegate.cli.showing import show_feature, show_range, show_rollout
from tidegate.messages.budget import ClaimStatus
from tidegate.messages.common import Act
from tidegate.messages.feature import FeatureState, Hold
from tidegate.messages.rollout import RolloutOrder, RolloutPhase, RolloutState, StageProgress
from tidegate.messages.steered import Waits
from tidegate.plans import RolloutSpec, StageSpec
from tidegate.rules.ledger import ClaimState
from tidegate.snapshot import DateRange, Signups

AT = datetime(2026, 3, 4, 9, tzinfo=UTC)
OPENED = f"{AT.astimezone():%F %H:%M:%S}"


def _order(state: RolloutState) -> RolloutOrder:
    stages = (
        StageSpec(name="pro", tiers=("pro", "plus"), bake=timedelta(hours=1)),
        StageSpec(name="free", tiers=("free",), exposure=0.025, reserve=8, bake=timedelta()),
    )
    return RolloutOrder(
        name="launch",
        spec=RolloutSpec(feature="image", owner="ada", stages=stages),
        pool="image",
        gpu_type="h100",
        lead_p50_s=60.0,
        lead_p90_s=120.0,
        reading_limit_s=5.0,
        state=state,
    )


def _waiting(forecast: DateRange | None) -> RolloutState:
    claim = ClaimStatus(
        claim_id="c",
        state=ClaimState.WAITING,
        backed=False,
        gpus=8,
        installed_gpus=4,
        unclaimed_gpus=4,
        in_use_gpus=0,
        ready_gpus=4,
        forecast=forecast,
    )
    progress = {"pro": StageProgress(exposed_at=AT)}
    return RolloutState(stage="free", waits=Waits.GPUS, claim=claim, progress=progress)


def test_a_rollout_is_shown_stage_by_stage_with_what_it_waits_for() -> None:
    lines = list(show_rollout(_order(_waiting(DateRange(p50=AT, p90=AT + timedelta(hours=1))))))
    later = f"{(AT + timedelta(hours=1)).astimezone():%F %H:%M:%S}"
    assert [" ".join(line.split()) for line in lines] == [
        "rollout/launch running, waits for gpus",
        f"pro pro, plus 100% 0 GPUs open since {OPENED}",
        "free free 2.5% 8 GPUs not open",
        f"free is expected between {OPENED} and {later} (p50 to p90)",
    ]


def test_an_unknown_date_is_said_to_be_unknown_and_never_soon() -> None:
    assert show_range(None) == "at an unknown date"
    assert list(show_rollout(_order(_waiting(None))))[-1].strip() == (
        "free is expected at an unknown date"
    )


def test_a_stopped_rollout_names_who_can_let_it_go_on() -> None:
    paused = RolloutState(paused=Act(by="ada", reason="a holiday"), waits=Waits.BAKE)
    assert next(show_rollout(_order(paused))).endswith("waits for ada to resume it: a holiday")
    hold = Hold(role="legal", by="lee", reason="a review", since=AT)
    held = paused.model_copy(update={"hold": hold})
    first = next(show_rollout(_order(held)))
    assert first.endswith("waits for legal to release its hold: a review")


def test_a_rollout_that_has_ended_says_how() -> None:
    ended = RolloutState(phase=RolloutPhase.ABORTED)
    assert "rollout/launch  aborted" in next(show_rollout(_order(ended)))


def test_a_feature_is_shown_with_whom_it_reaches_and_what_holds_it() -> None:
    assert list(show_feature(FeatureState(name="image"))) == ["feature/image  exposed to nobody"]
    hold = Hold(role="legal", by="lee", reason="a review", since=AT)
    state = FeatureState(name="image", exposure={"pro": 1.0, "free": 0.025}, holds={"legal": hold})
    assert [line.strip() for line in show_feature(state)] == [
        "feature/image  exposed to pro 100%, free 2.5%",
        f"held by legal since {OPENED}: a review",
    ]


def test_a_feature_is_shown_with_suspended_sign_ups_and_who_may_come_in_all_the_same() -> None:
    state = FeatureState(name="image", signups=Signups(state="suspended", reason="a surge"))
    assert list(show_feature(state))[1:] == ["  sign-ups are suspended: a surge"]
    reopening = state.signups.model_copy(update={"cohorts": ("beta",), "share": 0.1})
    state = state.model_copy(update={"signups": reopening})
    assert list(show_feature(state))[1:] == [
        "  sign-ups are suspended but for cohort beta and 10% of those who ask: a surge"
    ]
