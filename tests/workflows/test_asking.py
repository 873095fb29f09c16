"""What those who ask workflows hear when one of them cannot answer."""

import pytest
from temporalio import workflow
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from tests.workflows.world import KEYS
from tidegate.edges.temporal import ControlPlane
from tidegate.errors import Unavailable
from tidegate.messages.model import model_id

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]


@workflow.defn(name="Tongueless", sandboxed=False)
class Tongueless:
    """Stands where a model should, and cannot say how it stands."""

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.query
    def current(self) -> str:
        raise ValueError("its history does not fit its code")


async def test_a_workflow_that_cannot_say_how_it_stands_is_unavailable_by_name(
    env: WorkflowEnvironment,
) -> None:
    """A loop holds and asks again then, where it would have ended."""
    asked = "tongueless"
    async with Worker(env.client, task_queue=asked, workflows=[Tongueless]):
        handle = await env.client.start_workflow("Tongueless", id=model_id(asked), task_queue=asked)
        with pytest.raises(Unavailable, match=r"model/tongueless could not say how it stands"):
            await ControlPlane(env.client, KEYS).model(asked)
        await handle.terminate()
