"""The admission check: each outcome, as clients of HTTP see it."""

import re

import pytest

from gateway.replies import TITLES
from tests.gateway.asking import Asked
from tests.tidegate.snapshots import NOW, OPENS, feature, gate, intent, snapshot
from tidegate.rules.outcome import Code
from tidegate.rules.refusals import PROBLEM_BASE
from tidegate.snapshot import FeatureIntent, Snapshot

SHED = snapshot(intent(), gate({"free": 0.0}))


def held(image: FeatureIntent) -> Snapshot:
    return snapshot(intent({"image": image}))


async def test_an_allowed_request_is_told_by_what() -> None:
    answer = await Asked(snapshot()).admit()
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {
        "allowed": True,
        "code": "allowed",
        "reason": "image is open for free",
        "feature": "image",
        "tier": "free",
        "pool": "image",
        "version": 11,
    }


async def test_a_shed_request_is_a_429_that_says_when_to_come_back() -> None:
    answer = await Asked(SHED).admit()
    assert answer.status == 429
    assert answer.headers["content-type"] == "application/problem+json"
    assert 6 <= int(answer.headers["retry-after"]) <= 10
    assert answer.json == {
        "type": "https://tidegate.dev/problems/gate-shed",
        "title": "Temporarily reduced capacity",
        "status": 429,
        "detail": "pool image is throttled: queue wait is at 140% of its limit",
        "code": "gate-shed",
        "allowed": False,
        "feature": "image",
        "tier": "free",
        "pool": "image",
        "version": 11,
    }


async def test_shed_requests_do_not_all_come_back_at_once() -> None:
    asked = Asked(SHED)
    waits = {(await asked.admit(f"user-{n}")).headers["retry-after"] for n in range(100)}
    assert waits == {"6", "7", "8", "9", "10"}


async def test_one_who_waits_for_a_stage_is_given_the_range() -> None:
    answer = await Asked(held(feature(exposure={}, opens={"free": OPENS}))).admit()
    assert answer.status == 403
    assert answer.json["code"] == "not-exposed"
    assert answer.json["opens"] == {"p50": "2026-03-04T09:00:00Z", "p90": "2026-03-06T18:00:00Z"}
    assert "retry-after" not in answer.headers


async def test_where_no_date_is_known_it_says_unknown() -> None:
    answer = await Asked(held(feature(exposure={}, opens={"free": None}))).admit()
    assert answer.json["opens"] == "unknown"


@pytest.mark.parametrize(
    ("asked_for", "status", "code"),
    [
        ({"surface": "phone"}, 403, "surface-closed"),
        ({"tier": "gold"}, 403, "tier-unknown"),
        ({"feature": "video"}, 404, "feature-unknown"),
    ],
)
async def test_other_refusals_name_the_tier_that_asked(
    asked_for: dict[str, str], status: int, code: str
) -> None:
    answer = await Asked(snapshot()).admit(**{"user": "ada", "tier": "free", **asked_for})
    assert (answer.status, answer.json["code"]) == (status, code)
    assert answer.json["tier"] == asked_for.get("tier", "free")
    assert "opens" not in answer.json


async def test_a_feature_under_review_closes_when_nothing_is_heard_of_it() -> None:
    asked = Asked(held(feature(on_stale="close")), now=NOW + 601.0)
    answer = await asked.admit("ada", "pro")
    assert (answer.status, answer.json["code"]) == (403, "intent-stale")


async def test_before_the_first_snapshot_the_answer_is_neither_yes_nor_no() -> None:
    answer = await Asked().admit()
    assert (answer.status, answer.json["code"]) == (503, "not-ready")
    assert int(answer.headers["retry-after"]) >= 1


async def test_all_mistakes_are_named_at_once() -> None:
    answer = await Asked(snapshot()).post(
        "/v1/admit", {"feature": "", "user": 7, "tier": "", "surface": []}
    )
    assert answer.status == 400
    assert answer.json["code"] == "malformed"
    text = "a non-empty string"
    assert answer.json["errors"] == [
        {"field": "feature", "got": '""', "expected": text},
        {"field": "user", "got": "7", "expected": text},
        {"field": "tier", "got": '""', "expected": f"{text}, or none"},
        {"field": "surface", "got": "a list of 0", "expected": f"{text}, or none"},
    ]


async def test_what_was_got_is_shown_short() -> None:
    long = await Asked(snapshot()).post("/v1/admit", {"feature": 10**20, "user": {}, "tier": None})
    got = [error["got"] for error in long.json["errors"]]
    assert got == ["a very large number", "an object", "null"]


async def test_a_field_of_a_later_release_is_left_alone() -> None:
    assert (await Asked(snapshot()).admit(session="s-1")).status == 200


async def test_another_method_is_told_which_one_is_served() -> None:
    answer = await Asked(snapshot()).get("/v1/admit")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


async def test_nothing_is_served_elsewhere() -> None:
    answer = await Asked(snapshot()).get("/v2/admit")
    assert (answer.status, answer.json["code"]) == (404, "no-such-page")


def test_every_code_of_a_refusal_has_a_title() -> None:
    assert {code.value for code in Code} - {"allowed"} <= set(TITLES)


@pytest.mark.parametrize("code", sorted(TITLES))
def test_every_problem_type_is_an_address_made_of_its_code(code: str) -> None:
    assert re.fullmatch(r"https://tidegate\.dev/problems/[a-z-]+", PROBLEM_BASE + code)
