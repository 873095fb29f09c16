"""Simulated pools: a cluster of numbers that keeps the books as a real one would."""

from datetime import timedelta
from statistics import quantiles

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehearsal.pools import SimulatedPools
from tidegate.catalogue import ColdStart, PoolSpec
from tidegate.cluster import Cluster, PodPhase, PoolStatus
from tidegate.errors import Refused
from tidegate.readings import NodeReading

NOON = 1_772_625_600.0
STEP_S = 30.0


def spec(
    *, cold_start_s: tuple[float, float] = (60.0, 60.0), gpus_per_replica: int = 1
) -> PoolSpec:
    p50, p90 = (timedelta(seconds=s) for s in cold_start_s)
    return PoolSpec(
        model="image-2",
        gpu_type="h100",
        gpus_per_replica=gpus_per_replica,
        max_replicas=100,
        capacity_rps=2.0,
        queue_wait_target=timedelta(seconds=10),
        cold_start=ColdStart(p50=p50, p90=p90),
        reading_limit=timedelta(minutes=1),
        actuation_lag=timedelta(minutes=1),
        scale_down_window=timedelta(minutes=10),
    )


def pools(image: PoolSpec | None = None, *, gpus: int = 8, seed: int = 7) -> SimulatedPools:
    return SimulatedPools({"image": image or spec()}, {"h100": gpus}, seed=seed, now=NOON)


async def status(pools: SimulatedPools, pool: str = "image") -> PoolStatus:
    return (await pools.observe()).pools[pool]


def step(pools: SimulatedPools, number: int, admitted_rps: float = 0.0) -> None:
    pools.advance(NOON + number * STEP_S, {"image": admitted_rps}, STEP_S)


def reading(pools: SimulatedPools) -> NodeReading:
    (node,) = pools.readings()
    return node


def test_they_are_a_cluster() -> None:
    cluster: Cluster = pools()
    assert cluster is not None


async def test_a_replica_loads_for_its_cold_start_and_serves_only_then() -> None:
    seen = pools()
    await seen.scale("image", 2)
    for number in (1, 2):
        step(seen, number, admitted_rps=3.0)
        assert seen.backlog("image") == 3.0 * STEP_S * number  # loading replicas serve nobody
    assert [pod.ready_at for pod in (await status(seen)).pods] == [NOON + 60.0] * 2
    step(seen, 3, admitted_rps=3.0)
    assert seen.backlog("image") == 180.0 + 90.0 - 4.0 * STEP_S


async def test_a_replica_that_is_loaded_within_a_step_serves_the_rest_of_it() -> None:
    seen = pools(spec(cold_start_s=(40.0, 40.0)))
    await seen.scale("image", 1)
    step(seen, 1, admitted_rps=2.0)
    step(seen, 2, admitted_rps=2.0)
    assert seen.backlog("image") == 2.0 * 60.0 - 2.0 * 20.0


async def test_replicas_without_gpus_wait_for_those_that_arrive_and_load_then() -> None:
    seen = pools(gpus=1)
    await seen.scale("image", 3)
    assert (await status(seen)).count(PodPhase.PENDING) == 2
    step(seen, 1)
    seen.install("h100", 1)
    pods = (await status(seen)).pods
    assert [pod.phase for pod in pods] == [PodPhase.LOADING, PodPhase.LOADING, PodPhase.PENDING]
    step(seen, 2)
    step(seen, 3)
    assert [pod.ready_at for pod in (await status(seen)).pods] == [NOON + 60.0, NOON + 90.0, None]


async def test_a_replica_takes_all_its_gpus_or_none() -> None:
    seen = pools(spec(gpus_per_replica=3), gpus=8)
    await seen.scale("image", 3)
    assert [pod.gpu for pod in (await status(seen)).pods] == [0, 3, None]


async def test_those_that_never_served_leave_first_then_the_youngest() -> None:
    seen = pools(gpus=3)
    await seen.scale("image", 2)
    step(seen, 1)
    step(seen, 2)
    await seen.scale("image", 4)
    await seen.scale("image", 1)
    assert [(pod.name, pod.phase) for pod in (await status(seen)).pods] == [
        ("image-1", PodPhase.READY),
        ("image-2", PodPhase.DRAINING),
    ]
    step(seen, 3)
    assert [pod.name for pod in (await status(seen)).pods] == ["image-1"]


