"""Every story holds what it promises in skipped time, and ends the same whatever is killed."""

import os
from pathlib import Path
from typing import Final

import pytest

from scenarios.scenario import FOLDER
from tests.scenarios.disturbed import Kills, play_disturbed
from tests.scenarios.skipped import play_skipped, transitions

STORIES: Final = sorted(p.stem for p in FOLDER.glob("*.yaml") if not p.stem.endswith("-plan"))
KILLS: Final = int(os.environ.get("KILLS", "3"))
"""How often a story is disturbed; `make chaos` does it 20 times."""

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.story,
    pytest.mark.timeout(400 + 50 * KILLS),
]


@pytest.mark.parametrize("name", STORIES)
async def test_a_story_holds_all_that_it_promises_and_ends_the_same_whatever_is_killed(
    name: str, tmp_path: Path
) -> None:
    """One test a story, as the second half takes what the first has seen."""
    expected = await play_skipped(name, _folder(tmp_path, "skipped"))
    broken = [f"{f.name}: {f.seen}" for f in expected.findings() if not f.held]
    assert broken == [], "\n".join([*broken, *expected.said])
    assert expected.scenario.has_ended(expected.evidence.events)

    kills = Kills(KILLS, seed=len(name))
    played = await play_disturbed(name, _folder(tmp_path, "killed"), kills, expected.before)
    assert played.state == expected.state
    assert transitions(played.evidence.events) == transitions(expected.evidence.events)
    assert played.evidence.gaps == []


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder
