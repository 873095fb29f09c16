"""What may be asked of the workflows: one typed call for each, with a deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar, cast

from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowExecutionStatus,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError, RPCStatusCode

from tidegate.edges.temporal.proving import Proving
from tidegate.errors import Refused, Unavailable
from tidegate.messages.budget import BudgetState, Observation, budget_id
from tidegate.messages.catalogue import CATALOGUE_ID, CatalogueState, Declaration, HoldNote
from tidegate.messages.common import Act
from tidegate.messages.feature import FeatureState, HoldOrder, SignupsOrder, feature_id
from tidegate.messages.hold import HoldState, hold_id
from tidegate.messages.model import ModelState, model_id
from tidegate.messages.preview import ForgetNote
from tidegate.messages.steered import PLAN_KINDS, PlanOrder
from tidegate.messages.supply import Expected
from tidegate.messages.surge import GateMove, SurgeOrder
from tidegate.settings import TASK_QUEUE
from tidegate.signing import Keyring
from tidegate.snapshot import Signups
from tidegate.spec import Spec

_DEADLINE: Final = timedelta(seconds=5)
_ALL_WITHIN: Final = timedelta(seconds=60)
"""A hold on everything is placed on hundreds of features."""
_TASK_WITHIN: Final = timedelta(seconds=2)
"""A workflow task in the hands of a worker that was killed goes to another after this."""
_NO_WORKER: Final = "temporal: no worker answered in 5 s. Start one: python -m controllers worker."
_TRIES: Final = 5
_AGAIN_AFTER_S: Final = 0.05
T = TypeVar("T")


async def connect(address: str, namespace: str, keys: Keyring | None = None) -> "ControlPlane":
    """Connect to Temporal, to ask in the name of whoever has these keys.

    Raises Unavailable with one clear line when nobody answers.
    """
    try:
        client = await Client.connect(
            address, namespace=namespace, data_converter=pydantic_data_converter
        )
    except (RuntimeError, RPCError, OSError) as error:
        message = (
            f"temporal: no answer from {address}. "
            "Start it, or set TIDEGATE_TEMPORAL to where it is."
        )
        raise Unavailable(message, code="temporal-unavailable") from error
    return ControlPlane(client, keys)


class ControlPlane:
    """One typed call for each thing that may be asked; every call has a deadline.

    Raises Refused where a workflow's validator says no, Unavailable where Temporal or its
    workers do not answer. Without keys, workflows take it for an operator: it may pause and hold.
    """

    def __init__(self, client: Client, keys: Keyring | None = None) -> None:
        self.keys = keys
        config = client.config()
        if keys is not None:
            config["interceptors"] = [*config["interceptors"], Proving(keys)]
        self.client = Client(**config)

    async def declare(self, declaration: Declaration) -> int:
        """Add to the catalogue, and start it where it is not there yet."""
        start = partial(_start, "Catalogue", CatalogueState(), CATALOGUE_ID)
        return await self._update_with_start("declare", declaration, start, int)

    async def note_hold(self, note: HoldNote) -> None:
        """Have the catalogue know of a hold, or forget it; start it where it is not there yet."""
        start = partial(_start, "Catalogue", CatalogueState(), CATALOGUE_ID)
        await self._update_with_start("note_hold", note, start, None)

    async def forget(self, note: ForgetNote) -> None:
        """Have the catalogue know no more of a preview."""
        await self._update(CATALOGUE_ID, "forget", note, None)

    async def place_hold(self, scope: str, order: HoldOrder) -> int:
        """Hold a feature, all that a model serves, or everything; returns how many features."""
        state = HoldState(role=order.role, scope=scope)
        start = partial(_start, "Hold", state, hold_id(order.role, scope))
        return await self._update_with_start("hold", order, start, int, within=_ALL_WITHIN)

    async def release_hold(self, scope: str, order: HoldOrder) -> None:
        """Lift a role's hold from all that is in its scope."""
        hold = hold_id(order.role, scope)
        await self._update(hold, "release", order, None, within=_ALL_WITHIN)

    async def declare_model(self, name: str, spec: object) -> None:
        """Give a model its settings."""
        start = partial(_start, "Model", ModelState(name=name), model_id(name))
        await self._update_with_start("declare", spec, start, None)

    async def declare_feature(self, name: str, spec: object) -> None:
        """Give a feature its settings."""
        start = partial(_start, "Feature", FeatureState(name=name), feature_id(name))
        await self._update_with_start("declare", spec, start, None)

    async def declare_budget(self, gpu_type: str, spec: object) -> None:
        """Give a budget its settings."""
        start = partial(_start, "Budget", BudgetState(gpu_type=gpu_type), budget_id(gpu_type))
        await self._update_with_start("declare", spec, start, None)

    async def is_to_start(self, order: PlanOrder) -> bool:
        """Say whether a plan is to be started: not where it runs, or has finished, as it is.

        Raises Refused where another plan runs under its name.
        """
        status = await self._status(order.plan_id)
        is_running = status is WorkflowExecutionStatus.RUNNING
        if not is_running and status is not WorkflowExecutionStatus.COMPLETED:
            return True
        known = await self.plan(order.plan_id, type(order))
        if known is not None and known.spec == order.spec:
            return not is_running and not known.state.has_finished
        if is_running:
            message = (
                f'{order.kind} "{order.name}" is running with another plan. '
                "Abort it first, or give the new plan a name of its own."
            )
            raise Refused(message, code="plan-running")
        return True

    async def start_plan(self, order: PlanOrder, summary: str) -> bool:
        """Start a plan where it `is_to_start`; raises Refused in the same way.

        The summary says in a line what it is about, for those who look at Temporal's list.
        """
        if not await self.is_to_start(order):
            return False
        await self._start_plan(order, summary)
        return True

    async def tell_surge(self, order: SurgeOrder, move: GateMove, *, starts: bool) -> None:
        """Have a pool's surge hear of its gate; where it `starts` one, by the same call."""
        if starts:
            first: dict[str, Any] = {"start_signal": "gate_moved", "start_signal_args": [move]}
            await self._start_plan(order, f"Surge of {order.name}", **first)
            return
        handle = self.client.get_workflow_handle(order.plan_id)
        try:
            await handle.signal("gate_moved", move, rpc_timeout=_DEADLINE)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise _unavailable(error) from error

    async def _start_plan(self, order: PlanOrder, summary: str, **first: Any) -> None:  # noqa: ANN401 - Temporal's own
        try:
            await self.client.start_workflow(
                order.workflow,
                order,
                id=order.plan_id,
                task_queue=TASK_QUEUE,
                task_timeout=_TASK_WITHIN,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                rpc_timeout=_DEADLINE,
                static_summary=summary,
                **first,
            )
        except RPCError as error:
            raise _unavailable(error) from error

    async def plan(self, plan: str, kind: type[T]) -> T | None:
        """Return a plan's order by its workflow id, its state in it; None where there is none."""
        return await self._query(plan, "current", kind)

    async def _status(self, workflow_id: str) -> WorkflowExecutionStatus | None:
        handle = self.client.get_workflow_handle(workflow_id)
        try:
            return (await handle.describe(rpc_timeout=_DEADLINE)).status
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise _unavailable(error) from error

    async def steer(self, plan: str, verb: str, order: Act | Spec) -> None:
        """Have a plan, by its workflow id, do what people may tell it, such as pause or approve."""
        await self._update(plan, verb, order, None)

    async def look_again(self, hold: str) -> None:
        """Have a hold or a code red take in what was declared since; nothing where it is over."""
        with suppress(Refused):
            await self._update(hold, "look_again", None, int)

    async def running_plans(self, name: str) -> list[str]:
        """Return the workflow ids of the plans of this name that run, whatever their kind."""
        ids = [f"{kind}/{name}" for kind in PLAN_KINDS]
        return [each for each in ids if await self.is_running(each)]

    async def is_running(self, plan: str) -> bool:
        """Say whether a plan runs, by its workflow id."""
        return await self._status(plan) is WorkflowExecutionStatus.RUNNING

    async def ask_model(self, name: str, verb: str, message: object) -> None:
        """Have a model do something, and start it where it is not there yet."""
        start = partial(_start, "Model", ModelState(name=name), model_id(name))
        await self._update_with_start(verb, message, start, None)

    async def ask_feature(self, name: str, verb: str, message: object) -> dict[str, float] | None:
        """Have a feature do something."""
        found = await self._update(feature_id(name), verb, message, dict[str, float])
        return cast("dict[str, float] | None", found)

    async def set_signups(self, name: str, order: SignupsOrder) -> Signups:
        """Suspend or reopen a feature's sign-ups; returns how they stand then."""
        return cast("Signups", await self._update(feature_id(name), "set_signups", order, Signups))

    async def expect(self, gpu_type: str, expected: Expected) -> None:
        """Have a budget count on GPUs that are on their way, and start it where it is not there."""
        start = partial(_start, "Budget", BudgetState(gpu_type=gpu_type), budget_id(gpu_type))
        await self._update_with_start("expect", expected, start, None)

    async def ask_budget(
        self, gpu_type: str, verb: str, message: object, answer: type[T] | None
    ) -> T:
        """Have a budget do something."""
        return cast("T", await self._update(budget_id(gpu_type), verb, message, answer))

    async def observe(self, gpu_type: str, seen: Observation) -> None:
        """Tell a budget what was seen; a budget that nobody declared is told nothing."""
        handle = self.client.get_workflow_handle(budget_id(gpu_type))
        try:
            await handle.signal("observe", seen, rpc_timeout=_DEADLINE)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise _unavailable(error) from error

    async def catalogue(self) -> CatalogueState | None:
        """Return everything declared; None before the first declaration."""
        return await self._query(CATALOGUE_ID, "current", CatalogueState)

    async def model(self, name: str) -> ModelState | None:
        """Return a model; None where there is none."""
        return await self._query(model_id(name), "current", ModelState)

    async def feature(self, name: str) -> FeatureState | None:
        """Return a feature; None where there is none."""
        return await self._query(feature_id(name), "current", FeatureState)

    async def budget(self, gpu_type: str) -> BudgetState | None:
        """Return a budget; None where there is none."""
        return await self._query(budget_id(gpu_type), "current", BudgetState)

    async def _query(self, workflow_id: str, query: str, answer: type[T]) -> T | None:
        handle = self.client.get_workflow_handle(workflow_id)
        try:
            found = await handle.query(query, result_type=answer, rpc_timeout=_DEADLINE)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise _unavailable(error) from error
        except WorkflowQueryFailedError as error:
            message = (
                f"temporal: {workflow_id} could not say how it stands ({error}). "
                "Look at its last workflow task in the Temporal UI."
            )
            raise Unavailable(message, code="temporal-unavailable") from error
        return cast("T", found)

    async def _update(
        self,
        workflow_id: str,
        update: str,
        message: object,
        answer: type | None,
        *,
        within: timedelta = _DEADLINE,
    ) -> object:
        handle = self.client.get_workflow_handle(workflow_id)

        async def ask() -> object:
            return await handle.execute_update(
                update,
                args=[] if message is None else [message],
                result_type=answer,
                rpc_timeout=within,
            )

        return await _answered(ask, workflow_id)

    async def _update_with_start(
        self,
        update: str,
        message: object,
        start: Callable[[], WithStartWorkflowOperation[Any, Any]],
        answer: type[T] | None,
        *,
        within: timedelta = _DEADLINE,
    ) -> T:
        async def ask() -> object:
            return await self.client.execute_update_with_start_workflow(
                update,
                message,
                start_workflow_operation=start(),
                result_type=answer,
                rpc_timeout=within,
            )

        return cast("T", await _answered(ask, update))


