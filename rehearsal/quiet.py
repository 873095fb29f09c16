"""When workflows are quiet: nothing is left to do for them until time moves or somebody speaks."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from tidegate.edges.temporal import ControlPlane
from tidegate.errors import Broken

WITHIN_S: Final = 15.0
_LOOK_EVERY_S: Final = 0.004
_DEADLINE: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class _Seen:
    """One workflow at one look."""

    run_id: str
    history_length: int
    is_acting: bool


class Quiet:
    """Waits for workflows to come to rest; real seconds, while the story's time stands still."""

    def __init__(
        self,
        plane: ControlPlane,
        pump: Callable[[], Awaitable[object]],
        *,
        within_s: float = WITHIN_S,
    ) -> None:
        """`pump` is called between looks, and does what workflows wait for in real time."""
        self._client = plane.client
        self._within_s = within_s
        self._pump = pump
        self._at_rest: dict[str, _Seen] = {}

    async def until(self, workflow_ids: Iterable[str]) -> None:
        """Return once no task or act is under way and no signal between them is in flight.

        Every look that finds something new is repeated: a sender is at rest only when its signal
        has been taken, so that two equal looks at rest leave nothing in between. Raises Broken
        that names who did not come to rest in time.
        """
        ids = tuple(workflow_ids)
        deadline_at = asyncio.get_running_loop().time() + self._within_s
        while True:
            await self._pump()
            before = self._at_rest
            busy = await self._look(ids)
            if not busy and all(self._at_rest[each] == before.get(each) for each in ids):
                return
            if asyncio.get_running_loop().time() >= deadline_at:
                who = ", ".join(busy) or "workflows"
                message = f"{who}: not at rest after {self._within_s:g} s. Look at its history."
                raise Broken(message, code="never-quiet")
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _look(self, ids: Sequence[str]) -> list[str]:
        """Remember who is at rest, and return who is not."""
        seen = dict(zip(ids, await asyncio.gather(*map(self._see, ids)), strict=True))
        self._at_rest = {each: one for each, one in seen.items() if not one.is_acting}
        return [each for each, one in seen.items() if one.is_acting]

    async def _see(self, workflow_id: str) -> _Seen:
        handle = self._client.get_workflow_handle(workflow_id)
        found = await handle.describe(rpc_timeout=_DEADLINE)
        run_id = found.run_id
        length = found.history_length or 0
        if found.raw_description.pending_activities:
            return _Seen(run_id, length, is_acting=True)
        resting = _Seen(run_id, length, is_acting=False)
        if self._at_rest.get(workflow_id) == resting:
            return resting
        history = await self._client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history(
            rpc_timeout=_DEADLINE
        )
        return _Seen(run_id, len(history.events), is_acting=is_acting(history.events))


def is_acting(events: Sequence[Any]) -> bool:
    """Say whether a history ends in the middle of something other than waiting.

    True while a workflow task is scheduled or runs, and while a signal to another workflow has
    not been taken yet. `events` are the protocol's history events.
    """
    has_task = False
    sent = 0
    for event in events:
        match event.WhichOneof("attributes"):
            case (
                "workflow_task_scheduled_event_attributes"
                | "workflow_task_started_event_attributes"
            ):
                has_task = True
            case (
                "workflow_task_completed_event_attributes"
                | "workflow_execution_completed_event_attributes"
            ):
                has_task = False
            case "signal_external_workflow_execution_initiated_event_attributes":
                sent += 1
            case (
                "external_workflow_execution_signaled_event_attributes"
                | "signal_external_workflow_execution_failed_event_attributes"
            ):
                sent -= 1
            case _:
                pass
    return has_task or sent > 0
