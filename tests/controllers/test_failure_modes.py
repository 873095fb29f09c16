"""How other autoscalers and gates have failed their users, by public report: one test for each.

Those that only a control plane can show are in tests/kubernetes/test_failure_modes.py.
"""

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers.capacity import CapacityLoop
from controllers.demand_history import WINDOW_S, DemandHistory
from controllers.gate import LIVES_S, GateLoop
from tests.controllers.published import (
    NOW,
    POOL,
    Budgets,
    MemoryCluster,
    engine,
    gateway,
    node,
    publish_intent,
    told,
)
from tests.real_redis import RealRedis, real_redis
from tests.strategies import NOW_S, pool_intent, reading
from tests.tidegate.snapshots import FEATURE
from tidegate.cluster import Pod, PodPhase, PoolStatus
from tidegate.edges.outbox import Outbox
from tidegate.edges.redis import Redis
from tidegate.readings import DemandReading, EngineReading, GpuReading, NodeReading
from tidegate.rules.decision import Decider
from tidegate.rules.gate import FITTED_RELAX_STEP
from tidegate.rules.sizing import Need, PoolSeen, decide_replicas
from tidegate.snapshot import GatePart

COLD_START_S: Final = 280.0
SLOW: Final = POOL.model_copy(
    update={
        "cold_start_p50_s": COLD_START_S,
        "cold_start_p90_s": COLD_START_S,
        "scale_down_window_s": 300.0,
        "ceiling_gpus": 64,
    }
)
"""Replicas of 10 requests a second, sized to half of that; each loads for 280 s."""
OPEN: Final = POOL.model_copy(update={"safe_share": 1.0})
"""A pool whose gate begins open."""


@dataclass
class LoadingCluster(MemoryCluster):
    """A cluster whose replicas load for 280 s before they serve."""

    at: float = NOW
    begun: list[float] = field(default_factory=list)
    """When each replica began to load."""

    def hold(self, replicas: int, phase: PodPhase = PodPhase.LOADING) -> None:
        loaded = phase is PodPhase.READY
        begun = self.at - COLD_START_S if loaded else self.at
        self.begun = [*self.begun[:replicas], *[begun] * (replicas - len(self.begun))]
        self.pass_until(self.at)

    def pass_until(self, now: float) -> None:
        """Let time pass."""
        self.at = now
        pods = tuple(
            Pod(f"image-{n}", self._phase(begun), None, begun) for n, begun in enumerate(self.begun)
        )
        status = PoolStatus("image", len(self.begun), 1, pods)
        self.state = replace(self.state, revision=self.state.revision + 1, pools={"image": status})

    def _phase(self, begun: float) -> PodPhase:
        return PodPhase.READY if self.at - begun >= COLD_START_S else PodPhase.LOADING

    @property
    def ready(self) -> int:
        return self.state.pools["image"].ready_gpus


@dataclass
class House:
    """The gate and the capacity loop on one Redis; what they read is told by the test."""

    server: RealRedis
    redis: Redis
    outbox: Outbox
    cluster: MemoryCluster = field(default_factory=MemoryCluster)
    budgets: Budgets = field(default_factory=Budgets)

    def __post_init__(self) -> None:
        self.gates = GateLoop(self.redis, self.outbox)
        self.live_in(self.cluster)

    def live_in(self, cluster: MemoryCluster) -> None:
        """Begin anew in another cluster."""
        self.cluster = cluster
        self.capacity = CapacityLoop(self.redis, cluster, self.budgets, self.outbox)

    @property
    def replicas(self) -> int:
        return self.cluster.state.pools["image"].replicas

    async def hear(self, *readings: NodeReading | DemandReading) -> None:
        for each in readings:
            await self.redis.publish_reading(each)

    async def tick(self, now: float) -> None:
        await self.gates.tick(now)
        await self.capacity.tick(now)

    async def gate(self) -> GatePart:
        return (await self.redis.snapshot()).gates["image"]

    async def reasons(self, kind: str) -> list[str]:
        return [str(e.data["reason"]) for e in await told(self.redis) if e.type == kind]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with (
        real_redis(tmp_path) as (server, redis),
        Outbox(tmp_path / "loops.outbox", "/controllers/loops", redis) as outbox,
    ):
        await publish_intent(redis)
        yield House(server, redis, outbox)


async def test_utilisation_that_one_request_pins_does_not_size_a_pool(house: House) -> None:
    """A card is at 100 % while one request decodes (dcgm-exporter #301)."""
    await publish_intent(house.redis, OPEN)
    house.cluster.hold(2)
    pinned = tuple(GpuReading(index=n, utilisation=1.0) for n in (1, 2))
    for n in range(30):
        at = NOW + n
        await house.hear(gateway(at, 1.0), node(at, engine(1), engine(2), gpus=pinned))
        await house.tick(at)
    assert house.replicas == 1, "one request a second is a tenth of one replica"
    assert (await house.gate()).openness == 1.0


