"""Quotas at every door: what takes a use, what takes none, and what whoever is refused is told."""

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.replies import Reply
from gateway.tally import Kind
from tests.gateway.asking import Answer, Asked
from tests.gateway.spending import allowed, asked_with, until_settled
from tests.real_redis import RealRedis, real_redis
from tests.tidegate.snapshots import NOW, feature, gate, intent, snapshot
from tidegate.quotas import QuotaSpec
from tidegate.rules.outcome import Code

pytestmark = pytest.mark.integration

TWO = QuotaSpec(uses="2 images a day", time_zone="Europe/Berlin")
FEATURES = {"image": feature(quotas={"free": (TWO,)}), "chat": feature()}
HELD = snapshot(intent(FEATURES), gate(expires_at=NOW + 1e6))
FLAGS = "/ofrep/v1/evaluate/flags"
CONTEXT = {"context": {"targetingKey": "ada", "tier": "free"}}
BY_PROXY = {"X-Tidegate-User": "ada", "X-Tidegate-Tier": "free"}


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RealRedis]:
    async with real_redis(tmp_path) as (server, _):
        yield server


@pytest.fixture
async def asked(redis: RealRedis) -> AsyncIterator[Asked]:
    async with asked_with(redis) as quotas:
        yield Asked(HELD, quotas=quotas)


async def by(asked: Asked, door: str) -> Answer:
    question = {"feature": "image", "user": "ada", "tier": "free"}
    match door:
        case "admit" | "sessions":
            return await asked.post(f"/v1/{door}", question)
        case "flag":
            return await asked.post(f"{FLAGS}/image", CONTEXT)
        case _:
            return await asked.ask("GET", "/v1/check/image", b"", headers=BY_PROXY)


DOORS = ["admit", "sessions", "flag", "check"]


def code_of(answer: Answer) -> Any:  # noqa: ANN401 - whatever was answered
    if not answer.body:
        return answer.headers["x-tidegate-code"]
    return answer.json.get("code") or answer.json["metadata"]["code"]


@pytest.mark.parametrize("door", DOORS)
async def test_each_door_takes_a_use_and_refuses_beyond_the_quota(asked: Asked, door: str) -> None:
    codes = [code_of(await by(asked, door)) for _ in range(4)]
    assert codes == ["allowed", "allowed", "quota-exceeded", "quota-exceeded"]
    assert asked.tally.counts[Kind("image", "free", Code.ALLOWED.value)] == 2
    assert asked.tally.counts[Kind("image", "free", Code.QUOTA_EXCEEDED.value)] == 2


async def test_a_user_is_counted_once_by_whatever_door_they_come(asked: Asked) -> None:
    codes = [code_of(await by(asked, door)) for door in DOORS]
    assert codes == ["allowed", "allowed", "quota-exceeded", "quota-exceeded"]


async def test_a_refusal_says_until_when_and_nobody_is_sent_back_before(asked: Asked) -> None:
    for _ in range(2):
        await asked.admit()
    answer = await asked.admit()
    assert answer.status == 429
    assert answer.json == {
        "type": "https://tidegate.dev/problems/quota-exceeded",
        "title": "The quota is used up",
        "status": 429,
        "detail": "the quota of image is used up: 2 images a day, Europe/Berlin",
        "code": "quota-exceeded",
        "allowed": False,
        "feature": "image",
        "tier": "free",
        "pool": "image",
        "version": 11,
        "until": "2026-02-25T23:00:00Z",
    }
    until = datetime.fromisoformat(answer.json["until"]).timestamp()
    assert until <= NOW + int(answer.headers["retry-after"]) <= until + 300


