"""Committed histories replay on the workflows as they are; a breaking change does not."""

import json
import re
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from controllers.worker import WORKFLOWS, replayer
from tests.house.checkout import ROOT
from tests.workflows.record_histories import FOLDER, STORIES
from tidegate.messages.rollout import RolloutOrder, RolloutState
from workflows.rollout import Rollout

HISTORIES = sorted(FOLDER.glob("*.json"))


def read_history(path: Path) -> WorkflowHistory:
    recorded = json.loads(path.read_text(encoding="utf-8"))
    return WorkflowHistory.from_json(recorded["workflow_id"], recorded["history"])


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_a_committed_history_replays(path: Path) -> None:
    await replayer().replay_workflow(read_history(path))


def test_every_story_has_its_histories() -> None:
    names = {p.name for p in HISTORIES}
    kinds = ("rollout", "feature", "budget")
    assert names >= {f"{s}.{k}.json" for s in STORIES for k in kinds}
    assert {name.split(".")[0] for name in names} == set(STORIES)


def test_every_workflow_has_a_history() -> None:
    told = {path.name.split(".")[1].replace("-", "") for path in HISTORIES}
    assert told == {kind.__name__.lower() for kind in WORKFLOWS}


def test_no_history_names_a_machine() -> None:
    for path in HISTORIES:
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r'"identity": "([^"]*)"', text)) <= {"worker"}, path
        assert not re.search(r'"[0-9]+@', text), path
        assert str(Path.home()) not in text
        assert str(ROOT) not in text


@workflow.defn(name="Rollout", sandboxed=False)
class HastyRollout(Rollout):
    """A breaking change: it no longer waits for anything before it finishes."""

    @workflow.init
    def __init__(self, order: RolloutOrder) -> None:
        super().__init__(order)

    @workflow.run
    async def run(self, _: RolloutOrder) -> RolloutState:
        self.finish()
        return self.state


async def test_a_breaking_change_is_caught() -> None:
    replayer = Replayer(workflows=[HastyRollout], data_converter=pydantic_data_converter)
    with pytest.raises(workflow.NondeterminismError):
        await replayer.replay_workflow(read_history(FOLDER / "waits-for-gpus.rollout.json"))
