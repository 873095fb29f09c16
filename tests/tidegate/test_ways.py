"""What is told to make it yes does: each sentence is read back, and the decider asked again."""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tidegate.snapshots import (
    NOW,
    OPENS,
    POOL,
    attributes,
    conditioned_snapshots,
    feature,
    gate,
    instants,
    intent,
    snapshot,
    users,
)
from tidegate.audience import AttributeTest, AudienceSpec, LayerSlice, VersionRange
from tidegate.rules.decision import Decider
from tidegate.rules.explain import Explanation, explain
from tidegate.rules.exposure import FULL, SHED_ROTATION_S, place
from tidegate.rules.fitting import fit
from tidegate.rules.outcome import Asks, Code, Question
from tidegate.snapshot import (
    GatePart,
    IntentPart,
    KillPart,
    ModelIntent,
    Signups,
    Snapshot,
)

ASKED = Question("image", "ada", "free", "api")
HOUR = (NOW // SHED_ROTATION_S + 1) * SHED_ROTATION_S


@dataclass(frozen=True)
class Told:
    """A question and all that it is asked of, as the words of an explanation change it."""

    held: Snapshot
    asked: Question
    at: float

    @property
    def intent(self) -> IntentPart:
        assert self.held.intent is not None
        return self.held.intent

    def with_intent(self, **changes: object) -> "Told":
        part = self.intent.model_copy(update=changes)
        return replace(self, held=self.held.model_copy(update={"intent": part}))

    def with_feature(self, name: str, **changes: object) -> "Told":
        described = self.intent.features.get(name, feature()).model_copy(update=changes)
        return self.with_intent(features={**self.intent.features, name: described})

    def with_gate(self, pool: str, **changes: object) -> "Told":
        moved = self.held.gates[pool].model_copy(update=changes)
        gates = {**self.held.gates, pool: moved}
        return replace(self, held=self.held.model_copy(update={"gates": gates}))

    def asking(self, *, surface: str | None = None, tier: str | None = None) -> "Told":
        was = self.asked
        asked = msgspec.structs.replace(was, surface=surface or was.surface, tier=tier or was.tier)
        return replace(self, asked=asked)

    def saying(self, **changes: object) -> "Told":
        said = {**self.asked.attributes, **changes}
        return replace(self, asked=msgspec.structs.replace(self.asked, attributes=said))

    @property
    def is_yes(self) -> bool:
        return Decider(self.held).answer(self.asked, self.at).allowed


def share_of(text: str) -> float:
    """Read the share that is asked for; just above it must be enough."""
    return 1.0 if text == "all" else float(text.removeprefix("more than ")[:-1]) / 100.0 + 1e-9


def heard_on(told: Told) -> Told:
    """Go on hearing all that is heard, as whoever is told "likely" may expect."""
    later = told
    if told.at <= told.intent.expires_at:
        later = later.with_intent(expires_at=math.inf)
    for pool, held in told.held.gates.items():
        if told.at <= held.expires_at:
            later = later.with_gate(pool, expires_at=math.inf)
    return later


def in_feature_open_to_all(name: str, told: Told) -> Told:
    opened = feature(exposure=dict.fromkeys(told.intent.tiers, 1.0))
    return told.with_intent(features={**told.intent.features, name: opened})


def with_gate_at(pool: str, reach: str, tier: str, told: Told) -> Told:
    wider = share_of(reach)
    if pool in told.held.gates:
        return told.with_gate(pool, ceilings={tier: wider}, safe_share=wider)
    changed = told.intent.pools[pool].model_copy(update={"safe_share": wider})
    return told.with_intent(pools={**told.intent.pools, pool: changed})


def reopened_to(share: float, told: Told) -> Signups:
    signups = told.intent.features[told.asked.feature].signups
    return signups.model_copy(update={"share": share})


Reads = Callable[[re.Match[str], Told], Told]
READS: dict[str, Reads] = {
    r"on surface (\w+)": lambda m, t: t.asking(surface=m[1]),
    r"in tier (\w+)": lambda m, t: t.asking(tier=m[1]),
    r"in region (\w+)": lambda m, t: t.saying(region=m[1]),
    r"in cohort (\w+)": lambda m, t: t.saying(cohorts=[m[1]]),
    r"from app version (\S+)": lambda m, t: t.saying(appVersion=m[1]),
    r"before app version .*": lambda _, t: t.saying(appVersion="0.0.1"),
    r"with (\w+) at least (\S+)": lambda m, t: t.saying(**{m[1]: float(m[2]) + 1.0}),
    r"with (\w+)": lambda m, t: in_feature_open_to_all(m[1], t),
    r"on the invite list": lambda _, t: t.with_feature(t.asked.feature, invited=(t.asked.user,)),
    r"from (\d{4}\S+)( to .*)?": lambda m, t: replace(
        heard_on(t), at=datetime.fromisoformat(m[1]).timestamp()
    ),
    r"when the stage opens": lambda _, t: t.with_feature(
        t.asked.feature, exposure={t.asked.tier: 1.0}
    ),
    r"when the publisher is heard again": lambda _, t: t.with_intent(expires_at=math.inf),
    r"when sign-ups reopen for (.+) of those who ask \(\S+ now\)": lambda m, t: t.with_feature(
        t.asked.feature, signups=reopened_to(share_of(m[1]), t)
    ),
    r"when sign-ups reopen": lambda _, t: t.with_feature(t.asked.feature, signups=Signups()),
    r"when the gate of pool (\w+) is heard again": lambda m, t: t.with_gate(
        m[1], expires_at=math.inf
    ),
    r"when the gate of pool (\w+) lets in (.+) of (\w+) \(\S+ now\)": lambda m, t: with_gate_at(
        m[1], m[2], m[3], t
    ),
    r"when (\w+) is open for (.+) of (\w+) \(\S+ now\)": lambda m, t: t.with_feature(
        m[1], exposure={m[3]: share_of(m[2])}
    ),
}
"""What each change means to whoever reads it."""


def applied(words: str, told: Told) -> Told:
    """Change what is said, reading nothing but the words."""
    for pattern, reads in READS.items():
        if (found := re.fullmatch(pattern, words)) is not None:
            return reads(found, told)
    raise AssertionError(f"a change that nobody can read: {words}")


def parts(sentence: str) -> Iterator[str]:
    """Split a sentence into its changes, those of time first, as the others hold then."""
    bare = re.sub(r": (yes now|likely)$", "", sentence)
    bare = re.sub(r", between \S+ and \S+ \(p50 and p90\)", "", bare)
    bare = re.sub(r" and (before|below) \d[\w.-]*", "", bare)  # no change of its own
    changes = re.split(r", (?=from \d|when )| and (?=in |from |with |on |when |before )", bare)
    with_features = [re.sub(r"^with (\w+) and (\w+)$", r"with \1", each) for each in changes]
    also = [found[1] for each in changes if (found := re.match(r"^with \w+ and (\w+)$", each))]
    both = [*with_features, *(f"with {name}" for name in also)]
    yield from sorted(both, key=lambda each: not re.match(r"from \d", each))


def told_true(why: Explanation, told: Told) -> None:
    """Hold every sentence of an explanation against the decider."""
    if why.would_be_yes_if in {"unknown", "it is yes now"}:
        return
    for sentence in why.would_be_yes_if.split("; or "):
        changed = told
        for words in parts(sentence):
            changed = applied(words, changed)
        assert changed.is_yes, (sentence, told)


def explained(held: Snapshot, asked: Question = ASKED, at: float = NOW) -> str:
    why = explain(held, Decider(held), asked, at)
    told_true(why, Told(held, asked, at))
    return why.would_be_yes_if


def offering(**changes: object) -> Snapshot:
    return snapshot(intent({"image": feature(**changes)}))


# --- attributes ---


@pytest.mark.parametrize(
    ("audience", "said", "words"),
    [
        (AudienceSpec(cohorts=("beta",)), {}, "in cohort beta"),
        (AudienceSpec(regions=("eu", "uk")), {"region": "us"}, "in region eu"),
        (
            AudienceSpec(app_version=VersionRange(at_least="2.4")),
            {"appVersion": "2.3.9"},
            "from app version 2.4",
        ),
        (
            AudienceSpec(app_version=VersionRange(below="3.0")),
            {"appVersion": "3.0"},
            "before app version 3.0",
        ),
        (
            AudienceSpec(cohorts=("beta",), app_version=VersionRange(at_least="2.4")),
            {"cohorts": ["staff"], "appVersion": "2"},
            "in cohort beta and from app version 2.4",
        ),
        (
            AudienceSpec(attributes=(AttributeTest(name="seats", at_least=10),)),
            {"seats": "many"},
            "with seats at least 10",
        ),
    ],
)
def test_the_attribute_that_is_missing_is_named_and_no_other(
    audience: AudienceSpec, said: dict[str, object], words: str
) -> None:
    asked = msgspec.structs.replace(ASKED, attributes=said)
    told = explained(offering(audience=audience), asked)
    assert told == f"{words}: yes now; or on the invite list: yes now"


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (AttributeTest(name="plan", any_of=("pro", "max")), 'with plan "pro"'),
        (
            AttributeTest(name="plan", none_of=("free", "other")),
            'with plan other than "free" or "other"',
        ),
        (AttributeTest(name="seats", below=5), "with seats below 5"),
        (AttributeTest(name="seats", at_least=5, below=9.5), "with seats at least 5 and below 9.5"),
        (AttributeTest(name="seats", any_of=(4, 7), at_least=5), "with seats 7"),
        (AttributeTest(name="seats", none_of=(0,), below=1), "with seats -1"),
        (AttributeTest(name="trial", none_of=(True,), any_of=(True, False)), "with trial false"),
    ],
)
def test_a_custom_attribute_is_named_with_what_would_do(test: AttributeTest, words: str) -> None:
    audience = AudienceSpec(attributes=(test,))
    fitted = fit(audience, {})
    assert fitted is not None
    assert fitted.words == (words,)
    asked = msgspec.structs.replace(ASKED, attributes=fitted.attributes)
    assert Decider(offering(audience=audience)).answer(asked, NOW).allowed


