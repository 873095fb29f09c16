"""Looking at who asks: an update without a good proof changes nothing that matters."""

from typing import Any, Final

from temporalio import workflow
from temporalio.worker import (
    HandleUpdateInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

with workflow.unsafe.imports_passed_through():
    from collections.abc import Callable

    from tidegate.messages.common import Act
    from tidegate.proofs import HEADER, OPERATOR, Asked
    from workflows.refusal import refuse

_FIND_FLAW: Final = "tidegate_find_flaw"
OPEN_TO_OPERATORS: Final = frozenset({"pause", "hold"})
"""What may be typed straight into Temporal: it only ever stops."""


class ProofsOfUpdates(Interceptor):
    """Has every workflow look at the proofs of its updates; `find_flaw` knows keys and clock.

    It is called by validators alone, which no replay calls again, so that the keys may change.
    """

    def __init__(self, find_flaw: "Callable[[str, Asked], str | None]") -> None:
        self._find_flaw = find_flaw

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002 - Temporal's own
    ) -> type[WorkflowInboundInterceptor]:
        """Stand before each workflow."""
        input.unsafe_extern_functions[_FIND_FLAW] = self._find_flaw
        return _ProofsOfUpdates


class _ProofsOfUpdates(WorkflowInboundInterceptor):
    def handle_update_validator(self, input: HandleUpdateInput) -> None:  # noqa: A002 - Temporal's own
        proof = input.headers.get(HEADER)
        if proof is None:
            if input.update not in OPEN_TO_OPERATORS:
                message = (
                    f"{input.update}: nobody signed for it. What is typed straight into Temporal "
                    "may pause and hold; for all else use tidegate, with the worker's keys "
                    "(TIDEGATE_KEYS)."
                )
                raise refuse(message)
            _make_operators(input)
        else:
            workflow_id = workflow.info().workflow_id
            asked = Asked.of(workflow_id, input.update, input.id, input.args)
            flaw = workflow.extern_functions()[_FIND_FLAW](proof.data.decode(), asked)
            if flaw is not None:
                message = (
                    f"{input.update}: got a proof that is not to be believed: {flaw}. "
                    "Use the keys that the worker has (TIDEGATE_KEYS)."
                )
                raise refuse(message)
        super().handle_update_validator(input)

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:  # noqa: A002, ANN401 - Temporal's own
        if HEADER not in input.headers:
            _make_operators(input)
        return await super().handle_update_handler(input)


def _make_operators(given: HandleUpdateInput) -> None:
    """Have what nobody proved be by the operator, whoever it names."""
    given.args = [
        each.model_copy(update={"by": OPERATOR}) if isinstance(each, Act) else each
        for each in given.args
    ]
