"""The demand that is played, and what the demo says of a story or a trace that is wrong."""

import gzip
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from scenarios.playing import CrowdOrder, PlayedDemand, crowd_arrivals, play_demand
from scenarios.scenario import load_scenario
from tests.house.checkout import ROOT
from tidegate.demand import rate_at
from tidegate.errors import PlanError

LAUNCH_DAY: Final = load_scenario("launch-day")
DATA: Final = ROOT.parent / "shared" / "data"
WINDOWS: Final = "client,start_s,rate_rps,cv\n" + "".join(
    f"a,{600 * n},{20 + n % 36},1.5\n" for n in range(144)
)
REQUESTS: Final = "arrival_s,input_tokens,output_tokens\n" + "".join(
    f"{n / 4},100,{50 + n % 40}\n" for n in range(4000)
)


@pytest.fixture(params=["windows.csv", "requests.csv", "windows.csv.gz"])
def trace(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A trace in each of its forms."""
    name: str = request.param
    text = (WINDOWS if name.startswith("windows") else REQUESTS).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return path


def order(trace: Path | None, tmp_path: Path) -> CrowdOrder:
    return CrowdOrder(
        scenario="launch-day",
        trace=trace,
        gateway="http://127.0.0.1:1",
        pool="image",
        feature="image",
        surface="chat",
        started_at=0.0,
        until_s=LAUNCH_DAY.clock.length_s,
        tally=tmp_path / "tally.json",
    )


def test_generated_demand_stays_within_what_the_machine_serves_and_launches_when_it_should() -> (
    None
):
    played = play_demand(LAUNCH_DAY, None)
    assert played.told.startswith("generated, seed 7, forecast ")
    assert played.demand.peak_rps == pytest.approx(LAUNCH_DAY.demand.max_rps)
    assert _growth_at_launch(played) == pytest.approx(LAUNCH_DAY.demand.launch.factor, rel=0.01)


def test_a_trace_of_either_form_plays(trace: Path) -> None:
    played = play_demand(LAUNCH_DAY, trace)
    assert played.told.startswith(f"{trace.name}, its busiest ")
    assert 0.0 < played.demand.peak_rps <= LAUNCH_DAY.demand.max_rps * (1 + 1e-9)
    assert played.demand.tiers == LAUNCH_DAY.demand.tiers
    assert _growth_at_launch(played) == pytest.approx(LAUNCH_DAY.demand.launch.factor, rel=0.01)


def _growth_at_launch(played: PlayedDemand) -> float:
    launched_s = LAUNCH_DAY.clock.real_s(LAUNCH_DAY.demand.launch.at)
    before, after = (rate_at(played.demand, launched_s + d) for d in (-0.001, 0.001))
    return after / before


def test_the_shared_traces_play() -> None:
    for file in sorted(DATA.glob("*.csv.gz")):
        assert play_demand(LAUNCH_DAY, file).demand.peak_rps <= LAUNCH_DAY.demand.max_rps + 1e-6


def test_the_crowd_draws_the_demand_that_was_told_and_the_same_each_time(
    trace: Path, tmp_path: Path
) -> None:
    asked = CrowdOrder.model_validate_json(order(trace, tmp_path).model_dump_json())
    drawn = list(crowd_arrivals(asked))
    assert drawn == list(crowd_arrivals(order(trace, tmp_path)))
    demand, step_s = play_demand(LAUNCH_DAY, trace).demand, 0.1
    length_s = LAUNCH_DAY.clock.length_s
    expected = sum(rate_at(demand, n * step_s) * step_s for n in range(int(length_s / step_s)))
    assert len(drawn) == pytest.approx(expected, rel=0.2)
    assert {arrival.tier for arrival in drawn} == set(LAUNCH_DAY.demand.tiers)
    assert all(0.0 <= arrival.at_s <= length_s for arrival in drawn)


@pytest.mark.parametrize("text", ["", "who,when\n", "client,start_s,rate_rps,cv\na,0,x,1\n"])
def test_a_trace_with_mistakes_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(PlanError, match=r"trace\.csv"):
        play_demand(LAUNCH_DAY, path)


def demo(
    folder: Path, *arguments: str | Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the demo as `make demo` does, in a folder of its own, until it ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "scenarios.demo", *arguments],
        cwd=folder,
        env={**os.environ, "HEADLESS": "1", "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60.0,
        check=False,
    )


def started_in(folder: Path) -> list[str]:
    """Name each process that was started with a path of this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:  # it ended meanwhile
            continue
        if str(folder).encode() in command:
            found.append(command.decode())
    return found


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        (
            {"DEMAND": "no-such-trace.csv"},
            "no-such-trace.csv: cannot be read ([Errno 2] No such file",
        ),
        ({"STORY": "lunch-day"}, 'scenario "lunch-day": there is no lunch-day.yaml.'),
        ({"STORY": "launch-day-plan"}, "launch-day-plan.yaml: got Tier, "),
    ],
)
def test_a_wrong_trace_or_story_is_one_clear_line_and_leaves_nothing_behind(
    tmp_path: Path, environment: dict[str, str], line: str
) -> None:
    ended = demo(tmp_path, **environment)
    assert ended.returncode == 1
    (told,) = [said for said in ended.stderr.splitlines() if said]
    assert told.startswith(line)
    assert list((tmp_path / ".tidegate").iterdir()) == []
    assert started_in(tmp_path) == []


def test_a_folder_that_a_person_named_is_never_removed(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("keep me")
    assert demo(tmp_path, "--folder", mine, STORY="lunch-day").returncode == 1
    assert (mine / "notes.txt").read_text() == "keep me"


@pytest.mark.parametrize(
    ("held", "named"),
    [
        (("record.db", "addresses.json"), "addresses.json, record.db"),
        ("gfedcba", "a, b, c, d, e and 2 more"),
    ],
)
def test_a_folder_that_was_used_before_is_one_clear_line_and_is_left_as_it_was(
    tmp_path: Path, held: Sequence[str], named: str
) -> None:
    used = tmp_path / "used"
    used.mkdir()
    for name in held:
        (used / name).write_text("of an earlier story")
    ended = demo(tmp_path, "--folder", used)
    assert ended.returncode == 1
    (told,) = [said for said in ended.stderr.splitlines() if said]
    assert told == (
        f"--folder {used}: got one with {named} in it, expected a new or an empty one. "
        "A story goes on from nothing that another left: name another folder, or empty this."
    )
    assert sorted(each.name for each in used.iterdir()) == sorted(held)
    assert started_in(used) == []


def test_a_folder_that_is_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("keep me")
    ended = demo(tmp_path, "--folder", tmp_path / "notes.txt")
    assert ended.returncode == 1
    (told,) = [said for said in ended.stderr.splitlines() if said]
    assert told.startswith(f"--folder {tmp_path / 'notes.txt'}: cannot be used (")