def test_what_nobody_can_be_is_not_suggested() -> None:
    never = (AttributeTest(name="seats", at_least=10), AttributeTest(name="seats", below=5))
    audience = AudienceSpec(attributes=never)
    assert fit(audience, {"seats": 7}) is None
    assert explained(offering(audience=audience)) == "on the invite list: yes now"


def test_an_attribute_alone_is_not_told_where_it_does_not_do() -> None:
    beta = AudienceSpec(cohorts=("beta",))
    held = offering(audience=beta, exposure={"plus": 1.0})
    assert explained(held) == "on the invite list: yes now"


# --- prerequisites, invites and layers ---


def test_the_missing_prerequisite_is_named() -> None:
    held = snapshot(
        intent(
            {
                "image": feature(requires=("sketch", "chat")),
                "sketch": feature(exposure={"pro": 1.0}),
                "chat": feature(),
            }
        )
    )
    assert explained(held) == "in tier pro: yes now; or with sketch: yes now"


def test_the_attribute_that_a_prerequisite_asks_for_is_named() -> None:
    beta = AudienceSpec(cohorts=("beta",))
    held = snapshot(
        intent({"image": feature(requires=("sketch",)), "sketch": feature(audience=beta)})
    )
    assert explained(held) == "in cohort beta: yes now; or with sketch: yes now"


