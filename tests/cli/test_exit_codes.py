"""What a script can tell apart by a command's exit code, each with one clear line."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from typer.testing import CliRunner

from embedded.ports import LOOPBACK, free_ports
from tidegate.cli.asking import ask_why
from tidegate.cli.main import app
from tidegate.errors import PlanError, Unavailable
from tidegate.rules.refusals import NOT_READY_DETAIL
from tidegate.settings import variable

ASKED = {"user": "u1", "feature": "image", "tier": "pro", "surface": "api"}


def types(*words: str, **settings: str) -> tuple[int, list[str]]:
    """Type a command with these settings; returns its exit code and the lines of its error."""
    environment = {variable(name): value for name, value in settings.items()}
    result = CliRunner().invoke(app, list(words), env=environment)
    return result.exit_code, result.stderr.splitlines()


@asynccontextmanager
async def answering(answer: Callable[[], web.Response]) -> AsyncIterator[str]:
    """Serve the same answer to whatever is asked; yields the address."""

    async def handle(_: web.Request) -> web.Response:
        return answer()

    application = web.Application()
    application.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    (port,) = free_ports(1)
    await web.TCPSite(runner, LOOPBACK, port).start()
    try:
        yield f"http://{LOOPBACK}:{port}"
    finally:
        await runner.cleanup()


def test_wrong_settings_are_told_all_at_once_each_by_its_name() -> None:
    code, lines = types("status", redis="here", gateway="there")
    assert code == 2
    assert [line.partition(":")[0] for line in lines] == ["TIDEGATE_REDIS", "TIDEGATE_GATEWAY"]


def test_a_dead_temporal_is_one_line_that_names_its_setting() -> None:
    (port,) = free_ports(1)
    code, lines = types("status", temporal=f"{LOOPBACK}:{port}")
    assert code == 4
    where = f"temporal: no answer from {LOOPBACK}:{port}."
    assert lines == [f"{where} Start it, or set TIDEGATE_TEMPORAL to where it is."]


def test_a_dead_gateway_is_one_line_that_names_its_setting() -> None:
    (port,) = free_ports(1)
    url = f"http://{LOOPBACK}:{port}"
    code, lines = types("why", "u1", "image", "--tier", "pro", gateway=url)
    assert code == 4
    assert lines == [f"gateway: no answer from {url}. Start it, or set TIDEGATE_GATEWAY."]


@pytest.mark.parametrize(
    "words",
    [
        ["approve", "launch", "pro", "--role", ""],
        ["hold", "launch", "--role", "legal"],
        ["abort", "launch"],
        ["apply"],
        ["steer"],
    ],
)
def test_a_command_line_that_is_wrong_is_told_before_anybody_is_asked(words: list[str]) -> None:
    code, lines = types(*words, temporal="nobody:1")
    assert code == 2
    assert any("Error" in line for line in lines)


async def test_a_gateway_s_answer_is_shown_line_by_line() -> None:
    async with answering(lambda: web.json_response({"allowed": True, "code": "open"})) as url:
        assert await ask_why(url, ASKED) == ["allowed: True", "code: open"]


async def test_a_question_that_a_gateway_calls_malformed_is_its_writer_s_to_mend() -> None:
    told = {"detail": "tier: got nothing, expected a name."}
    async with answering(lambda: web.json_response(told, status=400)) as url:
        with pytest.raises(PlanError, match=r"^gateway: tier: got nothing, expected a name\.$"):
            await ask_why(url, ASKED)


async def test_a_gateway_that_is_not_ready_is_asked_again_later() -> None:
    told = {"detail": NOT_READY_DETAIL}
    async with answering(lambda: web.json_response(told, status=503)) as url:
        with pytest.raises(Unavailable, match=f"^gateway: {NOT_READY_DETAIL}$"):
            await ask_why(url, ASKED)


@pytest.mark.parametrize("body", ["<html>It works!</html>", "[1]", ""])
async def test_something_else_that_listens_there_is_no_gateway(body: str) -> None:
    async with answering(lambda: web.Response(text=body, status=404)) as url:
        with pytest.raises(Unavailable, match=f"^gateway: no answer from {url}"):
            await ask_why(url, ASKED)
