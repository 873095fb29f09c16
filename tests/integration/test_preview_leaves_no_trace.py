"""A preview that ended: nothing that is personal, and not its key, is left anywhere."""

from functools import partial
from pathlib import Path

import pytest

from tests.embedded.until import until
from tests.integration.control_plane import Stack, control_plane
from tests.integration.test_control_plane import HOUSE
from tidegate.edges.redis import Redis
from tidegate.settings import variable

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(120)]

USER, SAID = "ivy.quiet@example.com", "a-most-personal-opinion"
PREVIEW = """
---
apiVersion: tidegate.dev/v1
kind: Feature
metadata: {name: attic}
spec: {pool: image, surfaces: [attic]}
---
apiVersion: tidegate.dev/v1
kind: Preview
metadata: {name: attic}
spec: {feature: attic, owner: ada, lasts: 30d}
"""


async def _published(stack: Stack) -> str:
    async with Redis(stack.environment[variable("redis")]) as redis:
        intent = (await redis.snapshot()).intent
        return "" if intent is None else intent.model_dump_json()


async def _holds(stack: Stack, text: str) -> bool:
    return text in await _published(stack)


async def _in_redis(stack: Stack, wanted: bytes) -> list[str]:
    """Name the keys of Redis whose name or contents hold this."""
    async with Redis(stack.environment[variable("redis")]) as redis:
        found = []
        for key in await redis.commands.keys("*"):
            dumped = await redis.commands.execute_command("DUMP", key, NEVER_DECODE=[])  # type: ignore[no-untyped-call]
            if wanted in dumped or wanted in str(key).encode():
                found.append(str(key))
        return found


def _in_files(folder: Path, wanted: bytes) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return [str(path.relative_to(folder)) for path in files if wanted in path.read_bytes()]


async def _live_through(stack: Stack) -> Path:
    """Invite somebody, who comes and says something; returns where the key is."""
    code, output = await stack.applies(HOUSE + PREVIEW)
    assert code == 0, output
    key = stack.folder / "previews" / "attic.preview-key"
    await until(key.exists, 20.0)
    for words in (
        ("invite", "attic", "--user", USER, "--by", "ada"),
        ("feedback", "attic", SAID, "--user", USER),
    ):
        code, output = await stack.types(*words)
        assert code == 0, output
    await until(partial(_holds, stack, USER), 20.0)
    code, output = await stack.types("feedback", "attic")
    assert output == f"{USER}: {SAID}"
    return key


async def test_after_its_end_neither_who_nor_what_nor_the_key_is_found_anywhere(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path) as stack:
        async with stack.publishing():
            key = await _live_through(stack)
            secret = key.read_bytes()
            # While it lives, only the key makes sense of what is kept.
            for wanted in (USER, SAID):
                assert _in_files(tmp_path, wanted.encode()) == []
            assert _in_files(tmp_path, secret) == ["previews/attic.preview-key"]

            code, output = await stack.types(
                "abort", "attic", "--reason", "nobody came", "--by", "a"
            )
            assert code == 0, output
            await until(lambda: not key.exists(), 20.0)

            async def is_forgotten() -> bool:
                return "attic" not in await _published(stack)

            await until(is_forgotten, 20.0)
        code, output = await stack.types("feedback", "attic")
        assert output == "attic: nothing was said"
        assert (await stack.recorded(subject="preview/attic"))[-1].type == "preview.ended"
        for trace in (USER.encode(), SAID.encode(), secret):
            assert await _in_redis(stack, trace) == []
            assert _in_files(tmp_path, trace) == []
    for trace in (USER.encode(), SAID.encode(), secret):
        assert _in_files(tmp_path, trace) == []
