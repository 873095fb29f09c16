"""When a workflow's history says that it is at rest."""

from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from controllers.worker import make_worker
from rehearsal.quiet import Quiet, is_acting
from tests.rehearsal.skipped_time import servers
from tidegate.catalogue import TierSpec
from tidegate.edges.preview_keys import PreviewKeys
from tidegate.errors import Broken
from tidegate.messages.catalogue import CATALOGUE_ID, Declaration

STARTED = "workflow_execution_started"
SCHEDULED = "workflow_task_scheduled"
RUNS = "workflow_task_started"
DONE = "workflow_task_completed"
SENDS = "signal_external_workflow_execution_initiated"
SENT = "external_workflow_execution_signaled"
NOBODY_THERE = "signal_external_workflow_execution_failed"
TIMER = "timer_started"
FIRED = "timer_fired"
ENDED = "workflow_execution_completed"


def history(*kinds: str) -> list[HistoryEvent]:
    events = []
    for number, kind in enumerate(kinds, start=1):
        event_type = EventType.Value(f"EVENT_TYPE_{kind.upper()}")
        event = HistoryEvent(event_id=number, event_type=event_type)
        getattr(event, f"{kind}_event_attributes").SetInParent()
        events.append(event)
    return events


@pytest.mark.parametrize(
    "kinds",
    [
        (STARTED, SCHEDULED),
        (STARTED, SCHEDULED, RUNS),
        (STARTED, SCHEDULED, RUNS, DONE, TIMER, FIRED, SCHEDULED),
        (STARTED, SCHEDULED, RUNS, DONE, SENDS),
        (STARTED, SCHEDULED, RUNS, DONE, SENDS, SENDS, SENT),
    ],
)
def test_a_task_or_a_signal_on_its_way_is_no_rest(kinds: tuple[str, ...]) -> None:
    assert is_acting(history(*kinds))


@pytest.mark.parametrize(
    "kinds",
    [
        (STARTED, SCHEDULED, RUNS, DONE),
        (STARTED, SCHEDULED, RUNS, DONE, TIMER),
        (STARTED, SCHEDULED, RUNS, DONE, SENDS, SENT),
        (STARTED, SCHEDULED, RUNS, DONE, SENDS, NOBODY_THERE),
        (STARTED, SCHEDULED, RUNS, DONE, ENDED),
    ],
)
def test_waiting_for_time_or_for_people_is_rest(kinds: tuple[str, ...]) -> None:
    assert not is_acting(history(*kinds))


@pytest.mark.workflows
async def test_who_does_not_come_to_rest_is_named(tmp_path: Path) -> None:
    async def nobody_records() -> None:
        pass

    keys = PreviewKeys(tmp_path)
    async with servers(tmp_path) as started, make_worker(started.plane, started.redis, keys):
        await started.plane.declare(Declaration(by="ada", tiers={"pro": TierSpec(rank=0)}))
        quiet = Quiet(started.plane, nobody_records, within_s=0.5)
        with pytest.raises(Broken, match=r"catalogue: not at rest after 0\.5 s"):
            await quiet.until([CATALOGUE_ID])
