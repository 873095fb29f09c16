"""The worker: hosts the workflows, and the acts that they ask for."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, Worker, WorkerDeploymentConfig
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.announce import LINGER_S, Announce
from activities.expose import AskFeature
from activities.freeze import Freeze
from activities.holding import Holding
from activities.measure import Measure
from activities.preview import Previewing
from activities.reserve import Reserve
from activities.retire import Retire, Weigh
from activities.surge import Surging
from tidegate.edges.preview_keys import PreviewKeys
from tidegate.edges.prometheus import Prometheus
from tidegate.edges.redis import Redis
from tidegate.edges.temporal import ControlPlane
from tidegate.proofs import find_flaw
from tidegate.settings import TASK_QUEUE
from tidegate.signing import Keyring
from workflows.budget import Budget
from workflows.catalogue import Catalogue
from workflows.code_red import CodeRed
from workflows.feature import Feature
from workflows.hold import Hold
from workflows.model import Model
from workflows.preview import Preview
from workflows.proofs import ProofsOfUpdates
from workflows.retirement import Retirement
from workflows.rollout import Rollout
from workflows.supply import Supply
from workflows.surge import Surge

WORKFLOWS: Final = (
    Budget,
    Catalogue,
    CodeRed,
    Feature,
    Hold,
    Model,
    Preview,
    Retirement,
    Rollout,
    Supply,
    Surge,
)

CACHED_WORKFLOWS: Final = 500
"""How many workflows a worker holds ready; others are played again when they are asked."""

_STICKY: Final = timedelta(seconds=1)
"""What a killed worker had in its cache is given to another after this."""

_SANDBOX: Final = SandboxedWorkflowRunner(
    restrictions=SandboxRestrictions.default.with_passthrough_modules("tidegate", "pydantic")
)


def proofs_by(keys: Keyring | None) -> ProofsOfUpdates:
    """Have updates believed that are signed with one of these keys, by this machine's clock."""
    return ProofsOfUpdates(lambda token, asked: find_flaw(keys, token, asked, time.time()))


def replayer() -> Replayer:
    """Build what plays histories again on the workflows as they are."""
    return Replayer(
        workflows=list(WORKFLOWS),
        data_converter=pydantic_data_converter,
        workflow_runner=_SANDBOX,
        interceptors=[proofs_by(None)],  # a replay asks no validator
    )


def acts_on(plane: ControlPlane, previews: PreviewKeys) -> list[Callable[..., Any]]:
    """Return the activities that ask workflows for something, and no server else."""
    holding, reserve, freeze = Holding(plane), Reserve(plane), Freeze(plane)
    retire, preview, surging = Retire(plane), Previewing(plane, previews), Surging(plane)
    return [
        AskFeature(plane).ask_feature,
        holding.find_features,
        holding.note_hold,
        freeze.find_side_projects,
        freeze.freeze,
        reserve.reserve,
        reserve.spend,
        reserve.lend,
        reserve.give_back,
        retire.ask_model,
        retire.look_at_pools,
        preview.make_preview_key,
        preview.become_a_rollout,
        preview.is_over,
        preview.forget_preview,
        surging.find_served,
        surging.steer_signups,
        reserve.release,
        reserve.expect,
    ]


def make_worker(
    plane: ControlPlane,
    redis: Redis,
    previews: PreviewKeys,
    *,
    linger_s: float = LINGER_S,
    build: str | None = None,
    measure: Measure | None = None,
) -> Worker:
    """Build a worker for every workflow and activity; run it with `async with`.

    Workflows that tell much in a short time tell it all at once, every `linger_s` seconds.
    Updates are believed that are signed with the keys that it has itself. A worker of a `build` is
    given work while that is the current one; without one, always.
    """
    return Worker(
        plane.client,
        task_queue=TASK_QUEUE,
        workflows=list(WORKFLOWS),
        activities=[
            Announce(redis, linger_s=linger_s).announce,
            (measure or Measure(redis, Prometheus(None))).measure,
            Weigh(redis).weigh_use,
            *acts_on(plane, previews),
        ],
        workflow_runner=_SANDBOX,
        interceptors=[proofs_by(plane.keys)],
        deployment_config=None if build is None else _deployment(build),
        max_cached_workflows=CACHED_WORKFLOWS,
        sticky_queue_schedule_to_start_timeout=_STICKY,
        graceful_shutdown_timeout=timedelta(seconds=2),
    )


def _deployment(build: str) -> WorkerDeploymentConfig:
    """Have workflows go on by the current build, whichever began them: they live for months."""
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(deployment_name=TASK_QUEUE, build_id=build),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.AUTO_UPGRADE,
    )
