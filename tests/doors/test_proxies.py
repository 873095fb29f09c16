"""Envoy, nginx and Caddy ask the gateway, by the configurations that the docs show."""

import json
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import envoy
import pytest

from tests.debian import needs_package
from tests.doors.standing import Answer, Door, standing
from tests.tidegate.snapshots import FEATURE, feature
from tidegate.audience import AudienceSpec
from tidegate.snapshot import ModelIntent

pytestmark = pytest.mark.integration


def run_envoy(folder: Path, written: str) -> tuple[Sequence[str], Mapping[str, str]]:
    (folder / "envoy.yaml").write_text(written)
    binary = Path(envoy.__file__).parent / "_bin" / "envoy"
    argv = [str(binary), "-c", str(folder / "envoy.yaml"), "--concurrency", "1"]
    return [*argv, "--use-dynamic-base-id", "--log-level", "warning"], os.environ


def run_nginx(folder: Path, written: str) -> tuple[Sequence[str], Mapping[str, str]]:
    (folder / "site.conf").write_text(written)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    main = (
        f"daemon off; pid {folder}/nginx.pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {folders} include {folder}/site.conf; }}\n"
    )
    (folder / "nginx.conf").write_text(main)
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")], os.environ


def run_caddy(folder: Path, written: str) -> tuple[Sequence[str], Mapping[str, str]]:
    (folder / "Caddyfile").write_text("{\n\tadmin off\n}\n" + written)
    argv = ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    return argv, {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)}


PROXIES = {
    "envoy": ("envoy.yaml", run_envoy),
    "nginx": ("nginx.conf", run_nginx),
    "caddy": ("Caddyfile", run_caddy),
}


@pytest.fixture(
    params=[
        "envoy",
        pytest.param("nginx", marks=needs_package("nginx")),
        pytest.param("caddy", marks=needs_package("caddy")),
    ]
)
async def door(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Door]:
    example, command = PROXIES[request.param]
    async with standing(tmp_path, example, command) as door:
        yield door


def code(answer: Answer) -> str:
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    return str(json.loads(answer.body)["code"])


async def test_who_may_is_passed_on_and_who_may_not_is_told_why(door: Door) -> None:
    allowed = await door.ask("pro")
    assert (allowed.status, allowed.body) == (200, "a picture")
    assert door.passed_on[-1]["X-Tidegate-Code"] == "allowed"

    reached = len(door.passed_on)
    await door.publish(ceiling=0.0)
    shed = await door.ask("free")
    assert (shed.status, code(shed)) == (429, "gate-shed")
    assert 6 <= int(shed.headers["Retry-After"]) <= 10
    assert (await door.ask("pro")).status == 200

    await door.publish(feature(exposure={"pro": 1.0}))
    assert code(await door.ask("free")) == "not-exposed"

    await door.publish(models={"image-2": ModelIntent(retired_at=time.time() - 1.0)})
    retired = await door.ask("pro")
    assert (retired.status, code(retired)) == (410, "model-retired")
    assert len(door.passed_on) == reached + 1


async def test_who_has_no_token_or_a_wrong_one_is_sent_to_get_one(door: Door) -> None:
    for headers in ({}, {"Authorization": "Bearer a.b.c"}):
        answer = await door.ask(None, **headers)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert not door.passed_on


async def test_what_a_client_writes_into_the_proxys_headers_does_not_count(door: Door) -> None:
    await door.publish(feature(audience=AudienceSpec(cohorts=("beta",))), ceiling=0.0)
    forged = {
        "X_Tidegate_Tier": "pro",
        "X_Tidegate_User": "somebody-else",
        "X_Tidegate_Cohorts": "beta",
        "X_Tidegate_Refuse_With": "403",
    }
    assert code(await door.ask("pro", **forged)) == "not-in-audience"
    await door.publish(FEATURE, ceiling=0.0)
    shed = await door.ask("free", **forged)
    assert (shed.status, code(shed)) == (429, "gate-shed")
    # Another surface than the proxy's own: forged, it would be refused.
    assert (await door.ask("pro", X_Tidegate_Surface="phone")).status == 200
    assert not [headers for headers in door.passed_on if headers["X-Tidegate-Code"] != "allowed"]


CLOSED = '\t\trespond `{"type":"https://tidegate.dev/problems/not-ready","code":"not-ready"}` 503\n'
OPEN: Mapping[str, Mapping[str, str]] = {
    "envoy": {"failure_mode_allow: false": "failure_mode_allow: true"},
    "nginx": {
        "        internal;\n        proxy_pass http://tidegate": (
            "        internal;\n        error_page 502 504 = @open;\n"
            "        proxy_pass http://tidegate"
        ),
        "    location @refused {": (
            "    location @open { internal; return 204; }\n    location @refused {"
        ),
    },
    "caddy": {
        "		header Retry-After 2\n": "		reverse_proxy 127.0.0.1:9000\n",
        "		header Content-Type application/problem+json\n": "",
        CLOSED: "",
    },
}


@pytest.mark.parametrize(
    "proxy",
    [
        "envoy",
        pytest.param("nginx", marks=needs_package("nginx")),
        pytest.param("caddy", marks=needs_package("caddy")),
    ],
)
async def test_it_can_be_told_to_open_while_the_gateway_is_away(tmp_path: Path, proxy: str) -> None:
    async with standing(tmp_path, *PROXIES[proxy], OPEN[proxy]) as door:
        await door.publish(ceiling=0.0)
        assert (await door.ask("free")).status == 429
        door.gateway.process.send_signal(signal.SIGSTOP)
        assert (await door.ask("free")).status == 200
        door.gateway.process.send_signal(signal.SIGCONT)
        await door.gateway.stop(signal.SIGKILL)
        assert (await door.ask("free")).status == 200


async def test_it_closes_while_the_gateway_hangs_or_is_gone_and_opens_again(door: Door) -> None:
    process = door.gateway.process
    process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    hanging = await door.ask("pro")
    assert hanging.status == 503
    assert time.monotonic() - began < 2.0
    process.send_signal(signal.SIGCONT)
    await door.until_status(200)
    await door.gateway.stop(signal.SIGKILL)
    assert (await door.ask("pro")).status == 503
