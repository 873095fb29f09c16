"""A workflow's events: numbered in its state, delivered in order, kept until recorded."""

from typing import Final

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from tidegate.events import Event
    from tidegate.messages.common import OutboxState
    from workflows.acts import act

_BATCH: Final = 100


class Outbox:
    """Tells what happened; one activity carries all that was told since the last."""

    def __init__(self, state: OutboxState) -> None:
        info = workflow.info()
        self._state = state
        # The first run's id keeps two lives of the same workflow id apart for ever.
        self._source = f"/{info.workflow_id}/{info.first_execution_run_id[:8]}"

    def tell(self, event_type: str, *, subject: str, **data: str | float | bool | None) -> None:
        """Add an event; it is part of the state before anything else can happen."""
        self._state.sequence += 1
        self._state.waiting.append(
            Event(
                source=self._source,
                sequence=self._state.sequence,
                type=event_type,
                at=workflow.now(),
                subject=subject,
                data=data,
            )
        )

    async def deliver(self) -> None:
        """Deliver for ever; cancel it to stop, what was not acknowledged stays in the state."""
        while True:
            await workflow.wait_condition(lambda: bool(self._state.waiting))
            batch = self._state.waiting[:_BATCH]
            await act("announce", batch, summary=f"tell {len(batch)}: {batch[-1].type}")
            del self._state.waiting[: len(batch)]

    async def delivered(self) -> None:
        """Wait until everything told has been recorded."""
        await workflow.wait_condition(lambda: not self._state.waiting)
