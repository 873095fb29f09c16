"""Who may read the whole snapshot, which holds invite lists and signed orders."""

import hashlib
from pathlib import Path

import pytest

from gateway.replies import Reply, Request, Stream
from tests.gateway.asking import AS_A_SERVER, CALLERS, KEY, Asked
from tests.gateway.running import running_gateway
from tests.tidegate.snapshots import snapshot
from tidegate.callers import CallersSpec
from tidegate.clients.client import follow

DIGEST = hashlib.sha256(KEY.encode()).hexdigest()
JWT = {
    "jwks": "https://id.example/jwks.json",
    "issuer": "https://id.example",
    "audience": "tidegate",
    "claim": "tier",
}
PATHS = ("/v1/snapshot", "/v1/snapshot/stream")


def callers(**spec: object) -> CallersSpec:
    return CallersSpec.model_validate(spec)


def narrowed(**to: list[str]) -> CallersSpec:
    return callers(apiKeys=[{"name": "app", "sha256": DIGEST, **to}])


def answered(
    spec: CallersSpec, path: str, shown: dict[str, str] | None = None, peer: str = "10.0.0.1"
) -> Reply | Stream:
    headers = [(name.encode(), value.encode()) for name, value in (shown or {}).items()]
    request = Request(b"GET", path.encode(), headers, b"", peer)
    answer = Asked(snapshot(), callers=spec).app.answer(request)
    assert isinstance(answer, Reply | Stream), "a snapshot waits for nothing"
    return answer


def refused(answer: Reply | Stream) -> int:
    assert isinstance(answer, Reply)
    assert b"image" not in answer.body
    return answer.status


def was_given(answer: Reply | Stream) -> bool:
    return isinstance(answer, Stream) or answer.status == 200


@pytest.mark.parametrize("path", PATHS)
def test_a_server_s_key_is_shown_for_it(path: str) -> None:
    assert refused(answered(CALLERS, path)) == 401
    assert refused(answered(CALLERS, path, {"X-API-Key": "another"})) == 401
    assert was_given(answered(CALLERS, path, {"X-API-Key": KEY}))
    assert was_given(answered(CALLERS, path, AS_A_SERVER))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("spec", [narrowed(tiers=["free"]), narrowed(surfaces=["mobile"])])
def test_a_key_for_some_tiers_or_surfaces_reads_not_all_of_them(
    path: str, spec: CallersSpec
) -> None:
    assert refused(answered(spec, path, AS_A_SERVER)) == 403


@pytest.mark.parametrize("path", PATHS)
def test_where_users_or_proxies_are_believed_they_are_no_servers(path: str) -> None:
    proxies = callers(proxies={"addresses": ["10.0.0.0/8"]})
    assert refused(answered(proxies, path)) == 401
    assert refused(answered(proxies, path, {"X-Tidegate-Tier": "pro"})) == 403
    assert refused(answered(callers(jwt=JWT), path)) == 401


@pytest.mark.parametrize("path", PATHS)
def test_where_nobody_is_believed_whoever_reaches_it_may_read_it(path: str) -> None:
    assert was_given(answered(CallersSpec(), path))


@pytest.mark.integration
async def test_a_client_shows_the_key_that_is_set_or_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = tmp_path / "state" / "gateway-one.json"
    saved.parent.mkdir()
    saved.write_text(snapshot().model_dump_json())
    async with running_gateway(tmp_path, "redis://127.0.0.1:1/0", "--name", "one") as gateway:
        monkeypatch.delenv("TIDEGATE_API_KEY", raising=False)
        async with follow(gateway.url, tmp_path / "a", ready_within_s=0.5) as client:
            assert not client.is_ready
        async with follow(gateway.url, tmp_path / "b", api_key=KEY) as client:
            assert client.is_ready
        monkeypatch.setenv("TIDEGATE_API_KEY", KEY)
        async with follow(gateway.url, tmp_path / "c") as client:
            assert client.is_ready
