from console.decisions import Sieve, decision_words, digest, reason_of
from console.history import History
from console.stages import Standing, tier_stages
from console.times import date_range, moment, stamp
from console.words import gate_words, gpu_use_words, gpu_words, headline, warnings
from tests.console.made_up import (
    PAID,
    START,
    between,
    event,
    feature,
    gate,
    intent,
    launched,
    node,
    sized,
    snapshot,
    utc,
)
from tidegate.snapshot import FeatureIntent, GatePart, GateState, Signups, Snapshot


def history_of(image: FeatureIntent, part: GatePart | None = None) -> History:
    history = History()
    history.hear(START, snapshot(image, part), [], [], [])
    return history


def test_the_headline_says_who_is_in_and_what_the_others_wait_for_and_until_when() -> None:
    waiting = feature(
        opens={"free": between(1920, 3000)}, waits_for={"free": "4 GPUs: 2 of 8 are unclaimed"}
    )
    said = headline(history_of(waiting), utc)
    assert said == "image: Pro, Plus, Team open; Free waits for 4 GPUs: 10:32–10:50"


def test_an_unknown_date_is_said_to_be_unknown() -> None:
    waiting = feature(opens={"free": None}, waits_for={"free": "4 GPUs"})
    said = headline(history_of(waiting), utc)
    assert said == "image: Pro, Plus, Team open; Free waits for 4 GPUs: date unknown"


def test_the_headline_says_how_far_a_tier_is_in() -> None:
    partly = feature(PAID | {"free": 0.025})
    assert headline(history_of(partly), utc).endswith("Free at 2.5%")


def test_the_headline_says_why_a_feature_is_held() -> None:
    held = feature({"pro": 1.0}, held_because="legal: terms are under review")
    said = headline(history_of(held), utc)
    assert said == (
        "image: Pro open; Plus, Team, Free on hold at 0%: legal: terms are under review"
    )


def test_the_headline_says_that_sign_ups_are_suspended_and_who_may_come_in_all_the_same() -> None:
    signups = Signups(state="suspended", cohorts=("beta",), share=0.1, reason="a surge")
    everybody = feature(PAID | {"free": 1.0}, signups=signups)
    assert headline(history_of(everybody), utc) == (
        "image: Pro, Plus, Team, Free open; "
        "sign-ups suspended but for cohort beta and 10% of those who ask: a surge"
    )


def test_the_headline_says_that_nothing_is_published() -> None:
    assert headline(History(), utc).startswith("Nothing is published yet")


def test_a_gate_says_its_state_whom_it_lets_in_and_why() -> None:
    narrowed = gate(0.4, state=GateState.THROTTLED, reason="queue wait 2.10 s is over 1.00 s")
    assert gate_words(narrowed) == ("throttled, lets in Free 40%: queue wait 2.10 s is over 1.00 s")
    assert gate_words(gate()) == "open"


def test_gpu_use_is_absent_with_its_reason_or_a_mean() -> None:
    history = History()
    history.hear(START, snapshot(), [], [], [])
    assert gpu_use_words(history) == "absent (no agent was heard lately)"
    without = node(START, use=None, absent_because="no NVML library")
    history.hear(START, snapshot(), [without], [], [])
    assert gpu_use_words(history) == "absent (no NVML library)"
    history.hear(START, snapshot(), [node(START, use=0.5)], [], [])
    assert gpu_use_words(history) == "50% over 1 GPU"


def test_gpus_are_absent_until_a_sizing_is_heard() -> None:
    history = History()
    history.hear(START, snapshot(), [node(START)], [], [])
    assert gpu_words(history, "image") == "absent (no sizing was heard yet)"
    history.hear(START, snapshot(), [node(START)], [], [sized(1, START)])
    assert gpu_words(history, "image") == (
        "needed 9, ready 2, arriving 1, installed 8, 1 engine answering"
    )


def test_silence_is_said_with_the_age_of_what_is_shown() -> None:
    history = History()
    history.miss(START, "redis: no answer.")
    assert warnings(history, utc) == ("redis: no answer. Nothing was heard yet.",)
    history.hear(START + 1, snapshot(), [], [], [])
    history.miss(START + 2, "redis: no answer.")
    assert warnings(history, utc) == ("redis: no answer. Showing the state of 10:00:01.",)


def test_parts_that_are_not_renewed_and_missing_readings_are_said() -> None:
    history = History()
    old = Snapshot(intent=intent(expires_at=START + 5), gates={"image": gate(expires_at=START + 5)})
    history.hear(START + 10, old, [], [], [])
    about_intent, about_gate = warnings(history, utc)
    assert about_intent == "intent: not renewed since 10:00:00."
    assert about_gate == (
        "gate of image: not renewed since 10:00:00; gateways let in at most 20% of its gated tiers."
    )
    history.hear(START, snapshot(part=gate(stale=True)), [], [], [])
    assert warnings(history, utc) == (
        "gate of image: required readings are missing; it may not reopen.",
    )


def test_a_decision_is_said_with_what_it_changed() -> None:
    tightened = launched().events[3]
    assert decision_words(tightened, utc) == "gate of image, Free: tightened 100% → 40%"
    assert reason_of(tightened) == "queue wait 2.10 s is over 1.00 s"


def test_who_may_come_in_as_sign_ups_reopen_is_said() -> None:
    told = [
        event(1, "feature.signups_suspended", feature="image"),
        event(2, "feature.signups_widened", feature="image", cohorts="beta", share=0.0),
        event(3, "feature.signups_widened", feature="image", cohorts="beta, press", share=0.1),
        event(4, "feature.signups_reopened", feature="image"),
    ]
    assert [decision_words(each, utc) for each in told] == [
        "image: signups suspended",
        "image: signups widened to cohort beta",
        "image: signups widened to cohorts beta, press and 10% of those who ask",
        "image: signups reopened",
    ]