async def test_one_that_drains_serves_nobody_and_keeps_its_gpu_until_it_is_gone() -> None:
    seen = pools(gpus=1)
    await seen.scale("image", 1)
    step(seen, 1)
    step(seen, 2)
    await seen.scale("image", 0)
    await seen.scale("image", 1)
    assert (await status(seen)).count(PodPhase.PENDING) == 1
    step(seen, 3, admitted_rps=1.0)
    assert seen.backlog("image") == STEP_S
    assert (await status(seen)).count(PodPhase.LOADING) == 1


async def test_a_reading_names_every_ready_replica_and_the_duty_of_its_gpu() -> None:
    seen = pools(gpus=3)
    await seen.scale("image", 2)
    step(seen, 1)
    assert reading(seen).engines == ()
    step(seen, 2)
    step(seen, 3, admitted_rps=2.0)
    node = reading(seen)
    assert node.at == NOON + 3 * STEP_S
    assert [(e.replica, e.gpu, e.running, e.waiting, e.queue_wait_s) for e in node.engines] == [
        ("image-1", 0, 1.0, 0.0, 0.0),
        ("image-2", 1, 1.0, 0.0, 0.0),
    ]
    assert [gpu.utilisation for gpu in node.gpus or ()] == [0.5, 0.5, 0.0]


async def test_the_wait_is_unknown_where_nobody_was_served() -> None:
    seen = pools()
    await seen.scale("image", 1)
    step(seen, 1)
    step(seen, 2)
    assert [engine.queue_wait_s for engine in reading(seen).engines] == [None]


async def test_every_change_has_a_revision_of_its_own() -> None:
    seen = pools()
    revisions = [(await seen.observe()).revision]
    await seen.scale("image", 1)
    revisions.append((await seen.observe(after=revisions[-1], wait_s=60.0)).revision)
    seen.install("h100", 1)
    revisions.append((await seen.observe()).revision)
    step(seen, 1)
    revisions.append((await seen.observe()).revision)
    assert revisions == sorted(set(revisions))


async def test_a_pool_that_is_not_rehearsed_is_refused_by_name() -> None:
    with pytest.raises(Refused, match=r'pool "chat" is not rehearsed, known are: "image"'):
        await pools().scale("chat", 1)


async def test_cold_starts_follow_their_p50_and_p90_and_the_seed() -> None:
    async def drawn(seed: int) -> list[float]:
        seen = pools(spec(cold_start_s=(480.0, 960.0)), gpus=4000, seed=seed)
        await seen.scale("image", 4000)
        seen.advance(NOON + 1e6, {}, 1e6)
        return [pod.ready_at - NOON for pod in (await status(seen)).pods if pod.ready_at]

    starts_s = await drawn(7)
    tenths = quantiles(starts_s, n=10)
    assert tenths[4] == pytest.approx(480.0, rel=0.05)
    assert tenths[8] == pytest.approx(960.0, rel=0.07)
    assert await drawn(7) == starts_s
    assert await drawn(8) != starts_s


acts = st.lists(
    st.one_of(
        st.tuples(st.just("scale"), st.integers(0, 12)),
        st.tuples(st.just("install"), st.integers(0, 4)),
        st.tuples(st.just("advance"), st.integers(0, 40)),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(acts=acts, seed=st.integers(0, 99))
async def test_whatever_happens_the_books_are_kept(acts: list[tuple[str, int]], seed: int) -> None:
    seen = pools(spec(cold_start_s=(45.0, 90.0), gpus_per_replica=2), gpus=6, seed=seed)
    now, admitted, served_at_most = NOON, 0.0, 0.0
    for act, amount in acts:
        if act == "scale":
            await seen.scale("image", amount)
        elif act == "install":
            seen.install("h100", amount)
        else:
            now += STEP_S
            admitted += amount * STEP_S
            seen.advance(now, {"image": float(amount)}, STEP_S)
            served_at_most += sum(
                2.0 * min(STEP_S, now - pod.ready_at)
                for pod in (await status(seen)).pods
                if pod.phase is PodPhase.READY and pod.ready_at is not None
            )
        state = await seen.observe()
        engines = [e for e in reading(seen).engines if e.requests_total is not None]
        pods = state.pools["image"].pods
        held = [pod for pod in pods if pod.phase is not PodPhase.PENDING]
        assert len(held) * 2 <= state.gpus["h100"]
        assert len({pod.gpu for pod in held}) == len(held)
        assert len({pod.name for pod in pods}) == len(pods)
        assert len(engines) == state.pools["image"].count(PodPhase.READY)
        staying = [pod for pod in pods if pod.phase is not PodPhase.DRAINING]
        assert len(staying) == state.pools["image"].replicas
    served = admitted - seen.backlog("image")
    assert -1e-6 <= served <= served_at_most + 1e-6
