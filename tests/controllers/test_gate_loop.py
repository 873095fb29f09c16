"""The gate loop on a real Redis: where it begins, what it remembers, what it tells."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from controllers.gate import LIVES_S, GateLoop
from tests.controllers.published import (
    NOW,
    POOL,
    TIERS,
    engine,
    gateway,
    node,
    publish_intent,
    told,
)
from tests.real_redis import RealRedis, real_redis
from tidegate.edges.outbox import Outbox
from tidegate.edges.redis import Part, Redis, as_json
from tidegate.errors import Unavailable
from tidegate.readings import GpuReading
from tidegate.rules.gate import FITTED_RELAX_STEP, FULL, OFFERED_OVER, RELAX_STEP, TIGHTEN_FASTER
from tidegate.snapshot import GatePart, GateState, TierPolicy, gate_part


@dataclass
class House:
    server: RealRedis
    redis: Redis
    loop: GateLoop
    outbox: Outbox

    def another_loop(self) -> GateLoop:
        return GateLoop(self.redis, self.outbox)

    async def gate(self) -> GatePart:
        return (await self.redis.snapshot()).gates["image"]

    async def read(self, at: float, *, admitted_rps: float = 2.0, wait_s: float = 0.1) -> None:
        """Publish one replica's and one gateway's reading; the gateway echoes nothing."""
        await self.redis.publish_reading(node(at, engine(queue_wait_s=wait_s)))
        await self.redis.publish_reading(gateway(at, admitted_rps))

    async def echo(self, part: GatePart, at: float, **more: object) -> None:
        """Have the gateway tell that it holds this gate."""
        held = {"gates": {"image": as_json(part)}, "seen": {gate_part("image"): part.version}}
        reading = msgspec.structs.replace(gateway(at, 2.0), **{**held, **more})
        await self.redis.publish_reading(reading)

    async def types(self) -> list[str]:
        return [event.type for event in await told(self.redis)]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with (
        real_redis(tmp_path) as (server, redis),
        Outbox(tmp_path / "gate.outbox", "/controllers/gate", redis) as outbox,
    ):
        await publish_intent(redis)
        yield House(server, redis, GateLoop(redis, outbox), outbox)


async def reopen(house: House, start: float, ticks: int) -> float:
    """Tick on quiet readings, one actuation lag apart; returns the instant of the last."""
    at = start
    for n in range(ticks):
        at = start + n * POOL.actuation_lag_s
        await house.read(at)
        await house.loop.tick(at)
    return at


async def test_a_gate_that_nobody_remembers_begins_at_the_safe_share(house: House) -> None:
    await house.read(NOW)
    await house.loop.tick(NOW)
    gate = await house.gate()
    assert gate.ceilings == {"free": 0.2}
    assert (gate.version, gate.expires_at) == (int(NOW * 1000), NOW + LIVES_S)
    assert await house.types() == ["gate.started"]


async def test_nothing_is_decided_before_there_is_an_intent(house: House) -> None:
    await house.server.flush()
    await house.loop.tick(NOW)
    assert (await house.redis.snapshot()).gates == {}
    assert await told(house.redis) == []


async def test_a_new_loop_takes_up_the_newest_echo_and_goes_on_above_every_version(
    house: House,
) -> None:
    at = await reopen(house, NOW, 4)
    held = await house.gate()
    await house.server.flush()
    await publish_intent(house.redis)
    before = {"version": held.version - 5, "openness": 0.2, "ceilings": {"free": 0.2}}
    older = held.model_copy(update=before)
    ahead = int(at * 1000) + 60_000  # a gateway heard a writer whose clock is a minute ahead
    await house.echo(held, at, seen={gate_part("image"): ahead})
    await house.echo(older, at, gateway="two")
    await house.another_loop().tick(at + 1.0)
    gate = await house.gate()
    assert gate.openness == held.openness
    assert gate.version == ahead + 1
    assert "gate.started" not in await house.types()


async def test_a_running_loop_remembers_the_gate_when_redis_is_empty_and_no_gateway_has_echoed(
    house: House,
) -> None:
    at = await reopen(house, NOW, 6)
    before = await house.gate()
    await house.server.flush()
    await publish_intent(house.redis)
    await house.loop.tick(at + 1.0)
    after = await house.gate()
    assert after.openness == before.openness > 0.2
    assert after.version > before.version


async def test_an_echo_that_cannot_be_read_is_as_good_as_none(house: House) -> None:
    await house.redis.publish_reading(gateway(NOW, 2.0, gates={"image": '{"pool": "image"}'}))
    await house.loop.tick(NOW)
    assert await house.types() == ["gate.started"]


async def test_a_second_loop_goes_on_where_the_first_one_stood(house: House) -> None:
    at = await reopen(house, NOW, 2)
    stood = await house.gate()
    second = house.another_loop()
    for n in range(1, 4):
        await house.read(at + n)
        await second.tick(at + n)
        await house.loop.tick(at + n)
    gate = await house.gate()
    assert stood.openness < gate.openness <= stood.openness + 2 * FITTED_RELAX_STEP + 1e-9
    assert "gate.started" not in (await house.types())[1:]


async def test_a_move_that_another_loop_overtook_is_not_told(house: House) -> None:
    await house.read(NOW)
    await house.loop.tick(NOW)
    newer = (await house.gate()).model_copy(update={"version": int(NOW * 1000) + 9000})

    class Slow(Redis):
        async def publish_all(self, parts: Sequence[Part]) -> tuple[bool, ...]:
            assert await house.redis.publish(newer)
            return await super().publish_all(parts)

    async with Slow(house.redis.url) as slow:
        await house.read(NOW + 3.0, wait_s=9.0)
        await GateLoop(slow, house.outbox).tick(NOW + 3.0)
    assert (await house.gate()).version == newer.version
    assert await house.types() == ["gate.started"]


async def test_the_gate_tightens_on_pressure_with_one_event_a_move(house: House) -> None:
    await publish_intent(house.redis, POOL.model_copy(update={"safe_share": 1.0}))
    await house.read(NOW)
    await house.loop.tick(NOW)
    for n in range(1, 8):
        await house.read(NOW + n, wait_s=4.0)
        await house.loop.tick(NOW + n)
    gate = await house.gate()
    moves = [e for e in await told(house.redis) if e.type == "gate.tightened"]
    reached = [float(str(e.data["after"])) for e in moves]
    assert reached == pytest.approx([1.0 - TIGHTEN_FASTER * RELAX_STEP * n for n in (1, 2, 3)])
    assert [e.data["before"] for e in moves] == [1.0, *reached[:2]]
    assert moves[0].data["reason"] == "queue_wait is at 200% of its limit"
    assert gate.state is GateState.THROTTLED


async def test_it_reopens_in_small_steps_until_it_is_open_and_then_tells_nothing(
    house: House,
) -> None:
    await publish_intent(house.redis, POOL.model_copy(update={"safe_share": 0.5}))
    at = await reopen(house, NOW, 4)
    assert (await house.gate()).state is GateState.OPEN
    types = await house.types()
    assert types == ["gate.started", "gate.relaxed", "gate.relaxed", "gate.opened"]
    await reopen(house, at + 2.0, 5)
    assert await house.types() == types


@pytest.mark.parametrize("missing", ["stale wait", "no engine", "stale demand", "no gateway"])
async def test_a_required_reading_that_is_missing_holds_reopening_and_says_so_once(
    house: House, missing: str
) -> None:
    await house.read(NOW)
    await house.loop.tick(NOW)
    for n in range(10, 16):
        at = NOW + n
        wait_at = NOW if missing == "stale wait" else at
        demand_at = NOW if missing == "stale demand" else at
        engines = () if missing == "no engine" else (engine(),)
        await house.redis.publish_reading(node(wait_at, *engines))
        await house.redis.publish_reading(gateway(demand_at, 2.0))
        if missing == "no gateway":
            await house.redis.forget_reading("gateway/one")
        await house.loop.tick(at)
    gate = await house.gate()
    assert (gate.openness, gate.stale) == (0.2, True)
    assert await house.types() == ["gate.started", "gate.held"]
    (held,) = [e for e in await told(house.redis) if e.type == "gate.held"]
    assert str(held.data["reason"]).startswith("not reopened: ")
    await reopen(house, NOW + 20.0, 1)
    assert (await house.types())[-1] == "gate.relaxed"
    assert not (await house.gate()).stale


async def test_a_paying_tier_never_gets_a_ceiling_however_hard_the_pressure(house: House) -> None:
    tiers = {**TIERS, "plus": TierPolicy(rank=5, gated=False)}
    await publish_intent(house.redis, tiers=tiers)
    for n in range(12):
        at = NOW + n * POOL.actuation_lag_s
        await house.read(at, admitted_rps=9000.0, wait_s=60.0)
        await house.loop.tick(at)
    gate = await house.gate()
    assert gate.ceilings == {"free": 0.0}
    assert gate.state is GateState.WAITLISTED


async def test_one_second_of_more_demand_narrows_the_gate_by_its_part_of_the_mean(
    house: House,
) -> None:
    at = await reopen(house, NOW, 16)
    assert (await house.gate()).openness == 1.0
    full = engine(kv_cache_use=FULL, queue_wait_s=0.0)
    for offered_rps in (*[10.0] * OFFERED_OVER, 30.0):
        at += POOL.actuation_lag_s
        await house.redis.publish_reading(node(at, full))
        await house.redis.publish_reading(gateway(at, offered_rps))
        await house.loop.tick(at)
    assert (await house.gate()).openness == pytest.approx(10.0 / 12.0)


async def test_a_duty_cycle_presses_only_where_it_is_required(house: House) -> None:
    busy = GpuReading(index=1, utilisation=1.0)
    await publish_intent(house.redis, POOL.model_copy(update={"safe_share": 1.0}))
    asked = POOL.model_copy(
        update={"required_readings": ("queue_wait", "demand", "gpu_utilisation")}
    )
    for at, pool, openness in ((NOW, POOL, 1.0), (NOW + 5, POOL, 1.0), (NOW + 10, asked, 0.7)):
        await house.redis.publish_reading(node(at, engine(), gpus=(busy,)))
        await house.redis.publish_reading(gateway(at, 2.0))
        await publish_intent(house.redis, pool.model_copy(update={"safe_share": 1.0}))
        await house.loop.tick(at)
        assert (await house.gate()).openness == pytest.approx(openness)


async def test_a_redis_that_is_away_is_unavailable(house: House) -> None:
    await house.server.stop()
    with pytest.raises(Unavailable):
        await house.loop.tick(NOW)
