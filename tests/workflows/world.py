"""The real workflows on Temporal's test server, whose clock skips; only Redis is imagined."""

import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from temporalio import activity
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
    Worker,
)

from controllers.worker import _SANDBOX, WORKFLOWS, acts_on, proofs_by
from embedded.temporal import SEARCH_ATTRIBUTES
from tidegate.edges.preview_keys import PreviewKeys
from tidegate.edges.temporal import ControlPlane
from tidegate.events import Event
from tidegate.messages.common import News
from tidegate.messages.retirement import UseQuestion
from tidegate.messages.rollout import Measurement
from tidegate.rules.verdict import Look, Verdict
from tidegate.settings import TASK_QUEUE
from tidegate.signing import Key, Keyring

SECRET: Final = b"k" * 32
KEYS: Final = Keyring((Key("test", SECRET),))
_TEST_SERVER: Final = Path(sys.executable).with_name("temporal-test-server")

Hook = Callable[[], Awaitable[None]]


@dataclass(repr=False)
class World:
    """What would be Redis, the recorder and the engines; and the test's hand on each activity."""

    announced: list[Sequence[Event]] = field(default_factory=list)
    """Each attempt to deliver, acknowledged or not."""
    recorded: list[Event] = field(default_factory=list)
    is_deaf: bool = False
    """Whether the recorder acknowledges nothing."""
    verdicts: dict[str, list[Verdict]] = field(default_factory=dict)
    """What the next measurements of a pool say; PASS when none is left."""
    use: dict[str, float | None] = field(default_factory=dict)
    """Weighted requests a day, by model; None where nobody counted, 0 where nothing is said."""
    previews: Path = field(default_factory=lambda: Path(tempfile.mkdtemp()))
    """Where keys of previews are."""
    before: dict[str, Hook] = field(default_factory=dict)
    """Awaited before each attempt of the activity of that name."""
    after: dict[str, Hook] = field(default_factory=dict)
    """Awaited when the activity has acted and has not yet answered."""

    @activity.defn(name="announce")
    async def announce(self, news: News) -> None:
        events = news.events
        self.announced.append(events)
        if self.is_deaf:
            raise ConnectionError("nobody acknowledges")
        known = {event.id for event in self.recorded}
        self.recorded.extend(event for event in events if event.id not in known)

    @activity.defn(name="measure")
    async def measure(self, asked: Measurement) -> dict[str, Look]:
        left = self.verdicts.get(asked.pool)
        look = Look(left.pop(0) if left else Verdict.PASS, "as the test says")
        return {check.name: look for check in asked.checks}

    @activity.defn(name="weigh_use")
    async def weigh_use(self, asked: UseQuestion) -> float | None:
        return self.use.get(asked.model, 0.0)


class _Hand(Interceptor):
    """Lets a test act just before an activity acts, or between its act and its answer."""

    def __init__(self, world: World) -> None:
        self.world = world

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002 - Temporal's own
        return _HandOnActivity(next, self.world)


class _HandOnActivity(ActivityInboundInterceptor):
    def __init__(self, following: ActivityInboundInterceptor, world: World) -> None:
        super().__init__(following)
        self.world = world

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002, ANN401 - Temporal's own
        name = activity.info().activity_type
        if name in self.world.before:
            await self.world.before[name]()
        answer = await super().execute_activity(input)
        if name in self.world.after:
            await self.world.after[name]()
        return answer


def make_worker(client: Client, world: World) -> Worker:
    """Host the real workflows and activities, but for those that need Redis."""
    acts = acts_on(ControlPlane(client, KEYS), PreviewKeys(world.previews))
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=list(WORKFLOWS),
        activities=[world.announce, world.measure, world.weigh_use, *acts],
        workflow_runner=_SANDBOX,
        interceptors=[_Hand(world), proofs_by(KEYS)],
    )


@asynccontextmanager
async def skipping_time() -> AsyncIterator[WorkflowEnvironment]:
    """Start Temporal's test server with our search attributes."""
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(_TEST_SERVER), data_converter=pydantic_data_converter
    ) as env:
        # Without them every workflow task would be tried again for ever.
        keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
        await env.client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace=env.client.namespace,
                search_attributes=dict.fromkeys(SEARCH_ATTRIBUTES, keyword),
            )
        )
        yield env
