"""Measuring: a stage's checks against what agents read, and what a real Prometheus says."""

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry, Gauge
from temporalio.testing import ActivityEnvironment

from activities.measure import Measure
from embedded.ports import LOOPBACK, free_ports
from tests.debian import needs_package
from tests.real_prometheus import real_prometheus
from tests.real_redis import real_redis
from tidegate.checks import CheckSpec
from tidegate.edges.prometheus import Prometheus
from tidegate.edges.redis import Redis
from tidegate.messages.rollout import Measurement
from tidegate.readings import EngineReading, NodeReading
from tidegate.rules.verdict import Look, Verdict

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

WAIT: Final = CheckSpec(name="wait", queue_wait_below=timedelta(seconds=2))


@pytest_asyncio.fixture(loop_scope="module")
async def redis(tmp_path: Path) -> AsyncIterator[Redis]:
    async with real_redis(tmp_path) as (_, redis):
        yield redis


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def prometheus(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    registry = CollectorRegistry()
    errors = Gauge("errors", "Share of requests that failed.", ["tier", "group"], registry=registry)
    for tier, group, share in (
        ("pro", "new", 0.02),
        ("pro", "old", 0.02),
        ("free", "new", 0.05),
        ("free", "old", 0.02),
    ):
        errors.labels(tier, group).set(share)
    folder = tmp_path_factory.mktemp("prometheus")
    async with real_prometheus(folder, registry, until_there="sum(errors)") as url:
        yield Prometheus(url)


async def _measured(
    measure: Measure, *checks: CheckSpec, tiers: tuple[str, ...] = ()
) -> Mapping[str, Look]:
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, started_time=datetime.now(UTC))
    asked = Measurement(pool="image", tiers=tiers, checks=checks, limit_s=5.0)
    looks: Mapping[str, Look] = await environment.run(measure.measure, asked)
    return looks


async def _read(redis: Redis, wait_s: float, *, age_s: float = 0.0, pool: str = "image") -> None:
    engine = EngineReading(pool=pool, replica="r1", queue_wait_s=wait_s, waiting=1.0)
    reading = NodeReading(node="n1", at=time.time() - age_s, engines=(engine,))
    await redis.publish_reading(reading)


def query(name: str, text: str, **limits: object) -> CheckSpec:
    return CheckSpec.model_validate({"name": name, "query": text, **limits})


@pytest.mark.parametrize(("wait_s", "verdict"), [(1.9, Verdict.PASS), (2.0, Verdict.FAIL)])
async def test_a_fresh_reading_passes_or_fails(
    redis: Redis, wait_s: float, verdict: Verdict
) -> None:
    await _read(redis, wait_s)
    looks = await _measured(Measure(redis, Prometheus(None)), WAIT)
    assert looks["wait"].verdict is verdict


async def test_missing_and_old_readings_are_inconclusive(redis: Redis) -> None:
    measure = Measure(redis, Prometheus(None))
    nothing = {"wait": Look(Verdict.INCONCLUSIVE, "queue wait: no fresh reading")}
    assert await _measured(measure, WAIT) == nothing
    await _read(redis, 0.0, pool="chat")
    assert await _measured(measure, WAIT) == nothing
    await _read(redis, 0.0, age_s=6.0)
    assert await _measured(measure, WAIT) == nothing


@needs_package("prometheus")
async def test_each_tier_is_held_against_the_users_whom_the_stage_has_not_touched(
    redis: Redis, prometheus: Prometheus
) -> None:
    errors = query(
        "errors",
        'errors{tier="$tier",group="new"}',
        baseline='errors{tier="$tier",group="old"}',
        worseBy="10%",
    )
    measure = Measure(redis, prometheus)
    assert (await _measured(measure, errors, tiers=("pro",)))["errors"].verdict is Verdict.PASS
    looks = await _measured(measure, errors, tiers=("pro", "free"))
    reason = "free: got 0.05, expected at most 0.022, with 0.02 for the baseline"
    assert looks == {"errors": Look(Verdict.FAIL, reason)}


@needs_package("prometheus")
async def test_what_prometheus_cannot_say_in_one_number_is_inconclusive_with_the_reason(
    redis: Redis, prometheus: Prometheus
) -> None:
    checks = (
        query("scalar", "1 + 1", below=3.0),
        query("nothing", "no_such_series", below=1.0),
        query("several", "errors", below=1.0),
        query("nan", "0 / (errors - errors)", below=1.0),
        query("no-number", "sum(errors) * NaN", below=1.0),
        query("wrong", "sum(", below=1.0),
    )
    looks = await _measured(Measure(redis, prometheus), *checks)
    assert looks["scalar"] == Look(Verdict.PASS, "got 2, expected below 3")
    assert {looks[check.name].verdict for check in checks[1:]} == {Verdict.INCONCLUSIVE}
    assert looks["nothing"].reason == "no_such_series: got 0 series, expected one number"
    assert looks["several"].reason == "errors: got 4 series, expected one number"
    assert looks["no-number"].reason == "sum(errors) * NaN: got NaN, expected one number"
    assert looks["wrong"].reason.startswith("Prometheus refused sum(: ")


async def test_a_prometheus_that_is_away_or_not_set_is_inconclusive(redis: Redis) -> None:
    check = query("errors", "sum(errors)", below=1.0)
    (port,) = free_ports(1)
    away = Measure(redis, Prometheus(f"http://{LOOPBACK}:{port}"))
    look = (await _measured(away, check))["errors"]
    assert look.verdict is Verdict.INCONCLUSIVE
    assert look.reason.startswith(f"Prometheus at http://{LOOPBACK}:{port}: ")
    look = (await _measured(Measure(redis, Prometheus(None)), check))["errors"]
    assert look == Look(Verdict.INCONCLUSIVE, "no Prometheus is set (TIDEGATE_PROMETHEUS)")
