"""Every story holds what it promises in skipped time, and ends the same whatever is killed."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

from scenarios.scenario import FOLDER
from tests.scenarios.disturbed import Kills, play_disturbed
from tests.scenarios.skipped import Played, play_skipped, transitions

STORIES: Final = sorted(p.stem for p in FOLDER.glob("*.yaml") if not p.stem.endswith("-plan"))
KILLS: Final = int(os.environ.get("KILLS", "3"))
"""How often a story is disturbed; `make chaos` does it 20 times."""

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.timeout(400 + 50 * KILLS),
    pytest.mark.asyncio(loop_scope="module"),
]

Undisturbed = Callable[[str], Awaitable[Played]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Play a story in skipped time, once."""
    played: dict[str, Played] = {}

    async def play(name: str) -> Played:
        if name not in played:
            played[name] = await play_skipped(name, tmp_path_factory.mktemp(name))
        return played[name]

    return play


@pytest.mark.parametrize("name", STORIES)
async def test_a_story_in_skipped_time_holds_all_that_it_promises(
    name: str, undisturbed: Undisturbed
) -> None:
    played = await undisturbed(name)
    broken = [f"{f.name}: {f.seen}" for f in played.findings() if not f.held]
    assert broken == [], "\n".join([*broken, *played.said])
    assert played.scenario.has_ended(played.evidence.events)


@pytest.mark.parametrize("name", STORIES)
async def test_killed_while_it_plays_a_story_ends_the_same_and_does_nothing_twice(
    name: str, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    expected = await undisturbed(name)
    kills = Kills(KILLS, seed=len(name))
    played = await play_disturbed(name, tmp_path, kills, expected.before)
    assert played.state == expected.state
    assert transitions(played.evidence.events) == transitions(expected.evidence.events)
    assert played.evidence.gaps == []
