"""OFREP 0.3 as its text has it; the conformance client is in test_ofrep_client.py."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gateway.asking import Answer, Asked
from tests.tidegate.snapshots import (
    NOW,
    OPENS,
    attributes,
    conditioned_snapshots,
    feature,
    gate,
    instants,
    intent,
    snapshot,
    snapshots,
    users,
)
from tidegate.snapshot import FeatureIntent, Snapshot

FLAGS = "/ofrep/v1/evaluate/flags"
ADA = {"targetingKey": "ada", "tier": "free"}


async def one(asked: Asked, context: object = ADA, key: str = "image") -> Answer:
    return await asked.post(f"{FLAGS}/{key}", {"context": context})


async def every(asked: Asked, context: object = ADA, **headers: str) -> Answer:
    return await asked.post(FLAGS, {"context": context}, headers)


def image(**changes: object) -> Snapshot:
    return snapshot(intent({"image": feature(**changes)}))


async def test_one_flag_is_evaluated() -> None:
    answer = await one(Asked(snapshot()))
    assert answer.status == 200
    assert answer.json == {
        "key": "image",
        "value": True,
        "reason": "TARGETING_MATCH",
        "variant": "on",
        "metadata": {
            "code": "allowed",
            "tier": "free",
            "pool": "image",
            "version": 11,
            "detail": "image is open for free",
        },
    }


async def test_a_refusal_is_a_success_that_is_off_and_says_when() -> None:
    answer = await one(Asked(image(exposure={}, opens={"free": OPENS})))
    assert answer.status == 200
    assert (answer.json["value"], answer.json["variant"]) == (False, "off")
    metadata = answer.json["metadata"]
    assert metadata["code"] == "not-exposed"
    assert metadata["opensP50"] == "2026-03-04T09:00:00Z"
    assert metadata["opensP90"] == "2026-03-06T18:00:00Z"


async def test_a_shed_user_is_off_and_told_when_to_come_back() -> None:
    answer = await one(Asked(snapshot(intent(), gate({"free": 0.0}))))
    assert answer.json["metadata"]["code"] == "gate-shed"
    assert 6 <= answer.json["metadata"]["retryAfterS"] <= 10


@pytest.mark.parametrize(
    ("held", "now", "reason"),
    [
        (snapshot(), NOW, "TARGETING_MATCH"),
        (image(exposure={"free": 0.5}), NOW, "SPLIT"),
        (image(exposure={}), NOW, "TARGETING_MATCH"),
        (snapshot(intent(), gate({"free": 0.5})), NOW, "SPLIT"),
        (snapshot(intent(), gate({"free": 0.0})), NOW, "TARGETING_MATCH"),
        (snapshot(intent(), gate(expires_at=NOW - 1.0)), NOW, "SPLIT"),
        (snapshot(), NOW + 601.0, "STALE"),
        (image(on_stale="close"), NOW + 601.0, "STALE"),
    ],
)
async def test_the_reason_says_what_kind_of_answer_it_is(
    held: Snapshot, now: float, reason: str
) -> None:
    assert (await one(Asked(held, now=now))).json["reason"] == reason


@pytest.mark.parametrize(
    ("context", "code"),
    [
        ({}, "TARGETING_KEY_MISSING"),
        ({"tier": "free"}, "TARGETING_KEY_MISSING"),
        ({"targetingKey": "", "tier": "free"}, "TARGETING_KEY_MISSING"),
        ({"targetingKey": 7, "tier": "free"}, "INVALID_CONTEXT"),
        ({"targetingKey": "ada", "tier": ""}, "INVALID_CONTEXT"),
        ({"targetingKey": "ada", "tier": 3}, "INVALID_CONTEXT"),
        ({"targetingKey": "ada", "tier": "free", "surface": 1}, "INVALID_CONTEXT"),
        ("ada", "INVALID_CONTEXT"),
        (None, "INVALID_CONTEXT"),
    ],
)
async def test_a_context_that_does_not_do_is_a_400_with_its_code(
    context: object, code: str
) -> None:
    single, bulk = await one(Asked(snapshot()), context), await every(Asked(snapshot()), context)
    assert (single.status, single.json["errorCode"]) == (400, code)
    assert single.json["key"] == "image"
    assert single.json["errorDetails"]
    assert (bulk.status, bulk.json["errorCode"]) == (400, code)
    assert "key" not in bulk.json


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'"\\ud800"', b"null"])
async def test_what_is_no_json_object_is_a_parse_error(body: bytes) -> None:
    answer = await Asked(snapshot()).ask("POST", f"{FLAGS}/image", body)
    assert (answer.status, answer.json["errorCode"]) == (400, "PARSE_ERROR")


async def test_a_flag_that_nobody_published_is_not_found() -> None:
    answer = await one(Asked(snapshot()), key="video")
    assert answer.status == 404
    assert answer.json["key"] == "video"
    assert answer.json["errorCode"] == "FLAG_NOT_FOUND"


async def test_before_the_first_snapshot_the_provider_is_not_ready() -> None:
    for answer in (await one(Asked()), await every(Asked())):
        assert (answer.status, answer.json["errorCode"]) == (503, "PROVIDER_NOT_READY")
        assert int(answer.headers["retry-after"]) >= 1


# --- all flags ---


def two_features() -> dict[str, FeatureIntent]:
    return {"video": feature(exposure={"pro": 1.0}), "image": feature()}


async def test_all_flags_come_in_order_with_the_version() -> None:
    answer = await every(Asked(snapshot(intent(two_features()))))
    assert [flag["key"] for flag in answer.json["flags"]] == ["image", "video"]
    assert answer.json["metadata"] == {"version": 11}


async def test_the_same_question_is_not_answered_twice() -> None:
    asked = Asked(snapshot())
    etag = (await every(asked)).headers["etag"]
    for known in (etag, f'"other", W/{etag}', "*"):
        answer = await every(asked, **{"If-None-Match": known})
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", etag)


async def etag_of(asked: Asked, context: object = ADA) -> str:
    return (await every(asked, context)).headers["etag"]


async def test_an_upgrade_under_the_same_key_is_never_answered_with_304() -> None:
    asked = Asked(snapshot())
    free = await etag_of(asked)
    assert await etag_of(asked, {**ADA, "tier": "pro"}) != free
    assert await etag_of(asked, {**ADA, "targetingKey": "grace"}) != free
    assert await etag_of(asked, {**ADA, "surface": "web"}) != free


async def test_a_snapshot_that_says_something_new_changes_the_etag_and_a_renewed_one_does_not() -> (
    None
):
    asked = Asked(snapshot())
    before = await etag_of(asked)
    asked.holder.take(snapshot(intent(), gate(version=12)))
    assert await etag_of(asked) == before
    asked.holder.take(snapshot(intent(), gate({"free": 0.999}, version=13)))
    assert await etag_of(asked) != before


async def test_time_alone_changes_the_etag_where_it_changes_an_answer() -> None:
    asked = Asked(snapshot(intent(), gate(safe_share=0.0)))
    before = await etag_of(asked)
    asked.now = NOW + 61.0
    assert await etag_of(asked) != before


@given(snapshots(), users, instants, st.sampled_from("abcdef"))
async def test_all_flags_answer_as_each_one_does(
    held: Snapshot, user: str, now: float, tier: str
) -> None:
    part = held.intent or intent()
    features = {"video": feature(exposure={tier: 0.5}), **part.features}
    more = Snapshot(intent=part.model_copy(update={"features": features}), gates=held.gates)
    asked = Asked(more, now=now)
    context = {"targetingKey": user, "tier": tier}
    bulk: list[Any] = (await every(asked, context)).json["flags"]
    assert bulk == [(await one(asked, context, flag["key"])).json for flag in bulk]


async def test_one_flag_counts_as_demand_and_all_flags_do_not() -> None:
    asked = Asked(snapshot())
    await every(asked)
    assert not asked.tally.counts
    await one(asked)
    assert asked.tally.counts.total() == 1


# --- whatever is published and whoever asks ---


@given(conditioned_snapshots(), users, attributes, instants)
async def test_all_at_once_says_what_each_says_by_itself(
    held: Snapshot, user: str, said: dict[str, object], now: float
) -> None:
    asked = Asked(held, now=now)
    for tier in (held.intent or intent()).tiers:
        kept = {name: value for name, value in said.items() if name not in {"surface", "asks"}}
        context = {**kept, "targetingKey": user, "tier": tier}
        bulk = await asked.post(FLAGS, {"context": context})
        if bulk.status == 400:  # a number that is none, or half of a surrogate pair
            continue
        for flag in bulk.json["flags"]:
            single = await asked.post(f"{FLAGS}/{flag['key']}", {"context": context})
            again = await asked.post(f"{FLAGS}/{flag['key']}", {"context": context})
            assert single.json == flag
            assert again.json == flag
