"""A workflow's events: numbered in its state, delivered in order, kept until recorded."""

from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from tidegate.events import Event
    from tidegate.messages.common import News, OutboxState
    from workflows.acts import act
    from workflows.visibility import Visible

_BATCH: Final = 100
_BURST: Final = timedelta(seconds=1)


class Outbox:
    """Tells what happened; one activity carries all that was told since the last."""

    def __init__(self, state: OutboxState) -> None:
        info = workflow.info()
        self._state = state
        self._told_at = datetime.fromtimestamp(0.0, UTC)
        self.visible = Visible()
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
            await workflow.wait_condition(self._has_news)
            self.visible.write()
            if not self._state.waiting:
                continue
            batch = self._state.waiting[:_BATCH]
            is_burst = workflow.now() - self._told_at < _BURST
            news = News(events=tuple(batch), is_burst=is_burst)
            await act("announce", news, summary=f"tell {len(batch)}: {batch[-1].type}")
            self._told_at = workflow.now()
            del self._state.waiting[: len(batch)]

    def _has_news(self) -> bool:
        return bool(self._state.waiting) or self.visible.is_behind

    async def delivered(self) -> None:
        """Wait until everything told has been recorded, and everything shown is to be seen."""
        await workflow.wait_condition(lambda: not self._has_news())
