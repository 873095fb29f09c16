"""A model that goes is told of wherever it answers, by name, by alias and by feature."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest

from tests.gateway.asking import Answer, Asked
from tests.tidegate.snapshots import NOW, POOL, intent, snapshot
from tidegate.rules.retry import come_back_after_s
from tidegate.snapshot import ModelIntent, Snapshot

DAY_S = 86_400.0
GOING = ModelIntent(
    aliases=("image-latest",),
    deprecated_at=NOW + DAY_S,
    sunset_at=NOW + 30 * DAY_S,
    retired_at=NOW + 30 * DAY_S,
    successor="image-3",
    brownouts=((NOW + 2 * DAY_S, NOW + 2 * DAY_S + 3600.0),),
    link="https://example.com/image-2",
)
IN_A_BROWNOUT = NOW + 2 * DAY_S + 60.0
GONE = NOW + 30 * DAY_S


def held(model: ModelIntent = GOING) -> Snapshot:
    models = {POOL.model: model, "image-3": ModelIntent()}
    part = intent(expires_at=NOW + 1e9).model_copy(update={"models": models})
    return snapshot(part)


async def model(name: str, now: float = NOW) -> Answer:
    return await Asked(held(), now=now).get(f"/v1/models/{name}")


async def everywhere(asked: Asked) -> list[Answer]:
    context = {"context": {"targetingKey": "ada", "tier": "pro"}}
    by_proxy = {"X-Tidegate-User": "ada", "X-Tidegate-Tier": "pro"}
    return [
        await asked.admit("ada", "pro"),
        await asked.post("/ofrep/v1/evaluate/flags/image", context),
        await asked.ask("GET", "/v1/check/image", b"", headers=by_proxy),
    ]


async def test_headers_tell_of_it_at_every_door_by_the_features_model() -> None:
    answers = [*await everywhere(Asked(held())), await model("image-latest")]
    for answer in answers:
        assert answer.headers["deprecation"] == f"@{int(NOW + DAY_S)}"
        sunset = parsedate_to_datetime(answer.headers["sunset"])
        assert sunset == datetime.fromtimestamp(int(GONE), UTC)
        assert answer.headers["sunset"].endswith(" GMT")
        assert answer.headers["link"] == (
            '<https://example.com/image-2>; rel="deprecation"; type="text/html", '
            '<https://example.com/image-2>; rel="sunset"; type="text/html", '
            '</v1/models/image-3>; rel="successor-version"'
        )


async def test_a_model_that_stays_is_told_of_by_no_header() -> None:
    for answer in await everywhere(Asked(held(ModelIntent()))):
        assert not {"deprecation", "sunset", "link"} & set(answer.headers)


@pytest.mark.parametrize(
    ("now", "state"),
    [(NOW, "current"), (NOW + DAY_S, "deprecated"), (NOW + 3 * DAY_S, "deprecated")],
)
async def test_a_model_is_found_by_name_and_alias(now: float, state: str) -> None:
    for name in (POOL.model, "image-latest"):
        answer = await model(name, now)
        assert (answer.status, answer.json["model"]) == (200, POOL.model)
        assert (answer.json["state"], answer.json["successor"]) == (state, "image-3")
        assert len(answer.json["brownouts"]) == 1


async def test_all_models_are_listed() -> None:
    listed = (await Asked(held()).get("/v1/models")).json["models"]
    assert [each["model"] for each in listed] == [POOL.model, "image-3"]


async def test_an_unknown_model_is_not_found_and_guessed() -> None:
    answer = await model("image-latset")
    assert (answer.status, answer.json["code"]) == (404, "model-unknown")
    assert 'Did you mean "image-latest"?' in answer.json["detail"]


async def test_a_brownout_is_410_until_its_end_and_nobody_is_sent_back_before() -> None:
    left_s = 3600.0 - 60.0
    asked = Asked(held(), now=IN_A_BROWNOUT)
    for answer in (await asked.admit("ada", "pro"), await model("image-latest", IN_A_BROWNOUT)):
        assert (answer.status, answer.json["code"]) == (410, "model-brownout")
        assert left_s <= int(answer.headers["retry-after"]) <= left_s + 300.0
        assert answer.headers["link"].endswith('rel="successor-version"')
    flag = await asked.post(
        "/ofrep/v1/evaluate/flags/image", {"context": {"targetingKey": "ada", "tier": "pro"}}
    )
    assert flag.json["metadata"]["until"] == "2026-02-27T07:13:20Z"
    asked.now += left_s
    assert (await asked.admit("ada", "pro")).status == 200


async def test_a_retired_model_is_410_for_good() -> None:
    for answer in (await Asked(held(), now=GONE).admit("ada", "pro"), await model("image-2", GONE)):
        assert (answer.status, answer.json["code"]) == (410, "model-retired")
        assert "retry-after" not in answer.headers


async def test_before_the_first_snapshot_no_model_is_known() -> None:
    for path in ("/v1/models", "/v1/models/image-2"):
        assert (await Asked().get(path)).status == 503


def test_those_sent_away_by_a_brownout_come_back_apart_and_never_early() -> None:
    for wait_s in (0.2, 1.0, 60.0, 1e5):
        waits = [come_back_after_s(wait_s, f"user-{n}", 1) for n in range(500)]
        assert min(waits) >= wait_s
        assert max(waits) <= wait_s + 301.0
        assert len(set(waits)) >= 10
