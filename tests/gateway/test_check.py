"""The check at a proxy: the same decision, asked by headers, answered so that any proxy can act."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.tally import Kind
from tests.gateway.asking import Answer, Asked
from tests.tidegate.snapshots import feature, gate, intent, snapshot
from tidegate.audience import AudienceSpec, VersionRange
from tidegate.rules.outcome import Code
from tidegate.snapshot import Snapshot

DOCS = Path(__file__).parents[2] / "docs"
SHUT = snapshot(intent(), gate({"free": 0.0}))


async def check(
    held: Snapshot | None, path: str = "/v1/check/image", method: str = "GET", **said: str
) -> Answer:
    headers = {f"X-Tidegate-{name.replace('_', '-')}": text for name, text in said.items()}
    asked = {"X-Tidegate-User": "ada", "X-Tidegate-Tier": "free", **headers}
    return await Asked(held).ask(method, path, b"", headers=asked)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize("rest", ["", "/", "/v1/draw?x=1", "/%2e%2e/../v1/admit", "?a=b"])
async def test_whatever_the_client_asked_for_the_feature_is_checked(method: str, rest: str) -> None:
    answer = await check(snapshot(), "/v1/check/image" + rest, method)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers == {
        "x-tidegate-code": "allowed",
        "x-tidegate-version": "11",
        "cache-control": "no-store",
    }


async def test_a_refusal_is_the_one_of_the_admission_check() -> None:
    checked = await check(SHUT)
    admitted = await Asked(SHUT).admit()
    assert checked.status == admitted.status == 429
    assert checked.json == admitted.json
    assert checked.headers["retry-after"] == admitted.headers["retry-after"]
    assert checked.headers["x-tidegate-code"] == "gate-shed"


async def test_it_counts_as_a_request_for_work() -> None:
    asked = Asked(SHUT)
    headers = {"X-Tidegate-User": "ada", "X-Tidegate-Tier": "free"}
    for _ in range(3):
        await asked.ask("GET", "/v1/check/image", b"", headers=headers)
    assert asked.tally.counts[Kind("image", "free", Code.GATE_SHED.value)] == 3


async def test_a_proxy_that_knows_403_only_is_told_the_real_status_beside_it() -> None:
    shed = await check(SHUT, refuse_with="403")
    assert (shed.status, shed.headers["x-tidegate-status"]) == (403, "429")
    assert shed.headers["x-tidegate-code"] == "gate-shed"
    assert int(shed.headers["retry-after"]) >= 1
    unready = await check(None, refuse_with="403")
    assert (unready.status, unready.headers["x-tidegate-status"]) == (403, "503")
    assert (await check(snapshot(), refuse_with="403")).status == 200
    assert "x-tidegate-status" not in (await check(SHUT)).headers


async def test_nobody_is_sent_to_say_who_they_are() -> None:
    answer = await check(snapshot(), user="")
    assert (answer.status, answer.json["code"]) == (401, "caller-unknown")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_tier_that_nobody_vouches_for_does_not_count() -> None:
    headers = {"X-Tidegate-User": "ada", "X-Tidegate-Tier": "pro", "Authorization": ""}
    answer = await Asked(SHUT).ask("GET", "/v1/check/image", b"", headers=headers)
    assert (answer.status, answer.json["tier"]) == (429, "free")


@pytest.mark.parametrize(
    ("audience", "said"),
    [
        (AudienceSpec(regions=("eu",)), {"region": "eu"}),
        (AudienceSpec(cohorts=("beta",)), {"cohorts": "staff, beta"}),
        (AudienceSpec(app_version=VersionRange(at_least="2.4")), {"app_version": "2.10.1"}),
    ],
)
async def test_what_the_proxy_says_of_the_user_is_compared_with_the_audience(
    audience: AudienceSpec, said: dict[str, str]
) -> None:
    held = snapshot(intent({"image": feature(audience=audience)}))
    assert (await check(held)).headers["x-tidegate-code"] == "not-in-audience"
    assert (await check(held, **said)).status == 200


async def test_the_surface_is_the_one_that_the_proxy_names() -> None:
    assert (await check(snapshot(), surface="web")).status == 200
    assert (await check(snapshot(), surface="phone")).json["code"] == "surface-closed"


async def test_a_user_is_the_same_by_whatever_door_they_come() -> None:
    held = snapshot(intent({"image": feature(exposure={"free": 0.5})}))
    asked = Asked(held)
    for number in range(200):
        user = f"zoë-{number}"
        said = {"X-Tidegate-User": user, "X-Tidegate-Tier": "free"}
        checked = await asked.ask("GET", "/v1/check/image", b"", headers=said)
        assert checked.status == (await asked.admit(user)).status


@pytest.mark.parametrize("path", ["/v1/check/", "/v1/check/%ff", "/v1/check/" + "x" * 5000])
async def test_a_feature_that_is_none_is_not_found(path: str) -> None:
    answer = await check(snapshot(), path)
    assert answer.status == 404


async def test_traefik_gets_what_it_needs_by_the_configuration_that_is_shown() -> None:
    written = (DOCS / "examples" / "proxies" / "traefik.yaml").read_text()
    auth: Any = yaml.safe_load(written)["http"]["middlewares"]["tidegate"]["forwardAuth"]
    path = auth["address"].removeprefix("http://127.0.0.1:8080")
    # As Traefik's ForwardAuth asks: a GET without a body, the client's request in X-Forwarded-*.
    forwarded = {
        "X-Forwarded-Method": "POST",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "app.example",
        "X-Forwarded-Uri": "/draw?x=1",
        "X-Forwarded-For": "192.0.2.7",
        "X-Tidegate-User": "ada",
    }
    # Any status of 2xx passes the request on, with these headers copied; any other answer is given
    # to the client as it is.
    allowed = await Asked(snapshot()).ask("GET", path, b"", headers=forwarded)
    assert allowed.status == 200
    assert {name.lower() for name in auth["authResponseHeaders"]} <= set(allowed.headers)
    # Only these of the client's headers reach the gateway, so that it cannot write the proxy's.
    assert auth["authRequestHeaders"] == ["Authorization", "Tidegate-Pass"]
    refused = await Asked(SHUT).ask("GET", path, b"", headers=forwarded)
    assert (refused.status, refused.headers["content-type"]) == (429, "application/problem+json")
