"""What was measured is drawn and tabled, the same figures as the same bytes."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from benchmarks import plot
from tests.house.checkout import ROOT

PAGE = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
DECISION: dict[str, Any] = {
    "tidegate_us": 0.44,
    "peers_us": {"growthbook": 5.512, "launchdarkly": 13.0, "unleash": 26.04, "flagd": 22.9},
    "spread_us": {
        "tidegate": [0.41, 0.472],
        "growthbook": [5.1, 6.0],
        "launchdarkly": [12.0, 14.0],
        "unleash": [25.0, 27.0],
        "flagd": [21.0, 24.0],
    },
}
RPS = {"raw": 106_049, "ofrep": 73_312, "granian": 33_000, "uvicorn": 36_000, "admit": 75_555}
HTTP: dict[str, Any] = {
    **{f"{name}_rps": rps for name, rps in RPS.items()},
    **{f"{name}_p99_ms": 1.5 for name in RPS},
    "envoy_rps": 14_000,
    "envoy_p99_ms": 95.0,
    "spread_rps": {name: [10_000, 110_000] for name in (*RPS, "envoy")},
    "spread_p99_ms": {name: [1.25, 1.75] for name in (*RPS, "envoy")},
}


def write(folder: Path, decision: str = "", page: str = PAGE) -> None:
    """Type the command, with files as the benchmarks write them."""
    (folder / "decision.json").write_text(decision or "a table\n" + json.dumps(DECISION) + "\n")
    (folder / "http.json").write_text(json.dumps(HTTP))
    (folder / "benchmarks.md").write_text(page, encoding="utf-8")
    files = [str(folder / f"{name}.json") for name in ("decision", "http")]
    plot.main([*files, "--into", str(folder)])


def test_tables_hold_median_least_and_most_between_their_comments(tmp_path: Path) -> None:
    write(tmp_path)
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert "| Tidegate | 0.44 [0.41, 0.472] | 1 |" in page
    assert "| GrowthBook | 5.51 [5.1, 6] | 12.5 |" in page
    assert "| gateway, `/v1/admit` | 75,600 [10,000, 110,000] | 1.5 [1.25, 1.75] |" in page
    assert page.count("| in process |") == page.count("| over HTTP, 64 connections |") == 1
    for name in ("decision-speed", "http-speed"):
        assert f"]({name}.svg)" in page
    again = tmp_path / "again"
    again.mkdir()
    write(again, page=page)
    assert (again / "benchmarks.md").read_text(encoding="utf-8") == page


def test_pictures_name_everybody_and_the_same_figures_give_the_same_bytes(tmp_path: Path) -> None:
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        folder.mkdir()
        write(folder)
    for name, others in (("decision-speed", plot.PEERS), ("http-speed", plot.SERVERS)):
        first, second = ((folder / f"{name}.svg").read_bytes() for folder in folders)
        assert first == second
        assert ET.fromstring(first).tag == "{http://www.w3.org/2000/svg}svg"
        for shown in others.values():
            assert f"<!-- {shown} -->" in first.decode()


@pytest.mark.parametrize("broken", ["no json", "[1]", "{"])
def test_a_file_of_something_else_is_one_clear_line(tmp_path: Path, broken: str) -> None:
    with pytest.raises(SystemExit, match=r"decision\.json: got "):
        write(tmp_path, broken)


def test_a_page_without_the_comments_is_left_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="Put both back"):
        write(tmp_path, page="# Benchmarks\n")
    assert (tmp_path / "benchmarks.md").read_text() == "# Benchmarks\n"
