"""Run one loop: `python -m controllers worker|agent|capacity|gate|publisher|recorder|notifier`."""

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from tidegate.errors import TidegateError
from tidegate.leaving import leave
from tidegate.settings import Settings

# Each loop imports what it needs and no more: an agent must stay small.
if TYPE_CHECKING:
    from tidegate.edges.redis import Redis
    from tidegate.edges.redis_link import RedisLink


async def _worker(settings: Settings, redis: "Redis") -> None:
    import structlog  # noqa: PLC0415

    from activities.measure import Measure  # noqa: PLC0415
    from controllers.loop import until_stopped  # noqa: PLC0415
    from controllers.worker import make_worker  # noqa: PLC0415
    from tidegate.edges.preview_keys import PreviewKeys  # noqa: PLC0415
    from tidegate.edges.prometheus import Prometheus  # noqa: PLC0415
    from tidegate.edges.temporal import connect  # noqa: PLC0415
    from tidegate.edges.temporal.builds import welcome  # noqa: PLC0415
    from tidegate.signing import load_keyring  # noqa: PLC0415

    keys = load_keyring(settings.keys_file)
    plane = await connect(settings.temporal, settings.namespace, keys)
    previews = PreviewKeys(settings.previews_folder)
    if await welcome(plane.client, settings.build):
        structlog.get_logger().info("worker.build_is_current", build=settings.build)
    measure = Measure(redis, Prometheus(settings.prometheus))
    async with make_worker(plane, redis, previews, build=settings.build, measure=measure):
        await until_stopped()


async def _agent(settings: Settings, redis: "RedisLink") -> None:
    from controllers.cluster import beside  # noqa: PLC0415
    from controllers.gpu_agent import GpuAgent, Node  # noqa: PLC0415
    from controllers.loop import run  # noqa: PLC0415
    from tidegate.edges.engine_metrics import EngineMetrics  # noqa: PLC0415
    from tidegate.edges.nvml import NvmlReader  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        pods = await stack.enter_async_context(beside(settings))
        engines = await stack.enter_async_context(EngineMetrics())
        kubelet = None
        if settings.pod_resources is not None:
            from tidegate.edges.pod_resources import PodResources  # noqa: PLC0415

            kubelet = await stack.enter_async_context(PodResources(settings.pod_resources))
        node = Node(settings.node, settings.gpu_type, kubelet)
        agent = GpuAgent(node, redis, pods, NvmlReader(settings.nvml), engines)
        if settings.metrics is not None:
            from controllers.agent_metrics import serve_metrics  # noqa: PLC0415

            await stack.enter_async_context(serve_metrics(agent, settings.metrics))
        await run("agent", agent, period_s=1.0)


async def _capacity(settings: Settings, redis: "Redis") -> None:
    from controllers.capacity import CapacityLoop  # noqa: PLC0415
    from controllers.cluster import cluster_of, leading  # noqa: PLC0415
    from controllers.loop import collect_rarely, run  # noqa: PLC0415
    from tidegate.edges.outbox import Outbox  # noqa: PLC0415
    from tidegate.edges.temporal import connect  # noqa: PLC0415

    collect_rarely()
    path = settings.state / "capacity.outbox"
    async with AsyncExitStack() as stack:
        stopping = await stack.enter_async_context(leading(settings, "capacity"))
        plane = await connect(settings.temporal, settings.namespace)
        cluster = await stack.enter_async_context(cluster_of(settings))
        outbox = await stack.enter_async_context(Outbox(path, "/controllers/capacity", redis))
        loop = CapacityLoop(redis, cluster, plane, outbox)
        await run("capacity", loop, period_s=1.0, wake=loop.wake, stopping=stopping)


