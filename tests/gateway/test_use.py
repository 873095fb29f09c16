"""Who used which model: counted by gateways, summed by whoever asks, unknown where it was lost."""

import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import cast

import pytest

from gateway.tally import Tally, UsersSeen
from gateway.use import UseMeter
from tests.real_redis import RealRedis, real_redis
from tests.tidegate.snapshots import NOW, POOL, intent, snapshot
from tidegate.cli.using import tell_use
from tidegate.edges.redis import Redis
from tidegate.edges.redis_use import UseLog
from tidegate.errors import PlanError
from tidegate.holding import SnapshotHolder
from tidegate.readings import Absent, UseOfModel
from tidegate.rules.outcome import Code, Outcome
from tidegate.settings import Settings

NINE = 1_772_614_800.0
"""2026-03-04T09:00:00Z."""
TODAY = date(2026, 3, 4)
DAY_S = 86_400.0
UNDER = ("image", "free", "allowed")


@dataclass
class Process:
    """What one gateway process counts with."""

    redis: Redis
    source: str = "one@1"
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        holder = SnapshotHolder()
        both = {"pools": {"image": POOL, "sketch": POOL}}
        holder.take(snapshot(intent().model_copy(update=both)))
        self.meter = UseMeter(UseLog(self.redis, self.source), holder, self.tally)

    def admits(self, *users: str, tier: str = "free", pool: str = "image") -> None:
        for user in users:
            outcome = Outcome(True, Code.ALLOWED, "open", pool, tier, pool, 1)
            self.tally.count(outcome, user, NOW)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[tuple[RealRedis, Redis]]:
    async with real_redis(tmp_path) as both:
        yield both


async def written(server: RealRedis) -> int:
    """Add up the requests of the first day, whatever is known of who lost some."""
    held = await server.raw.hgetall(f"tidegate:use:{POOL.model}:{TODAY}")
    fields = cast("dict[str, str]", held)
    return sum(int(count) for name, count in fields.items() if not name.startswith("users"))


async def used(redis: Redis, days: int = 1) -> object:
    return await UseLog(redis).use_of(POOL.model, days, TODAY)


@pytest.mark.integration
async def test_requests_and_different_users_are_told_by_tier(
    server: tuple[RealRedis, Redis],
) -> None:
    one = Process(server[1])
    one.admits("ada", "bob", "ada")
    one.admits("cleo", tier="pro")
    one.admits("ada", "dan", pool="sketch")
    one.tally.count(Outcome(False, Code.GATE_SHED, "shut", "image", "free", "image", 1), "eve", NOW)
    await one.meter.tick(NINE)
    expected = {"free": UseOfModel(5, 3), "pro": UseOfModel(1, 1)}
    assert await used(server[1]) == expected


@pytest.mark.integration
async def test_a_user_of_two_gateways_and_two_days_is_one_user(
    server: tuple[RealRedis, Redis],
) -> None:
    one, two = Process(server[1]), Process(server[1], "two@1")
    one.admits("ada", "bob")
    await one.meter.tick(NINE - DAY_S)
    await one.meter.tick(NINE)
    one.admits("ada")
    two.admits("ada")
    await one.meter.tick(NINE + 5.0)
    await two.meter.tick(NINE + 5.0)
    assert await used(server[1]) == {"free": UseOfModel(2, 1)}
    assert await used(server[1], 2) == {"free": UseOfModel(4, 2)}


@pytest.mark.integration
async def test_what_is_published_again_counts_once(server: tuple[RealRedis, Redis]) -> None:
    one = Process(server[1])
    for second in range(5):
        one.admits("ada")
        await one.meter.tick(NINE + second)
        await one.meter.tick(NINE + second)
    assert await used(server[1]) == {"free": UseOfModel(5, 1)}


@pytest.mark.integration
async def test_a_gateway_that_starts_anew_adds_to_what_it_had_counted(
    server: tuple[RealRedis, Redis],
) -> None:
    for run, users in enumerate((["ada", "bob"], ["bob", "cleo"])):
        process = Process(server[1], f"one@{run}")
        process.admits(*users)
        await process.meter.tick(NINE)
    assert await used(server[1]) == {"free": UseOfModel(4, 3)}


@pytest.mark.integration
async def test_a_day_that_nobody_reported_on_is_unknown_and_not_zero(
    server: tuple[RealRedis, Redis],
) -> None:
    assert await used(server[1]) == Absent("no gateway reported on 2026-03-04")
    await Process(server[1]).meter.tick(NINE)
    assert await used(server[1]) == {}
    assert await used(server[1], 2) == Absent("no gateway reported on 2026-03-03")


@pytest.mark.integration
async def test_a_day_that_redis_lost_is_unknown_and_the_next_one_is_known(
    server: tuple[RealRedis, Redis],
) -> None:
    redis = server[1]
    one = Process(redis)
    one.admits("ada")
    await one.meter.tick(NINE)
    await server[0].flush()
    await one.meter.tick(NINE + 5.0)
    assert await written(server[0]) == 1
    assert await used(redis) == Absent("Redis lost what was counted on 2026-03-04")
    await one.meter.tick(NINE + DAY_S)
    one.admits("bob")
    await one.meter.tick(NINE + DAY_S + 5.0)
    tomorrow = date(2026, 3, 5)
    assert await UseLog(redis).use_of(POOL.model, 1, tomorrow) == {"free": UseOfModel(1, 1)}


@pytest.mark.integration
async def test_what_was_used_while_redis_was_away_is_published_when_it_is_back(
    server: tuple[RealRedis, Redis],
) -> None:
    one = Process(server[1])
    one.admits("ada")
    await one.meter.tick(NINE)
    await server[0].stop()
    one.admits("bob")
    await one.meter.tick(NINE + 5.0)
    await one.meter.tick(NINE + DAY_S)
    await server[0].start()
    await one.meter.tick(NINE + DAY_S + 5.0)
    assert await written(server[0]) == 2


@pytest.mark.integration
async def test_it_is_told_at_a_shell(server: tuple[RealRedis, Redis], tmp_path: Path) -> None:
    url = server[0].server.url
    settings = Settings.from_environment({"TIDEGATE_REDIS": url, "TIDEGATE_STATE": str(tmp_path)})
    told = await tell_use(settings, POOL.model, 1)
    assert told[0].startswith(f"{POOL.model}: unknown from ")
    await server[1].publish(intent())
    with pytest.raises(PlanError, match='model: got "lumen-3", expected one of'):
        await tell_use(settings, "lumen-3", 1)


def test_a_million_users_are_counted_in_few_bytes_and_closely() -> None:
    seen = UsersSeen()
    tracemalloc.start()
    for number in range(1_000_000):
        seen.saw(UNDER, f"user-{number}")
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 100_000
    # Four standard errors of 0.81 %.
    assert abs(seen.sketches[UNDER].get_estimate() - 1e6) < 0.0324e6


def test_any_name_at_all_is_a_user() -> None:
    seen = UsersSeen()
    names = ["\ud800", "\udfff", "\x00", "é" * 9000, "🜂"]
    for name in names * 2:
        seen.saw(UNDER, name)
    assert round(seen.sketches[UNDER].get_estimate()) == len(names)
