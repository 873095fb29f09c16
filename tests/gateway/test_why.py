"""The explanation over HTTP; what it says is tested with the rule."""

import json
from urllib.parse import urlencode

import pytest

from tests.gateway.asking import Asked
from tests.tidegate.snapshots import NOW, OPENS, feature, gate, intent, snapshot
from tidegate.audience import AttributeTest, AudienceSpec
from tidegate.snapshot import Signups

QUERY = "feature=image&user=ada&tier=free"


async def test_a_refusal_is_explained_with_all_that_went_into_it() -> None:
    answer = await Asked(snapshot(intent(), gate({"free": 0.25}))).get("/v1/why", QUERY)
    assert answer.status == 200
    explained = answer.json
    assert explained["shed_place"] >= explained["ceiling"] == 0.25
    assert explained["place"] < explained["exposure"] == 1.0
    assert explained["would_be_yes_if"].startswith("in tier plus: yes now; or from ")
    for varies in ("place", "shed_place", "would_be_yes_if"):
        del explained[varies]
    assert explained == {
        "allowed": False,
        "code": "gate-shed",
        "reason": "pool image is throttled: queue wait is at 140% of its limit",
        "feature": "image",
        "user": "ada",
        "tier": "free",
        "surface": "api",
        "asks": "use",
        "attributes": {},
        "pool": "image",
        "version": 11,
        "exposure": 1.0,
        "ceiling": 0.25,
        "gate": {
            "state": "throttled",
            "reason": "queue wait is at 140% of its limit",
            "stale": False,
            "expired": False,
        },
        "intent_expired": False,
        "opens": None,
        "quotas": [],
        "retry_after_s": 8.0,
        "versions": {"gate/image": 11, "intent": 10},
    }


async def test_when_it_opens_is_a_range_or_unknown_and_nothing_where_it_is_open() -> None:
    said = []
    for opens in (OPENS, None):
        held = snapshot(intent({"image": feature(exposure={}, opens={"free": opens})}))
        said.append((await Asked(held).get("/v1/why", QUERY)).json["opens"])
    said.append((await Asked(snapshot()).get("/v1/why", QUERY)).json["opens"])
    assert said == [{"p50": "2026-03-04T09:00:00Z", "p90": "2026-03-06T18:00:00Z"}, "unknown", None]


async def test_an_unknown_feature_is_explained_too() -> None:
    answer = await Asked(snapshot()).get("/v1/why", "feature=video&user=ada&tier=free")
    assert answer.status == 200
    assert (answer.json["code"], answer.json["gate"]) == ("feature-unknown", None)
    assert answer.json["would_be_yes_if"] == "unknown"


async def test_what_has_expired_is_said() -> None:
    explained = (await Asked(snapshot(), now=NOW + 700.0).get("/v1/why", QUERY)).json
    assert explained["intent_expired"] is True
    assert explained["gate"]["expired"] is True


async def test_what_a_service_says_of_a_user_is_explained_with_its_types() -> None:
    audience = AudienceSpec(attributes=(AttributeTest(name="seats", at_least=10),))
    asked = Asked(snapshot(intent({"image": feature(audience=audience)})))
    answers = []
    for said in ({"seats": 12}, {"seats": 9}, {"seats": "12"}):
        query = urlencode({"attributes": json.dumps(said)})
        answers.append((await asked.get("/v1/why", f"{QUERY}&{query}")).json)
    assert [each["code"] for each in answers] == ["allowed", "not-in-audience", "not-in-audience"]
    assert answers[1]["attributes"] == {"seats": 9}
    assert answers[1]["would_be_yes_if"] == (
        "with seats at least 10: yes now; or on the invite list: yes now"
    )


async def test_a_sign_up_is_explained_as_one() -> None:
    suspended = Signups(state="suspended", cohorts=("beta",), reason="a surge")
    asked = Asked(snapshot(intent({"image": feature(signups=suspended)})))
    assert (await asked.get("/v1/why", QUERY)).json["allowed"]
    explained = (await asked.get("/v1/why", f"{QUERY}&asks=signup")).json
    assert (explained["code"], explained["asks"]) == ("signups-suspended", "signup")
    assert explained["would_be_yes_if"] == "in cohort beta: yes now; or when sign-ups reopen"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("attributes=", "attributes"),
        ("attributes=%5B%5D", "attributes"),
        ("attributes=%7B%22a%22%3ANaN%7D", "attributes"),
        ("attributes=" + "%5B" * 500, "attributes"),
        ("asks=now", "asks"),
    ],
)
async def test_attributes_that_are_no_object_are_one_clear_error(query: str, field: str) -> None:
    answer = await Asked(snapshot()).get("/v1/why", f"{QUERY}&{query}")
    assert (answer.status, [each["field"] for each in answer.json["errors"]]) == (400, [field])


async def test_an_explanation_is_no_demand() -> None:
    asked = Asked(snapshot())
    await asked.get("/v1/why", QUERY)
    assert not asked.tally.counts


async def test_mistakes_are_named_as_in_the_admission_check() -> None:
    answer = await Asked(snapshot()).get("/v1/why", "feature=image&user=&tier=")
    assert answer.status == 400
    assert [(e["field"], e["got"]) for e in answer.json["errors"]] == [
        ("user", '""'),
        ("tier", '""'),
    ]


async def test_before_the_first_snapshot_there_is_nothing_to_explain() -> None:
    assert (await Asked().get("/v1/why", QUERY)).status == 503