async def _answered(ask: Callable[[], Awaitable[object]], asked: str) -> object:
    """Return an update's answer; raises our errors, and asks again where nothing was done.

    A run that ends as a signal arrives throws its last task away, and with it the updates that
    the task had in hand; the next run takes them.
    """
    tries = 0
    while True:
        tries += 1
        try:
            return await ask()
        except WorkflowUpdateFailedError as error:
            raise Refused(_cause(error), code="refused") from error
        except WorkflowUpdateRPCTimeoutOrCancelledError as error:
            raise Unavailable(_NO_WORKER, code="temporal-unavailable") from error
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                text = f"{asked}: no such workflow is running. Apply its manifest first."
                raise Refused(text, code="not-found") from error
            if error.status is not RPCStatusCode.FAILED_PRECONDITION or tries == _TRIES:
                raise _unavailable(error) from error
        await asyncio.sleep(_AGAIN_AFTER_S)


def _start(
    workflow_type: str, state: object, workflow_id: str
) -> WithStartWorkflowOperation[Any, Any]:
    return WithStartWorkflowOperation(
        workflow_type,
        state,
        id=workflow_id,
        task_queue=TASK_QUEUE,
        task_timeout=_TASK_WITHIN,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
    )


def _cause(error: WorkflowUpdateFailedError) -> str:
    return getattr(error.cause, "message", None) or str(error.cause)


def _unavailable(error: RPCError) -> Unavailable:
    message = (
        f"temporal: {(error.message or error.status.name.lower()).rstrip('.')}. "
        "Check that Temporal and a worker are running."
    )
    return Unavailable(message, code="temporal-unavailable")
