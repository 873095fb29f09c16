"""A reader of a real Redis is sent what it does not hold yet, and orders to close a feature."""

from pathlib import Path

import pytest

from tests.real_redis import real_redis
from tests.tidegate.snapshots import feature, gate, intent
from tidegate.edges.redis import Redis
from tidegate.snapshot import Snapshot

pytestmark = pytest.mark.integration


async def sent(redis: Redis, *, only: str = "", **held: int) -> set[str]:
    named = {name.replace("__", "/"): version for name, version in held.items()}
    published = await redis.published(named, only=only)
    return {*published.snapshot.versions(), *(f"kill/{name}" for name in published.kills)}


async def test_what_is_held_already_is_not_sent_again(tmp_path: Path) -> None:
    async with real_redis(tmp_path) as (server, redis):
        await redis.publish(intent(version=10))
        await redis.publish(gate(version=11))
        await server.raw.hset("tidegate:parts", "kill/image", "5 a-token")
        assert await sent(redis) == {"intent", "gate/image", "kill/image"}
        assert await sent(redis, intent=10, gate__image=11) == {"kill/image"}
        assert await sent(redis, intent=9, gate__image=12) == {"intent", "kill/image"}
        assert await sent(redis, only="gate/image") == {"gate/image", "kill/image"}
        assert await sent(redis, only="gate/image", gate__image=11) == {"kill/image"}


async def test_an_intent_that_is_renewed_is_taken_over_and_one_that_changes_is_read(
    tmp_path: Path,
) -> None:
    async with real_redis(tmp_path) as (_, redis):
        read: list[Snapshot] = []
        for part in (intent(version=10), intent(version=11), intent({}, version=12)):
            await redis.publish(part)
            read.append(await redis.snapshot())
            assert read[-1].intent == part
        first, renewed, changed = (each.intent for each in read)
        assert first is not None
        assert renewed is not None
        assert changed is not None
        assert renewed.features is first.features
        assert changed.features == {}
        await redis.publish(intent({"image": feature()}, version=13))
        assert (await redis.snapshot()).versions() == {"intent": 13}
