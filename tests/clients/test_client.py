"""Deciding in process: the gateway's answers, from Redis, from disk, or closed."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.real_redis import real_redis
from tests.tidegate.snapshots import feature, gate, intent, snapshot
from tidegate.clients.client import Client, follow
from tidegate.holding import SnapshotHolder
from tidegate.quotas import QuotaSpec
from tidegate.rules.outcome import Code
from tidegate.snapshot import Snapshot

NOBODY = "redis://127.0.0.1:1/0"


def published(version: int = 1, **ceilings: float) -> Snapshot:
    now = time.time()
    return snapshot(
        intent(at=now, version=version), gate(ceilings or None, at=now, version=version)
    )


def test_a_client_answers_as_the_snapshot_says() -> None:
    holder = SnapshotHolder()
    client = Client(holder)
    assert client.may_use("image", "ada", "free").code is Code.FEATURE_UNKNOWN
    holder.take(published())
    assert client.may_use("image", "ada", "free").allowed
    assert client.may_use("image", "ada", "free", "phone").code is Code.SURFACE_CLOSED
    assert client.may_sign_up("image", "ada", "free").allowed


def test_what_is_taken_is_in_force_with_the_next_answer() -> None:
    holder = SnapshotHolder()
    client = Client(holder)
    holder.take(published())
    holder.take(published(2, free=0.0))
    assert client.may_use("image", "ada", "free").code is Code.GATE_SHED
    assert client.may_use("image", "ada", "pro").allowed
    assert client.may_sign_up("image", "ada", "free").code is Code.WAITLISTED


def test_an_outcome_names_its_quotas_and_takes_nothing_from_them() -> None:
    holder = SnapshotHolder()
    client = Client(holder)
    limited = {"image": feature(quotas={"free": (QuotaSpec(uses="1 a day"),)})}
    holder.take(snapshot(intent(limited, at=time.time()), gate(at=time.time())))
    for _ in range(3):
        outcome = client.may_use("image", "ada", "free")
        assert outcome.allowed
        assert [quota.text for quota in outcome.quotas] == ["1 a day, UTC"]
    assert client.may_use("image", "ada", "pro").quotas == ()
    assert client.may_sign_up("image", "ada", "free").quotas == ()


def test_a_stale_snapshot_is_served_and_told() -> None:
    holder = SnapshotHolder()
    client = Client(holder)
    holder.take(snapshot())
    assert client.is_stale
    assert client.may_use("image", "ada", "pro").allowed


@pytest.mark.integration
async def test_a_client_follows_redis_and_starts_without_it_from_disk(tmp_path: Path) -> None:
    async with real_redis(tmp_path) as (server, redis):
        before = published()
        assert before.intent is not None
        await redis.publish(before.intent)
        async with follow(server.server.url, tmp_path) as client:
            assert client.may_use("image", "ada", "pro").allowed
            closed = before.intent.model_copy(update={"version": 2, "features": {}})
            await redis.publish(closed)
            async with asyncio.timeout(5.0):
                while client.may_use("image", "ada", "pro").allowed:
                    await asyncio.sleep(0.005)
    async with follow(NOBODY, tmp_path) as client:
        assert client.is_ready
        assert not client.may_use("image", "ada", "pro").allowed


@pytest.mark.integration
async def test_a_client_that_hears_nothing_starts_in_time_and_closed(tmp_path: Path) -> None:
    async with follow(NOBODY, tmp_path, ready_within_s=0.05) as client:
        assert not client.is_ready
        assert not client.may_use("image", "ada", "pro").allowed