async def test_a_refusal_is_a_flag_that_is_off_and_says_why(asked: Asked) -> None:
    first = (await by(asked, "flag")).json
    assert (first["value"], first["metadata"]["quotas"]) == (
        True,
        "2 images a day, Europe/Berlin",
    )
    await by(asked, "flag")
    refused = (await by(asked, "flag")).json
    assert (refused["value"], refused["variant"]) == (False, "off")
    assert refused["metadata"]["code"] == "quota-exceeded"
    assert refused["metadata"]["until"] == "2026-02-25T23:00:00Z"


async def test_a_proxy_that_knows_403_only_is_told_the_real_status(asked: Asked) -> None:
    headers = {**BY_PROXY, "X-Tidegate-Refuse-With": "403"}
    answers = [await asked.ask("GET", "/v1/check/image", b"", headers=headers) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 403]
    assert answers[2].headers["x-tidegate-status"] == "429"
    assert answers[2].headers["x-tidegate-code"] == "quota-exceeded"


async def test_looking_takes_nothing(asked: Asked, redis: RealRedis) -> None:
    for _ in range(5):
        assert (await asked.post(FLAGS, CONTEXT)).json["flags"][1]["value"] is True
        why = (await asked.get("/v1/why", "feature=image&user=ada&tier=free")).json
        assert why["quotas"] == ["2 images a day, Europe/Berlin"]
        signs_up = {"feature": "image", "user": "ada", "tier": "free", "asks": "signup"}
        assert (await asked.post("/v1/admit", signs_up)).status == 200
    assert [(await asked.admit()).status for _ in range(3)] == [200, 200, 429]
    assert await until_settled(redis) == 2


async def test_what_something_else_refuses_takes_nothing(asked: Asked, redis: RealRedis) -> None:
    asked.holder.take(snapshot(intent(FEATURES, version=20), gate({"free": 0.0}, version=21)))
    assert (await asked.admit()).json["code"] == "gate-shed"
    assert await until_settled(redis) == 0


async def test_a_tier_without_quotas_asks_nobody(asked: Asked) -> None:
    for _ in range(9):
        assert (await asked.admit(tier="pro")).status == 200
        assert (await asked.admit(feature="chat")).status == 200
    assert asked.quotas is not None
    assert asked.quotas.leases == 0


async def test_a_quota_that_is_published_anew_counts_on(asked: Asked) -> None:
    for _ in range(3):
        await asked.admit()
    more = {
        "image": feature(quotas={"free": (QuotaSpec(uses="3 a day", time_zone="Europe/Berlin"),)})
    }
    asked.holder.take(snapshot(intent(more, version=20), gate(expires_at=NOW + 1e6)))
    assert [(await asked.admit()).status for _ in range(2)] == [200, 429]


async def test_a_defect_while_a_lease_is_waited_for_is_told_to_whoever_awaits_it(
    redis: RealRedis,
) -> None:
    def break_(_: object) -> Reply:
        raise ZeroDivisionError

    async with asked_with(redis) as quotas:
        answer = quotas.spend("ada", allowed("2 a day"), NOW, break_)
        with pytest.raises(ZeroDivisionError):
            await answer  # type: ignore[misc]


async def test_a_closed_quota_refuses_where_nothing_is_known() -> None:
    closed = QuotaSpec(uses="2 a day", on_lost="close")
    asked = Asked(snapshot(intent({"image": feature(quotas={"free": (closed,)})})))
    answer = await asked.admit()
    assert (answer.status, answer.json["code"]) == (429, "quota-unknown")
    assert int(answer.headers["retry-after"]) >= 1
    assert "until" not in answer.json
    metrics = (await asked.get("/metrics")).body.decode()
    assert "tidegate_gateway_quota_uses_unknown_total 1.0" in metrics
    assert "tidegate_gateway_quota_leases 1.0" in metrics


async def test_an_open_quota_lets_in_where_nothing_is_known() -> None:
    free = {"free": (QuotaSpec(uses="2 a day"),)}
    asked = Asked(snapshot(intent({"image": feature(quotas=free)})))
    assert [(await asked.admit()).status for _ in range(3)] == [200, 200, 429]