def test_a_stage_for_several_tiers_names_each() -> None:
    opened = event(
        1, "stage.advanced", feature="image", stage="plus-and-team", tier="plus,team", after=1.0
    )
    assert decision_words(opened, utc) == "image, stage plus-and-team, Plus, Team: advanced 100%"


def test_a_forecast_is_said_as_its_range_or_unknown() -> None:
    assert decision_words(launched().events[2], utc) == (
        "image, stage free-first, Free: forecast 10:00:50–10:01:10"
    )
    unknown = event(1, "stage.forecast", feature="image", stage="free", tier="free", p50=None)
    assert decision_words(unknown, utc).endswith("forecast date unknown")


def test_an_event_of_a_kind_not_known_here_is_said_all_the_same() -> None:
    strange = event(1, "budget.gpu-lost", subject="budget/h100", reason="it fell off the bus")
    assert decision_words(strange, utc) == "budget h100: gpu lost"


def test_a_sizing_that_booked_nothing_new_is_no_decision() -> None:
    sieve = Sieve()
    assert sieve.keeps(sized(1, START))
    assert not sieve.keeps(sized(2, START, needed=10))
    assert sieve.keeps(sized(3, START, booked=4))
    assert sieve.keeps(event(4, "stage.due"))


def test_that_a_stage_waits_is_told_once_and_its_forecast_when_the_range_moves() -> None:
    sieve = Sieve()
    told = [
        sieve.keeps(event(n, name, START, "rollout/launch", stage="free", tier="free", **data))
        for n, (name, data) in enumerate(
            (
                ("stage.waiting", {"reason": "2 are ready"}),
                ("stage.forecast", {"p50": "a", "p90": "b"}),
                ("stage.waiting", {"reason": "3 are ready"}),
                ("stage.forecast", {"p50": "a", "p90": "b"}),
                ("stage.forecast", {"p50": "a", "p90": "c"}),
            ),
            start=1,
        )
    ]
    assert told == [True, True, False, False, True]


def test_what_the_rollout_tells_of_a_stage_is_not_told_again_by_the_feature() -> None:
    sieve = Sieve()
    assert not sieve.keeps(event(1, "feature.exposed", feature="image", stage="pro", tier="pro"))
    assert sieve.keeps(event(2, "feature.exposed", feature="image", tier="pro"))


def test_a_gates_ramp_is_one_decision_with_its_steps_and_last_reason() -> None:
    events = [
        event(1, "gate.tightened", subject="pool/image", pool="image", before=1.0, after=0.1),
        event(2, "gate.relaxed", subject="pool/image", pool="image", before=0.1, after=0.2),
        event(3, "claim.spent", subject="budget/h100", gpus=1),
        event(4, "gate.relaxed", subject="pool/image", pool="image", before=0.2, after=0.3),
        event(5, "gate.relaxed", subject="pool/other", pool="other", before=0.5, after=0.6),
        event(6, "gate.relaxed", subject="pool/image", pool="image", before=0.3, after=0.4),
    ]
    assert [decision_words(e, utc) for e in digest(events, 9)] == [
        "gate of image: tightened 100% → 10%",
        "budget h100, 1 GPU: spent",
        "gate of other: relaxed 50% → 60%",
        "gate of image: relaxed 10% → 40% in 3 steps",
    ]
    assert digest(events, 1)[0].sequence == 6


def test_a_claim_is_said_with_its_gpus() -> None:
    granted = event(1, "claim.granted", subject="budget/h100", pool="image", gpus=4)
    assert decision_words(granted, utc) == "claim of image, 4 GPUs: granted"


def test_each_tier_stands_where_the_intent_says() -> None:
    waiting = feature({"pro": 1.0, "plus": 0.5}, opens={"free": None}, waits_for={"free": "4 GPUs"})
    standings = {stage.tier: stage.standing for stage in tier_stages(history_of(waiting))}
    assert standings == {
        "pro": Standing.OPEN,
        "plus": Standing.PARTLY_OPEN,
        "team": Standing.SHUT,
        "free": Standing.WAITING,
    }


def test_a_tier_that_does_not_wait_says_why_its_last_stage_moved() -> None:
    opened = event(
        1, "stage.baked", feature="image", stage="pro", tier="pro", reason="its check passed"
    )
    history = History()
    history.hear(START, snapshot(), [], [], [opened])
    stage = tier_stages(history)[0]
    assert (stage.stage, stage.why, stage.rollout) == ("pro", "its check passed", "rollout/launch")


def test_instants_are_written_as_closely_as_they_deserve() -> None:
    assert moment(START + 30, START, utc) == "10:00:30"
    assert moment(START + 3600, START, utc) == "11:00"
    assert moment(START + 86_400 * 3, START, utc) == "7 Mar 10:00"
    assert moment(START + 86_400 * 365, START, utc) == "4 Mar 2027 10:00"
    assert stamp(START + 3600, START, utc) == "11:00:00"
    assert stamp(START - 86_400, START, utc) == "3 Mar 10:00"


def test_a_range_is_as_fine_as_its_farther_end() -> None:
    assert date_range(between(60, 60), START, utc) == "10:01:00"
    assert date_range(between(60, 90), START, utc) == "10:01:00–10:01:30"
    assert date_range(between(60, 3600), START, utc) == "10:01–11:00"
    assert date_range(between(86_400, 90_000), START, utc) == "5 Mar 10:00–11:00"
    assert date_range(between(3600, 90_000), START, utc) == "11:00–5 Mar 11:00"
    assert date_range(None, START, utc) == "date unknown"