async def _gate(settings: Settings, redis: "Redis") -> None:
    from controllers.cluster import leading  # noqa: PLC0415
    from controllers.gate import GateLoop  # noqa: PLC0415
    from controllers.loop import collect_rarely, run, run_beside  # noqa: PLC0415
    from controllers.waitlist import WaitlistLoop  # noqa: PLC0415
    from tidegate.edges.outbox import Outbox  # noqa: PLC0415
    from tidegate.edges.record import Record  # noqa: PLC0415
    from tidegate.signing import load_keyring  # noqa: PLC0415

    collect_rarely()
    state = settings.state
    keys = load_keyring(settings.keys_file)
    async with (
        leading(settings, "gate") as stopping,
        Outbox(state / "gate.outbox", "/controllers/gate", redis) as outbox,
        Outbox(state / "waitlist.outbox", "/controllers/waitlist", redis) as waitlists,
        Record(settings.record) as record,
        redis.reading_changes() as changes,
        asyncio.TaskGroup() as loops,
    ):
        # Beside the gate and not in it: a record that is slow or broken must not delay a gate that
        # has to narrow.
        waitlist = WaitlistLoop(redis, record, waitlists, keys)
        loops.create_task(run_beside("waitlist", waitlist, period_s=1.0, stopping=stopping))
        gate = GateLoop(redis, outbox)
        # A spike is answered at once; with no wake it would wait for up to a period.
        wakes = run("gate", gate, period_s=1.0, wake=changes.wait, stopping=stopping)
        loops.create_task(wakes)


async def _publisher(settings: Settings, redis: "Redis") -> None:
    from controllers.loop import run, run_beside, stops_on_signals  # noqa: PLC0415
    from controllers.publisher import Publisher  # noqa: PLC0415
    from controllers.surges import Surges  # noqa: PLC0415
    from tidegate.edges.preview_keys import PreviewKeys  # noqa: PLC0415
    from tidegate.edges.temporal import connect  # noqa: PLC0415
    from tidegate.signing import load_keyring  # noqa: PLC0415

    keys = load_keyring(settings.keys_file)
    plane = await connect(settings.temporal, settings.namespace, keys)
    publisher = Publisher(redis, plane, PreviewKeys(settings.previews_folder), keys)
    async with asyncio.TaskGroup() as loops:
        stopping = stops_on_signals()
        surges = run_beside("surges", Surges(redis, plane), period_s=1.0, stopping=stopping)
        loops.create_task(surges)
        publishing = run(
            "publisher", publisher, period_s=1.0, wake=publisher.wake, stopping=stopping
        )
        loops.create_task(publishing)


async def _notifier(settings: Settings, redis: "Redis") -> None:
    from controllers.loop import run_beside, stops_on_signals  # noqa: PLC0415
    from controllers.notifier import Notifier  # noqa: PLC0415
    from tidegate.webhooks import load_receivers  # noqa: PLC0415

    receivers = [] if settings.webhooks is None else load_receivers(settings.webhooks)
    stopping = stops_on_signals()
    async with asyncio.TaskGroup() as loops:
        for receiver in receivers:
            notifier = Notifier(receiver, redis, settings.state)
            name = f"webhook-{receiver.name}"
            loops.create_task(run_beside(name, notifier, period_s=1.0, stopping=stopping))
        await stopping.wait()


async def _recorder(settings: Settings, redis: "Redis") -> None:
    from controllers.loop import run  # noqa: PLC0415
    from controllers.recorder import Recorder  # noqa: PLC0415
    from tidegate.edges.record import Record  # noqa: PLC0415

    async with Record(settings.record) as record:
        recorder = Recorder(redis, record)
        await run("recorder", recorder, period_s=1.0, wake=recorder.wake)


LOOPS: Final[Mapping[str, Callable[[Settings, "Redis"], Awaitable[None]]]] = {
    "worker": _worker,
    "agent": _agent,
    "capacity": _capacity,
    "gate": _gate,
    "publisher": _publisher,
    "recorder": _recorder,
    "notifier": _notifier,
}


async def _main(name: str) -> None:
    settings = Settings.from_environment(os.environ)
    if name == "agent":
        from tidegate.edges.redis_link import RedisLink  # noqa: PLC0415

        async with RedisLink(settings.redis) as link:
            await link.ping()
            await _agent(settings, link)
        return
    from tidegate.edges.redis import Redis  # noqa: PLC0415

    async with Redis(settings.redis) as redis:
        await redis.ping()
        await LOOPS[name](settings, redis)


def main(arguments: list[str]) -> int:
    """Run the loop that is named; returns the exit code."""
    if arguments == ["agent"]:
        # structlog takes 7 MB for these wherever they are installed, and an agent must stay small.
        sys.modules |= dict.fromkeys(("rich", "greenlet"))  # type: ignore[arg-type]
    import structlog  # noqa: PLC0415

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    if len(arguments) != 1 or arguments[0] not in LOOPS:
        sys.stderr.write(f"usage: python -m controllers {'|'.join(LOOPS)}\n")
        return 2
    try:
        asyncio.run(_main(arguments[0]))
    except TidegateError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