async def test_pods_that_load_do_not_cascade_a_scale_up(house: House) -> None:
    """While pods load the queue grows, and each look books for it anew: 2→4→8→16 (aibrix #2670)."""
    await publish_intent(house.redis, SLOW)
    cluster = LoadingCluster()
    cluster.hold(2, PodPhase.READY)
    house.live_in(cluster)
    queue, offered_rps, step_s = 0.0, 40.0, 5.0
    longest = 0.0
    for n in range(120):
        at = NOW + step_s * n
        cluster.pass_until(at)
        queue = max(0.0, queue + step_s * (offered_rps - 10.0 * cluster.ready))
        longest = max(longest, queue)
        engines = (engine(k, waiting=queue / cluster.ready) for k in range(cluster.ready))
        await house.hear(gateway(at, offered_rps), node(at, *engines))
        await house.capacity.tick(at)
    assert longest == 5_600.0
    assert queue == 0.0, "what was booked has worked it off"
    assert cluster.asked == [8], "as the demand needs, and once"


@given(
    rate=st.floats(0.0, 300.0),
    backlog=st.floats(0.0, 20_000.0),
    booked=st.integers(0, 60),
    any_would_do=st.booleans(),
)
def test_scale_down_sees_that_survivors_absorb_what_is_removed(
    rate: float, backlog: float, booked: int, any_would_do: bool
) -> None:
    """Of N replicas that are below target, N-1 take N/(N-1) of the load (dynamo PR #9294)."""
    pool = pool_intent(max_replicas=99_999, ceiling_gpus=99_999)
    demand = reading("demand", rate)
    seen = PoolSeen(
        demand, reading("waiting", backlog), (demand,), booked, waits_for_any=any_would_do
    )
    forgotten = Need(NOW_S - 1_000.0, 0)
    decision = decide_replicas(seen, pool, (forgotten,), NOW_S)
    if decision.replicas < booked:
        spare_rps = decision.replicas * 10.0 * 0.5 - rate
        assert spare_rps * 30.0 >= backlog - 1e-3, "and the queue as soon as before"


async def test_a_replica_that_the_others_cannot_do_without_stays(house: House) -> None:
    """The same, as it happens: each of three replicas is below its target, and two would not be."""
    house.cluster.hold(3)
    for n in range(30):
        at = NOW + n
        await house.hear(gateway(at, 14.0), node(at, engine(1), engine(2), engine(3)))
        await house.capacity.tick(at)
    assert house.cluster.asked == [], "at 47 % each, and 70 % were one taken away"
    for n in range(30, 60):
        at = NOW + n
        await house.hear(gateway(at, 10.0), node(at, engine(1), engine(2), engine(3)))
        await house.capacity.tick(at)
    assert house.replicas == 2


@pytest.mark.parametrize("silent", ["agents", "gateways", "both", "redis"])
async def test_an_outage_is_not_read_as_zero_load(house: House, silent: str) -> None:
    """Whoever scrapes nothing reads 0, and takes the pool away (dynamo PR #14575)."""
    await publish_intent(house.redis, OPEN)
    history = DemandHistory()

    async def told_at(at: float, *, outage: bool) -> None:
        if not outage or silent == "agents":
            await house.hear(gateway(at, 40.0))
        if not outage or silent == "gateways":
            await house.hear(node(at, *(engine(n) for n in range(8))))

    await told_at(NOW, outage=False)
    await house.tick(NOW)
    if silent == "redis":
        await house.server.flush()
        await publish_intent(house.redis, OPEN)
    sent = len(house.budgets.heard)
    for later_s in (2.0, 6.0, 60.0, 900.0, 7_200.0):
        at = NOW + later_s
        await told_at(at, outage=True)
        await house.tick(at)
        _, gateways = await house.redis.readings(gpus=False)
        history.hear(gateways, datetime.fromtimestamp(at, UTC))
    assert house.cluster.asked == [8]
    assert [seen for seen in house.budgets.heard[sent:] if seen.needed_gpus.get("image") == 0] == []
    if silent != "agents":
        later = datetime.fromtimestamp(at + WINDOW_S, UTC)
        assert history.hear((), later) == [], "nothing is on record of what nobody read"
    assert (await house.gate()).stale


async def _let_in(house: House, at: float) -> float:
    """Return the share of Free that a gateway lets in at an instant, by what is published."""
    decider = Decider(await house.redis.snapshot())
    asked = [decider.decide("image", f"user-{n}", "free", "web", at) for n in range(400)]
    return sum(outcome.allowed for outcome in asked) / len(asked)


