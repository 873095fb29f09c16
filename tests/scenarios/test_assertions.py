"""Each thing that a scenario holds: true of a true day, and broken by the break of its rule."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest

from scenarios.assertions import ALL, Evidence, examine
from tests.scenarios.evidence import true_evidence
from tidegate.events import Event

ABOUT: Final[dict[str, str | list[str]]] = {
    "paying-tiers-open-before": "free",
    "stage-waits-for-gpus": "free",
    "stage-is-told-a-range-or-unknown": "free",
    "opens-fully": ["pro", "free"],
    "happens-in-order": ["stage.approved", "stage.advanced", "supply.arrived", "stage.baked"],
    "nothing-widens-between": ["stage.baked", "supply.arrived"],
    "tiers-lose-the-model-when-they-were-told": "old",
    "nobody-is-admitted-after": "retirement.retired retirement/old",
    "its-gpus-are-given-back": "image",
    "nobody-is-admitted-before": "stage.advanced",
    "stands-still-while-frozen": "launch",
    "is-given-back-in-the-reverse-order": "now",
    "those-inside-are-served-while-signups-are-suspended": "pro",
}

Break = Callable[[Event], Event | None]


def test_a_true_day_holds_everything() -> None:
    entries: list[str | dict[str, str | list[str]]] = [
        {name: about} if (about := ABOUT.get(name)) else name for name in ALL
    ]
    assert [f.seen for f in examine(true_evidence(), entries) if not f.held] == []


def test_a_day_on_which_nothing_was_recorded_holds_almost_nothing() -> None:
    empty = replace(true_evidence(), events=[])
    broken = {name for name in ALL if _failures(name, empty)}
    assert broken == set(ALL) - {"no-pool-books-more-gpus-than-are-installed", _READINESS}


_READINESS: Final = "stages-advance-on-ready-replicas"


def _of(event_type: str, **data: object) -> Callable[[Event], bool]:
    return lambda e: (
        e.type == event_type and all(e.data.get(key) == value for key, value in data.items())
    )


def _with(event: Event, **data: object) -> Event:
    return event.model_copy(update={"data": {**event.data, **data}})


def _later(event: Event, minutes: float) -> Event:
    return event.model_copy(update={"at": event.at + timedelta(minutes=minutes)})


BREAKS: Final[Sequence[tuple[str, str, Callable[[Event], bool], Break]]] = [
    (
        "happens-in-order",
        "supply.arrived was not told after stage.advanced",
        _of("supply.arrived"),
        lambda _: None,
    ),
    (
        "nothing-widens-between",
        "image grew for free",
        _of("feature.exposed", tier="free"),
        lambda e: _with(_later(e, -10), feature="image"),
    ),
    (
        "tiers-lose-the-model-when-they-were-told",
        "the sunset came before its instant",
        _of("retirement.sunset"),
        lambda e: _later(e, -0.5),
    ),
    (
        "tiers-lose-the-model-when-they-were-told",
        "nobody was told again",
        _of("retirement.notice"),
        lambda _: None,
    ),
    (
        "tiers-lose-the-model-when-they-were-told",
        "pro was told when it was too late",
        _of("retirement.notice"),
        lambda e: _later(e, 3),
    ),
    (
        "nobody-is-admitted-after",
        "two counts of pro came after it was retired",
        _of("retirement.retired"),
        lambda e: _later(e, -28.5),
    ),
    (
        "nobody-is-admitted-before",
        "pro was let in before its stage opened",
        _of("admission.counted", tier="pro", admitted=90),
        lambda e: _later(e, -2),
    ),
    (
        "its-gpus-are-given-back",
        "the claim of pro was kept",
        _of("claim.released", claim="rollout/launch/run/pro"),
        lambda _: None,
    ),
    (
        "its-gpus-are-given-back",
        "the pool kept a replica",
        _of("pool.sized", booked_gpus=0),
        lambda e: _with(e, booked_gpus=1),
    ),
    (
        "stands-still-while-frozen",
        "free opened while it was frozen",
        _of("plan.thawed"),
        lambda e: _later(e, 15),
    ),
    ("stands-still-while-frozen", "it was never frozen", _of("plan.frozen"), lambda _: None),
    ("stands-still-while-frozen", "it was never thawed", _of("plan.thawed"), lambda _: None),
    (
        "is-given-back-in-the-reverse-order",
        "the plan went on before the GPUs were back",
        _of("plan.thawed"),
        lambda e: _later(e, -1),
    ),
    (
        "is-given-back-in-the-reverse-order",
        "GPUs were never given back",
        _of("claim.released"),
        lambda _: None,
    ),
    (
        "those-inside-are-served-while-signups-are-suspended",
        "no request of pro was admitted between",
        _of("admission.counted", tier="pro", admitted=80),
        lambda e: _with(e, admitted=0),
    ),
    (
        "paying-tiers-open-before",
        "free opened before pro",
        _of("feature.exposed", tier="free"),
        lambda e: _later(e, -20),
    ),
    (
        "paying-tiers-open-before",
        "pro never opened",
        _of("feature.exposed", tier="pro"),
        lambda _: None,
    ),
    (
        "stage-waits-for-gpus",
        "enough GPUs were unclaimed all along",
        _of("claim.made", gpus=3),
        lambda e: _with(e, unclaimed_gpus=3),
    ),
    (
        "stage-waits-for-gpus",
        "GPUs were granted before any arrived",
        _of("claim.granted", gpus=3),
        lambda e: _later(e, -5),
    ),
    ("stage-waits-for-gpus", "it never said so", _of("stage.waiting"), lambda _: None),
    (
        "stage-is-told-a-range-or-unknown",
        "half a range",
        _of("stage.forecast"),
        lambda e: _with(e, p90=None),
    ),
    (
        "stage-is-told-a-range-or-unknown",
        "a range the wrong way round",
        _of("stage.forecast"),
        lambda e: _with(e, p50=e.data["p90"], p90=e.data["p50"]),
    ),
    ("stage-is-told-a-range-or-unknown", "no word", _of("stage.forecast"), lambda _: None),
    (
        "opens-fully",
        "free stays at a quarter",
        _of("feature.exposed", tier="free"),
        lambda e: _with(e, after=0.25),
    ),
    (
        "no-paying-user-is-refused-by-a-gate",
        "one paying user was",
        _of("admission.counted", tier="pro"),
        lambda e: _with(e, refused_by_gate=1),
    ),
    (
        "no-paying-user-is-refused-by-a-gate",
        "nobody counted",
        _of("admission.counted", tier="pro"),
        lambda _: None,
    ),
    (
        "stages-advance-when-the-plan-has-reached-them",
        "before its instant",
        _of("stage.advanced", stage="pro"),
        lambda e: _later(e, -2.5),
    ),
    (
        "stages-advance-when-the-plan-has-reached-them",
        "without its approval",
        _of("stage.approved"),
        lambda _: None,
    ),
    (
        "stages-advance-when-the-plan-has-reached-them",
        "before the stage before had baked",
        _of("stage.baked", stage="pro"),
        lambda e: _later(e, 30),
    ),
    (
        "stages-advance-on-ready-replicas",
        "the budget let a claim be spent that nothing covered",
        _of("claim.spent", gpus=3),
        lambda e: _with(e, ready_gpus=6),
    ),
    (
        "stages-advance-on-ready-replicas",
        "the capacity loop had counted fewer",
        _of("pool.sized", ready_gpus=7),
        lambda e: _with(e, ready_gpus=4),
    ),
    (
        "stages-advance-on-ready-replicas",
        "the claim was never spent",
        _of("claim.spent", gpus=2),
        lambda _: None,
    ),
    (
        "no-pool-books-more-gpus-than-are-installed",
        "one too many",
        _of("pool.sized", booked_gpus=7),
        lambda e: _with(e, booked_gpus=9),
    ),
]


@pytest.mark.parametrize(
    ("name", "how", "which", "breaks"), BREAKS, ids=[f"{b[0]}: {b[1]}" for b in BREAKS]
)
def test_an_assertion_fails_when_its_rule_is_broken(
    name: str, how: str, which: Callable[[Event], bool], breaks: Break
) -> None:
    true = true_evidence()
    assert _failures(name, true) == []
    changed = [breaks(event) if which(event) else event for event in true.events]
    kept = sorted((e for e in changed if e is not None), key=lambda e: e.at)
    assert _failures(name, replace(true, events=kept)), how


def test_a_gap_in_the_record_fails() -> None:
    gap = replace(true_evidence(), gaps=["/gate: range(3, 4) is missing"])
    assert _failures("events-have-no-gap", gap) == ["/gate: range(3, 4) is missing"]


def test_every_assertion_is_broken_by_a_test() -> None:
    assert {name for name, *_ in BREAKS} | {"events-have-no-gap"} == set(ALL)


def _failures(name: str, evidence: Evidence) -> list[str]:
    about = ABOUT.get(name, "")
    return list(ALL[name](evidence, about if isinstance(about, str) else ",".join(about)))
