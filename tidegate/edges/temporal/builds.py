"""Which release of the workflow code Temporal gives work to."""

from datetime import timedelta
from typing import Final

from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from tidegate.errors import Unavailable
from tidegate.settings import TASK_QUEUE

_DEADLINE: Final = timedelta(seconds=10)


async def welcome(client: Client, build: str) -> bool:
    """Make a build the current one that this namespace has not seen yet; returns whether it did.

    From then on it is for operators to say which build is current: one that they went back from
    does not come forward again when its workers restart. Raises Unavailable.
    """
    try:
        if build in await _seen(client):
            return False
        # Its workers do not poll yet: nobody is to wait for the first of them twice.
        request = SetWorkerDeploymentCurrentVersionRequest(
            namespace=client.namespace,
            deployment_name=TASK_QUEUE,
            build_id=build,
            identity=client.identity,
            allow_no_pollers=True,
            ignore_missing_task_queues=True,
        )
        await client.workflow_service.set_worker_deployment_current_version(
            request, timeout=_DEADLINE
        )
    except RPCError as error:
        message = (
            f"temporal: build {build} could not be made the current one ({error.message}). "
            "Check that Temporal is running, and lets workers be versioned."
        )
        raise Unavailable(message, code="temporal-unavailable") from error
    return True


async def _seen(client: Client) -> set[str]:
    request = DescribeWorkerDeploymentRequest(
        namespace=client.namespace, deployment_name=TASK_QUEUE
    )
    try:
        found = await client.workflow_service.describe_worker_deployment(request, timeout=_DEADLINE)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return set()
        raise
    summaries = found.worker_deployment_info.version_summaries
    return {summary.deployment_version.build_id for summary in summaries}