@pytest.mark.parametrize("share", [1.0, 0.1])
async def test_a_fallback_fires_when_and_only_when_nothing_is_heard_for_too_long(
    house: House, share: float
) -> None:
    """Never, or at the first reading that is missed (keda #8056, #6053): gateways fall back."""
    pool = POOL.model_copy(update={"safe_share": share})
    await publish_intent(house.redis, pool, features={"image": FEATURE})
    for n in range(3):
        at = NOW + n * (LIVES_S - 1.0)
        # Not renewed for nearly as long as it lives, again and again.
        stays = engine(queue_wait_s=1.8, kv_cache_use=None)
        await house.hear(gateway(at, 9.0), node(at, stays))
        await house.tick(at)
        assert await _let_in(house, at + LIVES_S - 0.01) == pytest.approx(share, abs=0.06)
    part = (await house.gate()).model_copy(update={"safe_share": 0.2, "version": 10**15})
    await house.redis.publish(part)
    assert await _let_in(house, at + LIVES_S) == pytest.approx(share, abs=0.06)
    lost = await _let_in(house, at + LIVES_S + 0.01)
    assert lost == pytest.approx(min(share, 0.2), abs=0.06), "and never wider than it was"


async def test_a_hold_fires_at_the_reading_limit_and_ends_with_the_first_fresh_reading(
    house: House,
) -> None:
    """The same for sizes: one late reading is no outage, and an outage is one at once."""
    await house.hear(gateway(NOW, 40.0), node(NOW, engine()))
    await house.capacity.tick(NOW)
    late = NOW + POOL.cold_start_p90_s + 1.0
    for age_s, replicas in ((POOL.reading_limit_s + 0.01, 8), (POOL.reading_limit_s, 1)):
        await house.hear(gateway(late - age_s, 1.0), node(late - age_s, engine()))
        await house.capacity.tick(late)
        assert house.replicas == replicas


async def test_dead_pods_are_not_served_from_a_cache(house: House) -> None:
    """A cache told of dead pods for 15 minutes (kube-metrics-adapter #97)."""
    await publish_intent(house.redis, OPEN)
    openness = []
    for n in range(14):
        at = NOW + n
        alive = [node(at, engine(1, queue_wait_s=None, waiting=None), name="alive")]
        if n < 3:
            alive.append(node(at, engine(2, queue_wait_s=None, waiting=None), name="dies"))
        await house.hear(gateway(at, 16.0), *alive)
        await house.gates.tick(at)
        openness.append((await house.gate()).openness)
    last_heard, limit_s = 2, math.ceil(POOL.reading_limit_s)
    assert openness[: last_heard + limit_s + 1] == [1.0] * (last_heard + limit_s + 1)
    assert openness[last_heard + limit_s + 1] < 1.0, "16 a second are too many for one alone"


async def test_surge_pods_of_a_rollout_do_not_ratchet(house: House) -> None:
    """Pods of the old and the new version count together, and the size grows (k8s #72775)."""
    house.cluster.hold(8)
    rolling = house.cluster.state.pools["image"]
    house.cluster.hold(4)
    surging = replace(rolling, replicas=4)
    for n in range(40):
        at = NOW + n
        is_rolling = n % 10 < 5
        if is_rolling:
            house.cluster.state = replace(house.cluster.state, pools={"image": surging})
        else:
            house.cluster.hold(4)
        engines = [engine(k, kv_cache_use=0.5) for k in range(8 if is_rolling else 4)]
        await house.hear(gateway(at, 20.0), node(at, *engines))
        await house.tick(at)
    assert house.cluster.asked == []
    ready = {seen.ready_gpus["image"] for seen in house.budgets.heard}
    assert ready == {4}, "what goes once the rollout is done backs no stage"


def _versions(canary_wait_s: float, canary_waiting: float) -> Sequence[EngineReading]:
    """Return nine replicas of the stable version at a third of their limits, and a canary."""
    stable = [engine(n, queue_wait_s=0.64) for n in range(9)]
    canary = engine(9, queue_wait_s=canary_wait_s, waiting=canary_waiting)
    return [
        *(msgspec.structs.replace(each, model="image", version="1") for each in stable),
        msgspec.structs.replace(canary, model="image", version="2"),
    ]


async def test_a_hot_canary_is_not_hidden_by_the_fleets_mean(house: House) -> None:
    """A canary is at 109 %, the stable at 32 %, their mean looks fine (argo-rollouts #4607)."""
    await publish_intent(house.redis, OPEN)
    house.cluster.hold(10)
    for n in range(3):
        await house.hear(gateway(NOW + n, 32.0), node(NOW + n, *_versions(2.18, 300.0)))
        await house.gates.tick(NOW + n)
    assert (await house.reasons("gate.tightened"))[0] == "queue_wait is at 109% of its limit"


