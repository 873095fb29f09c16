"""Which release of the worker has the work: the newest, until an operator says otherwise."""

from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client

from tests.embedded.until import until
from tests.integration.control_plane import Stack, control_plane
from tidegate.catalogue import BudgetSpec
from tidegate.messages.catalogue import CATALOGUE_ID, Declaration
from tidegate.settings import TASK_QUEUE

pytestmark = pytest.mark.asyncio(loop_scope="function")


async def test_a_new_build_has_the_work_and_one_gone_back_to_keeps_it(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as stack:
        first = await _declared_by(stack, "one")
        await stack.start_worker(build="two")
        await until(lambda: _has(stack, "two"), 30.0)
        await _go_back(stack.plane.client, first)
        await until(lambda: _has(stack, first), 30.0)
        await stack.supervisor.stop("worker-2")
        await stack.start_worker(build="two")
        assert await _declared_by(stack, "three") == first


async def _has(stack: Stack, build: str) -> bool:
    """Declare something, and say whether a worker of this build took it up."""
    return await _declared_by(stack, f"budget-{await _version(stack)}") == build


async def _declared_by(stack: Stack, name: str) -> str:
    await stack.plane.declare(Declaration(by="ada", budgets={name: BudgetSpec()}))
    history = await stack.plane.client.get_workflow_handle(CATALOGUE_ID).fetch_history()
    done = [
        e.workflow_task_completed_event_attributes.deployment_version.build_id
        for e in history.events
        if e.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    ]
    return done[-1]


async def _version(stack: Stack) -> int:
    catalogue = await stack.plane.catalogue()
    return 0 if catalogue is None else catalogue.version


async def _go_back(client: Client, build: str) -> None:
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace, deployment_name=TASK_QUEUE, build_id=build
    )
    await client.workflow_service.set_worker_deployment_current_version(request)
