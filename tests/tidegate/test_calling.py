"""Who of those that wait may be called: whom a sign-up would be granted, and nobody else."""

import pytest

from tests.tidegate.snapshots import NOW, OPENS, POOL, TIERS, feature, gate, intent
from tidegate.rules.calling import may_be_called
from tidegate.rules.decision import Decider
from tidegate.rules.outcome import Asks, Question
from tidegate.rules.waitlist import Stop
from tidegate.snapshot import (
    FeatureIntent,
    GatePart,
    IntentPart,
    KillPart,
    Lane,
    ModelIntent,
    Signups,
    Snapshot,
    TierPolicy,
    WaitlistIntent,
    WaitlistPart,
)

PACE = WaitlistIntent(calls_per_s=2.0, claim_window_s=60.0)
GATED = {**TIERS, "guest": TierPolicy(rank=3, gated=True)}
ALL = dict.fromkeys(GATED, 1.0)
SHUT = gate({"free": 0.0, "guest": 0.0})
OPEN = gate({"free": 1.0, "guest": 1.0})


def offered(**changes: object) -> FeatureIntent:
    return feature(**{"waitlist": PACE, "exposure": ALL, **changes})


def held(
    described: FeatureIntent | None = None,
    *,
    shut: GatePart | None = OPEN,
    model: ModelIntent | None = None,
    kill: KillPart | None = None,
    part: IntentPart | None = None,
) -> Snapshot:
    people = part or intent({"image": described or offered()}, tiers=GATED)
    if model is not None:
        people = people.model_copy(update={"models": {POOL.model: model}})
    return Snapshot(
        intent=people,
        gates={} if shut is None else {"image": shut},
        kills={} if kill is None else {"image": kill},
    )


def reached(snapshot: Snapshot) -> object:
    return may_be_called(Decider(snapshot), "image", ("free", "guest"), NOW)


def killing(*tiers: str) -> KillPart:
    return KillPart(
        feature="image",
        version=9,
        issued_at=NOW,
        expires_at=NOW + 60.0,
        tiers=tiers or None,
        by="sam",
        reason="it leaks",
    )


def test_each_tier_is_called_as_far_as_the_gate_lets_it_in() -> None:
    assert reached(held(shut=gate({"free": 1.0, "guest": 0.25}))) == {"free": 1.0, "guest": 0.25}


def test_a_tier_that_could_not_come_in_is_not_called() -> None:
    assert reached(held(offered(exposure={"free": 1.0}))) == {"free": 1.0, "guest": 0.0}
    assert reached(held(kill=killing("guest"))) == {"free": 1.0, "guest": 0.0}
    # A published gate that forgets a tier never lets it in further than a better one.
    assert reached(held(shut=gate({"free": 0.1}))) == {"free": 0.1, "guest": 0.1}


@pytest.mark.parametrize(
    ("snapshot", "reason", "by_people"),
    [
        (held(offered(held_because="legal: review")), "on hold: legal: review", True),
        (held(offered(signups=Signups(state="suspended"))), "sign-ups are suspended", True),
        (
            held(offered(signups=Signups(state="suspended", cohorts=("beta",), share=0.1))),
            "sign-ups are suspended",
            True,
        ),
        (held(kill=killing()), "closed by sam: it leaks", False),
        (held(model=ModelIntent(retired_at=NOW - 1.0)), "is retired", False),
        (held(model=ModelIntent(brownouts=((NOW - 1.0, NOW + 9.0),))), "switched off", False),
        (held(offered(exposure={}, opens={"free": OPENS})), "not open for free", False),
        (held(shut=None), "nothing is heard of its gate", False),
        (held(shut=gate({"free": 1.0}, expires_at=NOW - 1.0)), "nothing is heard", False),
        (held(shut=gate().model_copy(update={"stale": True})), "is not reopened", False),
        (held(shut=SHUT), "pool image is throttled", False),
        (
            held(part=intent({"image": offered()}, tiers=GATED, expires_at=NOW - 1.0)),
            "what people decided",
            False,
        ),
    ],
)
def test_why_nobody_is_called_is_said_and_whether_only_people_end_it(
    snapshot: Snapshot, reason: str, by_people: bool
) -> None:
    stop = reached(snapshot)
    assert isinstance(stop, Stop)
    assert reason in stop.reason
    assert stop.by_people is by_people
    # Whoever were called would be refused: the very rule of a sign-up.
    asked = Question("image", "ada", "free", "api", asks=Asks.SIGNUP)
    if "throttled" not in reason and "reopened" not in reason:
        assert not Decider(snapshot).answer(asked, NOW, is_called=True).allowed or by_people


def test_while_signups_reopen_for_some_these_wait_behind_nobody() -> None:
    line = WaitlistPart(
        feature="image",
        version=1,
        issued_at=NOW,
        expires_at=NOW + 10.0,
        lanes={"free": Lane(issued_below=9)},
    )
    reopening = held(offered(signups=Signups(state="suspended", cohorts=("beta",))))
    waiting = reopening.model_copy(update={"waitlists": {"image": line}})
    beta = Question("image", "ada", "free", "api", {"cohorts": ["beta"]}, Asks.SIGNUP)
    assert Decider(waiting).answer(beta, NOW).allowed
    behind = Decider(held().model_copy(update={"waitlists": {"image": line}})).answer(beta, NOW)
    assert behind.reason == "others of free wait for image already, and come first"