async def test_what_waits_for_a_canary_is_not_left_to_replicas_of_another_version(
    house: House,
) -> None:
    """The same for sizes: the room of the stable version works off nothing of the canary's."""
    sized = POOL.model_copy(update={"ceiling_gpus": 64})
    await publish_intent(house.redis, sized)
    house.cluster.hold(10)
    one = [msgspec.structs.replace(each, version="1") for each in _versions(2.18, 900.0)]
    await house.hear(gateway(NOW, 32.0), node(NOW, *one))
    await house.capacity.tick(NOW)
    assert house.replicas == 10
    await house.hear(node(NOW + 1.0, *_versions(2.18, 900.0)))
    await house.capacity.tick(NOW + 1.0)
    assert house.replicas == 13, "(32 + 900 / 30) / 5"


async def test_cold_starts_of_280_s_are_neither_given_up_nor_booked_twice(house: House) -> None:
    """A model loads for 100 to 280 s (vllm #19824, #44881), longer than any dip of the demand."""
    await publish_intent(house.redis, SLOW.model_copy(update={"scale_down_window_s": 20.0}))
    cluster = LoadingCluster()
    cluster.hold(1, PodPhase.READY)
    house.live_in(cluster)
    for n in range(57):
        at = NOW + 5.0 * n
        cluster.pass_until(at)
        dips = n % 12 >= 4
        await house.hear(gateway(at, 4.0 if dips else 40.0), node(at, engine()))
        await house.capacity.tick(at)
    assert cluster.asked == [8], "though there was no need of them for twice the window"
    assert cluster.ready == 8, "all those that were booked first serve, 280 s later"


async def test_the_sizing_sees_the_gates_refused_demand(house: House) -> None:
    """A gate that sheds hides the load that should size the pool (llm-d-autoscaling #813)."""
    house.cluster.hold(2)
    for n in range(12):
        at = NOW + 2.0 * n
        let_in = 1.0 if n == 0 else min((await house.gate()).ceilings.values())
        admitted = 40.0 * let_in
        await house.hear(
            gateway(at, admitted, 40.0 - admitted), node(at, engine(1, queue_wait_s=9.0))
        )
        await house.tick(at)
    assert (await house.gate()).ceilings == {"free": 0.0}, "nobody is let in"
    assert house.replicas == 8, "and the pool is sized for all who asked"


async def test_stock_is_not_rate(house: House) -> None:
    """Requests were shed at 16 % KV-cache use, as their rate looked high (llm-d-router #1500)."""
    await publish_intent(house.redis, OPEN)
    for n in range(20):
        at = NOW + n
        roomy = engine(1, kv_cache_use=0.16, queue_wait_s=0.0)
        await house.hear(gateway(at, 15.0), node(at, roomy))
        await house.gates.tick(at)
    assert (await house.gate()).openness == 1.0, "half as many again as its rated 10 a second"
    for n in range(20, 30):
        at = NOW + n
        full = engine(1, kv_cache_use=0.97, queue_wait_s=1.5, waiting=20.0)
        await house.hear(gateway(at, 15.0), node(at, full))
        await house.gates.tick(at)
    assert (await house.gate()).openness < 1.0, "the same rate on a full cache"


async def test_admissions_not_yet_in_telemetry_let_nobody_more_in(house: House) -> None:
    """A loop of 1 ms lets in by a scrape of 50 ms, fifty times (llm-d-router PR #2066)."""
    hasty = POOL.model_copy(update={"actuation_lag_s": 0.001, "safe_share": 0.2})
    await publish_intent(house.redis, hasty)
    scrapes = 4
    for n in range(scrapes * 50):
        at = NOW + n / 1_000.0
        if n % 50 == 0:
            await house.hear(gateway(at, 2.0), node(at, engine()))
        await house.gates.tick(at)
    opened = (await house.gate()).openness - 0.2
    assert opened == pytest.approx((scrapes - 1) * FITTED_RELAX_STEP), "a step for each new scrape"


async def test_somebody_elses_replicas_are_respected_and_reported(house: House) -> None:
    """Two write `replicas`, each against the other, and nobody hears of it (dynamo #4420)."""
    house.cluster.hold(6)
    house.cluster.scaled_by = "kubectl"
    for n in range(30):
        await house.hear(gateway(NOW + n, 10.0), node(NOW + n, engine()))
        await house.capacity.tick(NOW + n)
    assert house.replicas == 6
    reasons = await house.reasons("pool.sized")
    assert reasons[-1] == 'pool "image": kubectl already scales it.'
    (sized, *_) = [e for e in await told(house.redis) if "kubectl" in str(e.data.get("reason"))]
    assert (sized.data["booked_gpus"], sized.data["needed_gpus"]) == (6, 2)
    house.cluster.scaled_by = None
    await house.hear(gateway(NOW + 30, 10.0), node(NOW + 30, engine()))
    await house.capacity.tick(NOW + 30)
    assert house.replicas == 2, "and taken up again once nobody else does"
