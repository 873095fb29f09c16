"""docs/http-api.md names everything that the gateway can answer with."""

import re
from pathlib import Path

from gateway.replies import TITLES
from tests.gateway.asking import Asked
from tests.tidegate.snapshots import snapshot
from tidegate.rules.outcome import Code

ADA = {"context": {"targetingKey": "ada", "tier": "free"}}
DOCS = (Path(__file__).parents[2] / "docs" / "http-api.md").read_text()


def undocumented(names: set[str], text: str = DOCS) -> set[str]:
    """Say which names stand nowhere in the text as code."""
    return {name for name in names if f"`{name}`" not in text and f'"{name}"' not in text}


def test_every_code_is_documented() -> None:
    assert undocumented({code.value for code in Code} | set(TITLES)) == set()


async def test_every_metric_is_documented() -> None:
    text = (await Asked(snapshot()).get("/metrics")).body.decode()
    assert undocumented(set(re.findall(r"# TYPE (tidegate\w+)", text))) == set()


async def test_every_field_of_an_answer_is_documented() -> None:
    asked = Asked(snapshot())
    why = (await asked.get("/v1/why", "feature=image&user=ada&tier=free")).json
    ready = (await asked.get("/readyz")).json
    flag = (await asked.post("/ofrep/v1/evaluate/flags/image", ADA)).json
    admitted = (await asked.admit()).json
    assert undocumented({*why, *why["gate"], *ready, *flag, *flag["metadata"], *admitted}) == set()


def test_what_is_left_out_is_caught() -> None:
    assert undocumented({"gate-shed", "gate-shut"}, "429 is `gate-shed`.") == {"gate-shut"}