def test_whoever_is_in_another_part_of_a_layer_may_be_invited() -> None:
    held = offering(layer=LayerSlice(name="labs", start=0.0, end=1e-5))
    assert explained(held) == "on the invite list: yes now"


def test_an_invite_is_named_where_some_are_invited() -> None:
    held = offering(exposure={}, invited=("bob",))
    assert explained(held) == "on the invite list: yes now"


# --- time ---


def closing(**of_model: object) -> Snapshot:
    model = ModelIntent.model_validate(of_model)
    part = intent(expires_at=NOW + 1e6).model_copy(update={"models": {POOL.model: model}})
    return snapshot(part, gate(expires_at=NOW + 60.0))


def killing(until: float, **gate_changes: object) -> Snapshot:
    kill = KillPart(
        feature="image",
        version=9,
        issued_at=NOW,
        expires_at=until,
        tiers=("free", "plus"),
        by="sam",
        reason="it leaks",
    )
    shut: GatePart = gate(**gate_changes)  # type: ignore[arg-type]
    return snapshot(intent(), shut).model_copy(update={"kills": {"image": kill}})


def test_after_a_brownout_it_is_likely_until_the_next() -> None:
    windows = ((NOW - 60.0, NOW + 600.0), (NOW + 900.0, NOW + 1200.0))
    assert explained(closing(brownouts=windows)) == (
        "from 2026-02-25T06:23:20Z to 2026-02-25T06:28:20Z: likely"
    )


