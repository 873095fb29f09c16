"""The capacity loop over an in-memory cluster: sizes, what it tells, what it tells the budget."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from controllers.capacity import CapacityLoop
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
from tests.real_redis import real_redis
from tidegate.cluster import ClusterState, NodeGpus, PodPhase
from tidegate.edges.outbox import Outbox
from tidegate.edges.redis import Redis
from tidegate.errors import Unavailable
from tidegate.events import Event
from tidegate.messages.budget import Observation
from tidegate.readings import GpuReading
from tidegate.snapshot import PoolIntent

FAULT = GpuReading(index=0, fault="GPU_IS_LOST")
FINE = GpuReading(index=1, utilisation=0.5)


@dataclass
class House:
    redis: Redis
    outbox: Outbox
    cluster: MemoryCluster = field(default_factory=MemoryCluster)
    budgets: Budgets = field(default_factory=Budgets)

    def __post_init__(self) -> None:
        self.loop = self.another_loop()

    def another_loop(self) -> CapacityLoop:
        return CapacityLoop(self.redis, self.cluster, self.budgets, self.outbox)

    @property
    def replicas(self) -> int:
        return self.cluster.state.pools["image"].replicas

    async def tick(self, at: float, rps: float = 0.0, **more: float) -> None:
        """Tick on fresh readings: this much is admitted, and refused where it is given."""
        await self.redis.publish_reading(gateway(at, rps, **more))
        await self.redis.publish_reading(node(at, engine(), gpus=(FINE,)))
        await self.loop.tick(at)

    async def sizings(self) -> list[Event]:
        return [event for event in await told(self.redis) if event.type == "pool.sized"]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with (
        real_redis(tmp_path) as (_, redis),
        Outbox(tmp_path / "capacity.outbox", "/controllers/capacity", redis) as outbox,
    ):
        await publish_intent(redis)
        yield House(redis, outbox)


async def test_a_pool_is_sized_by_what_is_offered_the_refused_included(house: House) -> None:
    await house.tick(NOW, 10.0)
    assert house.replicas == 2
    await house.tick(NOW + 10.0, 10.0, refused_rps=15.0)
    assert house.replicas == 5


@pytest.mark.parametrize(("ceiling", "replicas"), [(3, 3), (None, 1), (0, 0)])
async def test_no_pool_grows_above_the_ledger_nor_at_all_on_an_unknown_budget(
    house: House, ceiling: int | None, replicas: int
) -> None:
    house.cluster.hold(1)
    await publish_intent(house.redis, POOL.model_copy(update={"ceiling_gpus": ceiling}))
    await house.tick(NOW, 400.0)
    assert house.replicas == replicas


@pytest.mark.parametrize("missing", ["stale", "absent", "only the wait"])
async def test_nothing_shrinks_on_readings_that_are_stale_or_absent(
    house: House, missing: str
) -> None:
    await house.tick(NOW, 40.0)
    late = NOW + 150.0
    if missing == "absent":
        await house.redis.forget_reading("gateway/one")
        await house.redis.forget_reading("node/local")
    if missing == "only the wait":
        await house.redis.publish_reading(gateway(late, 1.0))
    await house.loop.tick(late)
    assert house.replicas == 8
    assert (await house.sizings())[-1].data["limited_by"] == "readings"
    await house.tick(late + 1.0, 1.0)
    assert house.replicas == 1


async def test_nothing_shrinks_without_a_duty_cycle_where_the_pool_asks_for_one(
    house: House,
) -> None:
    asked = ("queue_wait", "demand", "gpu_utilisation")
    await publish_intent(house.redis, POOL.model_copy(update={"required_readings": asked}))
    house.cluster.hold(8)
    for at, cards in ((NOW, (FINE,)), (NOW + 60.0, ()), (NOW + 90.0, (FINE,))):
        await house.redis.publish_reading(gateway(at, 1.0))
        await house.redis.publish_reading(node(at, engine(), gpus=cards))
        await house.loop.tick(at)
        assert house.replicas == (1 if at == NOW + 90.0 else 8)
    assert "gpu_utilisation is absent" in str((await house.sizings())[1].data["reason"])


async def test_a_loop_that_starts_anew_keeps_what_is_booked_for_a_window(house: House) -> None:
    await house.tick(NOW, 40.0)
    house.loop = house.another_loop()
    await house.tick(NOW + 10.0, 1.0)
    assert house.replicas == 8
    await house.tick(NOW + 10.0 + POOL.scale_down_window_s + 1.0, 1.0)
    assert house.replicas == 1


async def test_a_pool_that_another_manager_scales_is_refused_and_said_once(house: House) -> None:
    house.cluster.scaled_by = 'HorizontalPodAutoscaler "inference/image"'
    with capture_logs() as logs:
        for n in range(4):
            await house.tick(NOW + n, 10.0)
    assert house.cluster.asked == [2, 2, 2, 2], "it is tried again, in case the other has gone"
    assert [log["event"] for log in logs] == ["pool.not_scaled"]
    (sized,) = await house.sizings()
    assert sized.data["after"] == sized.data["booked_gpus"] == 0
    assert "already scales it" in str(sized.data["reason"])
    house.cluster.scaled_by = None
    await house.tick(NOW + 5.0, 10.0)
    assert house.replicas == 2


async def test_a_sizing_is_told_when_it_changes_and_not_each_second(house: House) -> None:
    for n in range(5):
        await house.tick(NOW + n, 10.0)
    first, ready = await house.sizings()
    assert (first.data["before"], first.data["after"]) == (0, 2)
    assert (first.data["ready_gpus"], ready.data["ready_gpus"]) == (0, 2)
    assert ready.data["installed_gpus"] == 8


async def test_a_need_that_nobody_could_read_is_told_as_unknown_and_never_as_none(
    house: House,
) -> None:
    house.cluster.hold(2)
    await house.loop.tick(NOW)
    (sized,) = await house.sizings()
    assert sized.data["needed_gpus"] is None
    (heard,) = house.budgets.heard
    assert heard == Observation(installed_gpus=8, ready_gpus={"image": 2}, needed_gpus={})


async def test_the_budget_is_signalled_only_on_change(house: House) -> None:
    for n in range(4):
        await house.tick(NOW + n, 10.0)
    booked, ready = house.budgets.heard
    assert booked == Observation(
        installed_gpus=8, ready_gpus={"image": 0}, needed_gpus={"image": 2}
    )
    assert ready.ready_gpus == {"image": 2}
    house.cluster.install(9)
    await house.tick(NOW + 5.0, 10.0)
    assert house.budgets.heard[2:] == [ready.model_copy(update={"installed_gpus": 9})]


async def test_what_changed_while_temporal_was_away_is_signalled_once_it_is_back(
    house: House,
) -> None:
    await house.tick(NOW, 10.0)
    house.budgets.is_away = True
    for n in range(1, 4):
        with pytest.raises(Unavailable):
            await house.tick(NOW + n, 20.0)
    assert house.cluster.asked == [2, 3, 4], "sizing waits for nobody"
    house.budgets.is_away = False
    await house.tick(NOW + 5.0, 20.0)
    await house.tick(NOW + 6.0, 20.0)
    assert [seen.needed_gpus["image"] for seen in house.budgets.heard] == [2, 4]


async def test_what_was_told_is_sent_again_while_temporal_is_away(house: House) -> None:
    await house.tick(NOW, 10.0)
    await house.tick(NOW + 1.0, 10.0)
    before = await house.sizings()
    house.budgets.is_away = True
    house.cluster.install(9)
    with pytest.raises(Unavailable):
        await house.tick(NOW + 10.0, 10.0)
    heard = (await house.redis.events(after="0")).events
    assert [event.id for event in heard].count(before[0].id) == 2


async def test_what_was_scaled_before_a_cluster_went_away_is_told(house: House) -> None:
    class Leaving(MemoryCluster):
        async def scale(self, pool: str, replicas: int) -> None:
            if pool != "image":
                raise Unavailable("cluster: no answer", code="cluster-unavailable")
            await super().scale(pool, replicas)

    cluster = Leaving()
    pools = {**cluster.state.pools, "later": replace(cluster.state.pools["image"], name="later")}
    cluster.state = replace(cluster.state, pools=pools)
    held = (await house.redis.snapshot()).intent
    assert held is not None
    both = {"image": POOL, "later": POOL.model_copy(update={"min_replicas": 2})}
    assert await house.redis.publish(held.model_copy(update={"version": 9, "pools": both}))
    house.loop = CapacityLoop(house.redis, cluster, house.budgets, house.outbox)
    with pytest.raises(Unavailable):
        await house.tick(NOW, 10.0)
    (sized,) = await house.sizings()
    assert (sized.data["pool"], sized.data["after"]) == ("image", 2)


async def test_a_temporal_that_never_answers_holds_up_sizing_for_seconds_at_most(
    house: House,
) -> None:
    class Silent(Budgets):
        async def observe(self, gpu_type: str, seen: Observation) -> None:  # noqa: ARG002
            await asyncio.sleep(60.0)

    house.loop = CapacityLoop(house.redis, house.cluster, Silent(), house.outbox)
    with pytest.raises(Unavailable, match=r"temporal: no answer in 2 s"):
        await asyncio.wait_for(house.tick(NOW, 10.0), 4.0)
    assert house.replicas == 2


async def test_a_budget_that_has_counted_nothing_yet_is_told_again(house: House) -> None:
    # It was declared after the first signal, which then reached nobody.
    unknown = POOL.model_copy(update={"ceiling_gpus": None})
    await publish_intent(house.redis, unknown)
    for n in range(3):
        await house.tick(NOW + n, 10.0)
    assert len(house.budgets.heard) == 3
    await publish_intent(house.redis)
    for n in range(3, 8):
        await house.tick(NOW + n, 10.0)
    assert house.replicas == 2
    assert len(house.budgets.heard) == 4, "and then only what changes"


async def test_a_gpu_with_a_fault_is_sick_until_its_node_says_otherwise(house: House) -> None:
    async def sick(at: float, gpus: tuple[GpuReading, ...] | None, agent_at: float) -> int:
        reading = msgspec.structs.replace(node(agent_at, engine()), gpus=gpus)
        await house.redis.publish_reading(reading)
        await house.redis.publish_reading(node(at, name="other", gpus=(FINE, FAULT)))
        await house.redis.publish_reading(gateway(at, 10.0))
        await house.loop.tick(at)
        return house.budgets.heard[-1].sick_gpus

    assert await sick(NOW, (FAULT, FINE), NOW) == 2
    assert await sick(NOW + 1, None, NOW + 1) == 2, "NVML is absent: nothing was mended"
    assert await sick(NOW + 30, (FAULT, FINE), NOW + 1) == 2, "its agent is silent"
    assert await sick(NOW + 31, (FINE,), NOW + 31) == 2, "the card itself says nothing"
    mended = msgspec.structs.replace(FAULT, fault=None)
    assert await sick(NOW + 32, (mended, FINE), NOW + 32) == 1


async def test_a_gpu_that_falls_sick_and_one_that_mends_are_each_told_once(house: House) -> None:
    xid = msgspec.structs.replace(FINE, xids=(79,))
    hung = GpuReading(index=1, hung=("name", "uuid"))
    for at, gpu in enumerate((FINE, xid, xid, hung, FINE, FINE)):
        await house.redis.publish_reading(node(NOW + at, gpus=(gpu,)))
        await house.loop.tick(NOW + at)
    events = [event for event in await told(house.redis) if event.type.startswith("gpu.")]
    assert [(e.type, e.subject, e.data["reason"]) for e in events] == [
        ("gpu.sick", "gpu/local/1", "Xid 79"),
        ("gpu.mended", "gpu/local/1", "no more: Xid 79"),
    ]
    assert events[1].at.timestamp() == NOW + 4, "a card that hangs has not mended"


@pytest.mark.parametrize(("gpu_type", "sick"), [("h100", 1), ("a100", 0), (None, 1)])
async def test_a_sick_gpu_is_taken_out_of_its_own_budget(
    house: House, gpu_type: str | None, sick: int
) -> None:
    reading = msgspec.structs.replace(node(NOW, gpus=(FAULT,)), gpu_type=gpu_type)
    await house.redis.publish_reading(reading)
    await house.loop.tick(NOW)
    assert house.budgets.heard[-1].sick_gpus == sick


async def test_a_sick_gpu_counts_against_the_budget_of_its_own_type(house: House) -> None:
    class Both(Budgets):
        async def observe(self, gpu_type: str, seen: Observation) -> None:
            sick[gpu_type] = seen.sick_gpus

    sick: dict[str, int] = {}
    both = {"h100": 8, "a100": 4}
    house.cluster.state = replace(house.cluster.state, gpus=both)
    house.loop = CapacityLoop(house.redis, house.cluster, Both(), house.outbox)
    await house.redis.publish_reading(node(NOW, engine(), gpus=(FAULT, FINE)))
    await house.loop.tick(NOW)
    assert sick == {"h100": 1, "a100": 0}


@pytest.mark.parametrize("is_read_anew", [False, True], ids=["one loop", "another loop"])
async def test_the_sick_gpus_of_a_node_that_is_gone_for_good_count_no_more(
    house: House, *, is_read_anew: bool
) -> None:
    async def sick(at: float, *names: str) -> int:
        nodes = {name: NodeGpus("h100", usable=4) for name in names}
        house.cluster.state = replace(house.cluster.state, nodes=nodes)
        await house.loop.tick(at)
        return house.budgets.heard[-1].sick_gpus

    await house.redis.publish_reading(node(NOW, name="gpu-0", gpus=(FAULT,)))
    await house.redis.publish_reading(node(NOW, name="gpu-1", gpus=(FAULT,)))
    assert await sick(NOW, "gpu-0") == 2, "a node may be heard before it is seen"
    assert await sick(NOW + 59, "gpu-0") == 2
    if is_read_anew:
        house.loop = house.another_loop()
    assert await sick(NOW + 61, "gpu-0") == 1
    (left,), _ = await house.redis.readings()
    assert left.node == "gpu-0", "silent as it is, its cluster has it"
    events = [(e.type, e.subject) for e in await told(house.redis)]
    assert events.count(("gpu.gone", "gpu/gpu-1/0")) == 1
    assert ("gpu.gone", "gpu/gpu-0/0") not in events


async def test_where_nobody_says_which_nodes_there_are_a_day_of_silence_does(
    house: House,
) -> None:
    await house.redis.publish_reading(node(NOW, name="old", gpus=(FAULT,)))
    for at, sick in ((NOW, 1), (NOW + 86_400, 1), (NOW + 86_401, 0)):
        await house.loop.tick(at)
        assert house.budgets.heard[-1].sick_gpus == sick


@pytest.mark.parametrize(
    ("seen", "sick"),
    [
        (NodeGpus("h100", usable=8), 2),
        (NodeGpus("h100", usable=7, withdrawn=1), 1),
        (NodeGpus("h100", usable=5, withdrawn=3), 0),
        (NodeGpus("h100", usable=8, takes_pods=False), 0),
        (NodeGpus("a100", usable=8), 0),
    ],
    ids=["counted", "one withdrawn", "all withdrawn", "cordoned", "of another type"],
)
async def test_a_sick_gpu_that_its_cluster_does_not_count_is_not_taken_out_twice(
    house: House, seen: NodeGpus, sick: int
) -> None:
    house.cluster.state = replace(house.cluster.state, nodes={"gpu-0": seen})
    other = msgspec.structs.replace(FAULT, index=FAULT.index + 1)
    await house.redis.publish_reading(node(NOW, name="gpu-0", gpus=(FAULT, other)))
    await house.loop.tick(NOW)
    assert house.budgets.heard[-1].sick_gpus == sick


async def test_replicas_that_become_ready_one_after_the_other_are_signalled_together(
    house: House,
) -> None:
    await house.tick(NOW, 40.0)
    heard = len(house.budgets.heard)
    for n in range(8):
        house.cluster.hold(n + 1)
        await house.tick(NOW + 0.1 * n, 40.0)
    await house.tick(NOW + 1.0, 40.0)
    assert [seen.ready_gpus["image"] for seen in house.budgets.heard[heard:]] == [8]


@pytest.mark.parametrize("phase", [PodPhase.LOADING, PodPhase.PENDING])
async def test_replicas_that_are_coming_are_not_booked_twice(house: House, phase: PodPhase) -> None:
    house.cluster.hold(2, phase)
    await house.tick(NOW, 10.0)
    assert house.cluster.asked == []
    (sized,) = await house.sizings()
    assert (sized.data["ready_gpus"], sized.data["loading_gpus"]) == (0, 2)


async def test_a_cluster_that_does_not_answer_is_unavailable_and_nothing_changes(
    house: House,
) -> None:
    house.cluster.is_away = True
    with pytest.raises(Unavailable):
        await house.tick(NOW, 10.0)
    assert (house.cluster.asked, house.budgets.heard, await told(house.redis)) == ([], [], [])


async def test_a_pool_that_the_cluster_lacks_is_left_out(house: House) -> None:
    house.cluster.state = ClusterState(revision=2, gpus={"h100": 8}, pools={})
    await house.tick(NOW, 10.0)
    assert house.budgets.heard == [Observation(installed_gpus=8, ready_gpus={}, needed_gpus={})]


async def test_gpus_are_counted_by_replicas_of_several(house: House) -> None:
    pool: PoolIntent = POOL.model_copy(update={"gpus_per_replica": 4, "ceiling_gpus": 7})
    await publish_intent(house.redis, pool)
    await house.tick(NOW, 10.0)
    assert house.replicas == 1
    assert house.budgets.heard[0].needed_gpus == {"image": 8}


async def test_it_wakes_when_the_cluster_has_changed(house: House) -> None:
    waited: list[tuple[int | None, float]] = []

    class Watched(MemoryCluster):
        async def observe(self, *, after: int | None = None, wait_s: float = 0.0) -> ClusterState:
            waited.append((after, wait_s))
            return await super().observe(after=after, wait_s=wait_s)

    loop = CapacityLoop(house.redis, Watched(), house.budgets, house.outbox)
    await loop.tick(NOW)
    await loop.wake(0.7)
    assert waited[-1] == (1, 0.7)
