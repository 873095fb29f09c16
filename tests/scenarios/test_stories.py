"""Every story, played in skipped time on real servers, holds what it promises."""

from pathlib import Path
from typing import Final

import pytest

from scenarios.scenario import FOLDER
from tests.scenarios.skipped import play_skipped

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="module"),
]

STORIES: Final = sorted(p.stem for p in FOLDER.glob("*.yaml") if not p.stem.endswith("-plan"))


@pytest.mark.parametrize("name", STORIES)
async def test_a_story_in_skipped_time_holds_all_that_it_promises(
    name: str, tmp_path: Path
) -> None:
    played = await play_skipped(name, tmp_path)
    broken = [f"{f.name}: {f.seen}" for f in played.findings() if not f.held]
    assert broken == [], "\n".join([*broken, *played.said])