def test_two_closures_that_overlap_end_with_the_later_one() -> None:
    windows = ((NOW - 60.0, NOW + 600.0), (NOW + 500.0, NOW + 1200.0))
    assert explained(closing(brownouts=windows)) == "from 2026-02-25T06:33:20Z: likely"


def test_a_retired_model_leaves_nothing_to_wait_for() -> None:
    windows = ((NOW - 60.0, NOW + 600.0),)
    assert explained(closing(retired_at=NOW - 1.0)) == "unknown"
    assert explained(closing(retired_at=NOW + 600.0, brownouts=windows)) == "unknown"


def test_an_order_to_close_names_its_end_and_who_is_not_closed_out() -> None:
    assert explained(killing(NOW + 600.0)) == (
        "in tier pro: yes now; or from 2026-02-25T06:23:20Z: likely"
    )


def test_at_the_end_of_an_order_the_gate_still_counts() -> None:
    told = explained(killing(NOW + 600.0, ceilings={"free": 0.5}))
    (later,) = [each for each in told.split("; or ") if each.endswith("likely")]
    begins = datetime.fromisoformat(later.split(" ")[1]).timestamp()
    assert begins == NOW + 600.0 or begins % SHED_ROTATION_S == 0.0


def test_another_hour_sheds_others_and_the_first_that_lets_in_is_named() -> None:
    held = snapshot(intent(), gate({"free": 0.3}))
    decider = Decider(
        snapshot(intent(expires_at=math.inf), gate({"free": 0.3}, expires_at=math.inf))
    )
    for user in (f"user-{number}" for number in range(60)):
        asked = msgspec.structs.replace(ASKED, user=user)
        if decider.answer(asked, NOW).allowed:
            continue
        hours = [HOUR + n * SHED_ROTATION_S for n in range(24)]
        first = next((hour for hour in hours if decider.answer(asked, hour).allowed), None)
        likely = [each for each in explained(held, asked).split("; or ") if "likely" in each]
        if first is None:
            assert likely == []
        else:
            (sentence,) = likely
            assert datetime.fromisoformat(sentence.split(" ")[1]).timestamp() == first


def test_no_hour_is_named_while_the_gate_lets_nobody_in() -> None:
    told = explained(snapshot(intent(), gate({"free": 0.0})))
    assert "likely" not in told


def test_a_gate_that_is_heard_again_is_named() -> None:
    held = snapshot(intent(), gate({"free": 1.0}, expires_at=NOW - 1.0, safe_share=0.0))
    assert "when the gate of pool image is heard again" in explained(held).split("; or ")


def test_one_who_waits_is_told_how_much_more_of_the_tier_must_be_in() -> None:
    waiting = {"free": 0.001, "pro": 1.0}
    told = explained(offering(exposure=waiting, opens={"free": OPENS}))
    assert re.search(
        r"; or when the stage opens, between \S+ and \S+ \(p50 and p90\); or when", told
    )
    assert re.search(r"when image is open for more than [\d.]+% of free \(0.1% now\)$", told)


