"""What a person types of a user is what a service would have sent."""

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.gateway.running import running_gateway
from tests.tidegate.snapshots import snapshot
from tidegate.cli.asking import read_attributes
from tidegate.cli.main import app
from tidegate.errors import PlanError


def test_values_are_read_as_what_they_look_like() -> None:
    given = [
        "seats=12",
        "ratio=0.5",
        "trial=true",
        "plan=pro",
        'code="12"',
        "note=a=b",
        "none=null",
    ]
    assert read_attributes(given) == {
        "seats": 12,
        "ratio": 0.5,
        "trial": True,
        "plan": "pro",
        "code": "12",
        "note": "a=b",
        "none": "null",
    }


def test_region_and_version_are_text_and_cohorts_are_a_list() -> None:
    given = ["region=12", "appVersion=2.4", "cohorts=beta,staff"]
    assert read_attributes(given) == {
        "region": "12",
        "appVersion": "2.4",
        "cohorts": ["beta", "staff"],
    }


@pytest.mark.parametrize("text", ["NaN", "Infinity", "[1]", '{"a":1}', '"half', ""])
def test_what_is_no_scalar_is_text(text: str) -> None:
    assert read_attributes([f"it={text}"]) == {"it": text}


@pytest.mark.parametrize("given", [["region"], ["=eu"], ["a=1", "a=2"]])
def test_a_mistake_is_one_clear_line(given: list[str]) -> None:
    words = [word for each in given for word in ("--attribute", each)]
    result = CliRunner().invoke(app, ["why", "ada", "image", "--tier", "free", *words])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("attribute: got ")
    with pytest.raises(PlanError, match="attribute: got"):
        read_attributes(given)


@pytest.mark.integration
async def test_who_is_of_no_named_tier_is_of_the_lowest(tmp_path: Path) -> None:
    saved = tmp_path / "state" / "gateway-one.json"
    saved.parent.mkdir()
    saved.write_text(snapshot().model_dump_json())
    async with running_gateway(tmp_path, "redis://127.0.0.1:1/0", "--name", "one") as gateway:
        environment = {"TIDEGATE_GATEWAY": gateway.url}
        typed = ["why", "ada", "image"]
        result = await asyncio.to_thread(CliRunner().invoke, app, typed, env=environment)
    assert result.exit_code == 0, result.stderr
    assert "tier: free" in result.stdout.splitlines()