# --- sign-ups ---


def signing_up(**signups: object) -> str:
    suspended = Signups(state="suspended", reason="a surge", **signups)  # type: ignore[arg-type]
    return explained(offering(signups=suspended), msgspec.structs.replace(ASKED, asks=Asks.SIGNUP))


def test_a_cohort_that_may_come_in_is_named_before_the_end_of_the_suspension() -> None:
    assert signing_up() == "when sign-ups reopen"
    assert signing_up(cohorts=("beta", "staff")) == (
        "in cohort beta: yes now; or when sign-ups reopen"
    )


def test_while_sign_ups_reopen_by_shares_it_is_said_how_far_they_must() -> None:
    needed = math.ceil(place("signup/image", "ada") / FULL * 1e5) / 1e3
    assert signing_up(cohorts=("beta",), share=0.001) == (
        "in cohort beta: yes now; or when sign-ups reopen for more than "
        f"{needed}% of those who ask (0.1% now)"
    )


# --- all of it ---


def test_two_changes_are_told_together_where_no_one_does() -> None:
    beta = AudienceSpec(cohorts=("beta",))
    told = explained(snapshot(intent({"image": feature(audience=beta)}), gate({"free": 0.0})))
    assert told.startswith("in tier plus and in cohort beta: yes now; or ")
    assert "in cohort beta, when the gate of pool image lets in more than" in told


def test_of_tiers_the_nearest_that_does_is_named() -> None:
    assert explained(offering(exposure={"pro": 1.0, "plus": 1.0})) == "in tier plus: yes now"


@st.composite
def hard_snapshots(draw: st.DrawFn) -> Snapshot:
    """What features may ask for, and orders and brownouts besides."""
    held = draw(conditioned_snapshots())
    assert held.intent is not None
    windows = st.tuples(instants, instants).map(lambda both: (min(both), max(both)))
    model = ModelIntent(
        brownouts=tuple(draw(st.lists(windows, max_size=3))),
        retired_at=draw(st.none() | instants),
        gone=tuple(draw(st.dictionaries(st.sampled_from(["pro", "free"]), instants)).items()),
        is_restricted=draw(st.booleans()),
        spared=tuple(draw(st.sets(st.sampled_from(["pro", "free"])))),
    )
    part = held.intent.model_copy(
        update={"models": draw(st.sampled_from([{}, {POOL.model: model}]))}
    )
    kills = {}
    if draw(st.booleans()):
        kills["image"] = KillPart(
            feature="image",
            version=3,
            issued_at=0.0,
            expires_at=draw(instants),
            tiers=draw(st.sampled_from([None, ("a", "b"), ("c",)])),
            by="sam",
            reason="it leaks",
        )
    return held.model_copy(update={"intent": part, "kills": kills})


@given(hard_snapshots(), users, attributes, instants, st.sampled_from(Asks))
def test_whatever_is_told_is_true(
    held: Snapshot, user: str, said: dict[str, object], now: float, asks: Asks
) -> None:
    assert held.intent is not None
    for tier in held.intent.tiers:
        for surface in ("api", "phone"):
            explained(held, Question("image", user, tier, surface, said, asks), now)


@given(hard_snapshots(), users, instants)
def test_where_another_tier_would_do_it_is_never_unknown(
    held: Snapshot, user: str, now: float
) -> None:
    assert held.intent is not None
    decider = Decider(held)
    answers = {tier: decider.decide("image", user, tier, "api", now) for tier in held.intent.tiers}
    if any(answer.allowed for answer in answers.values()):
        for tier, answer in answers.items():
            if not answer.allowed:
                told = explained(held, Question("image", user, tier, "api"), now)
                assert told != "unknown"
                assert answer.code not in {Code.MODEL_RETIRED, Code.MODEL_BROWNOUT}
