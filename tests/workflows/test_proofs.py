"""Who asks is proven: what nobody signed for may only stop, and is the operator's."""

import time
import uuid
from dataclasses import replace
from typing import Any, Final

import pytest
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import (
    Client,
    Interceptor,
    OutboundInterceptor,
    StartWorkflowUpdateInput,
    WorkflowUpdateHandle,
)

from controllers.worker import WORKFLOWS
from tests.workflows.story import Given, Stage, Story, Then, When
from tests.workflows.world import KEYS
from tidegate.edges.temporal import ControlPlane
from tidegate.errors import Refused
from tidegate.messages.common import Act
from tidegate.messages.feature import HoldOrder
from tidegate.messages.rollout import Approval, rollout_id
from tidegate.proofs import GOOD_FOR_S, HEADER, OPERATOR, Asked, find_flaw, prove
from tidegate.signing import Key, Keyring

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]

APPROVAL: Final = Approval(by="ann", stage="pro", role="launch")
ASKED: Final = Asked("rollout/x", "approve", "7", "ann", "launch")
OTHERS: Final = Keyring((Key("test", b"o" * 32),))


class _Showing(Interceptor):
    """Sends an update with a proof that was made for another."""

    def __init__(self, proof: str, update_id: str) -> None:
        self.proof = proof
        self.update_id = update_id

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:  # noqa: A002 - Temporal's own
        return _ShowingOne(next, self)


class _ShowingOne(OutboundInterceptor):
    def __init__(self, following: OutboundInterceptor, shown: _Showing) -> None:
        super().__init__(following)
        self.shown = shown

    async def start_workflow_update(
        self,
        input: StartWorkflowUpdateInput,  # noqa: A002 - Temporal's own
    ) -> WorkflowUpdateHandle[Any]:
        input.update_id = self.shown.update_id
        input.headers = {HEADER: Payload(data=self.shown.proof.encode())}
        return await super().start_workflow_update(input)


def _with(client: Client, interceptor: Interceptor) -> Client:
    config = client.config()
    config["interceptors"] = [interceptor]
    return Client(**config)


@pytest.fixture
def unsigned(story: Story) -> ControlPlane:
    """What somebody is who types straight into Temporal."""
    return ControlPlane(story.client)


async def test_an_unsigned_pause_is_taken_and_is_the_operators(
    story: Story, given: Given, then: Then, unsigned: ControlPlane
) -> None:
    await given.rollout([Stage("pro", starts_in="1h")])
    await unsigned.steer(rollout_id(story.rollout), "pause", Act(by="ann", reason="an alarm"))
    event = await then.told("plan.paused")
    assert event.data["by"] == OPERATOR
    paused = (await story.state()).paused
    assert paused is not None
    assert paused.by == OPERATOR


async def test_an_unsigned_hold_is_taken_and_only_its_role_releases_it_signed(
    story: Story, given: Given, when: When, then: Then, unsigned: ControlPlane
) -> None:
    await given.rollout([Stage("pro", starts_in="1h")])
    await unsigned.steer(
        rollout_id(story.rollout), "hold", HoldOrder(by="x", role="legal", reason="a letter")
    )
    assert (await then.told("plan.held")).data["by"] == OPERATOR
    with pytest.raises(Refused, match="release: nobody signed for it"):
        await unsigned.steer(rollout_id(story.rollout), "release", HoldOrder(by="x", role="legal"))
    await when.released(role="legal")
    await when.passes("2h")
    await then.exposure_is("pro", "100%")


async def test_unsigned_nobody_approves_releases_resumes_or_exposes(
    story: Story, given: Given, unsigned: ControlPlane
) -> None:
    await given.rollout([Stage("pro", starts_in="1h", approval="launch")])
    asked = Approval(by="ann", stage="pro", role="launch")
    with pytest.raises(Refused, match="approve: nobody signed for it"):
        await unsigned.steer(rollout_id(story.rollout), "approve", asked)
    for verb in ("resume", "abort", "promote"):
        with pytest.raises(Refused, match=f"{verb}: nobody signed for it"):
            await unsigned.steer(rollout_id(story.rollout), verb, Act(by="ann", reason="because"))
    with pytest.raises(Refused, match="declare: nobody signed for it"):
        await unsigned.declare_budget(story.gpu_type, {})


@pytest.mark.parametrize(
    ("proven", "flaw"),
    [
        ({"workflow": "rollout/another"}, 'signed for the workflow "rollout/another"'),
        ({"update": "pause"}, 'signed for the update "pause"'),
        ({"update_id": "8"}, 'signed for the update_id "8"'),
        ({"by": "eve"}, 'signed for the by "eve"'),
        ({"role": "legal"}, 'signed for the role "legal"'),
    ],
)
async def test_a_proof_of_something_else_proves_nothing(
    story: Story, given: Given, proven: dict[str, str], flaw: str
) -> None:
    await given.rollout([Stage("pro", starts_in="1h", approval="launch")])
    meant = replace(ASKED, workflow=rollout_id(story.rollout), update_id=uuid.uuid4().hex)
    shown = _Showing(prove(KEYS, replace(meant, **proven), time.time()), meant.update_id)
    plane = ControlPlane(_with(story.client, shown))
    with pytest.raises(Refused, match=flaw):
        await plane.steer(
            rollout_id(story.rollout), "approve", Approval(by="ann", stage="pro", role="launch")
        )


async def test_a_proof_by_other_keys_proves_nothing(story: Story, given: Given) -> None:
    await given.rollout([Stage("pro", starts_in="1h", approval="launch")])
    plane = ControlPlane(story.client, OTHERS)
    with pytest.raises(Refused, match="not to be believed"):
        await plane.steer(
            rollout_id(story.rollout), "approve", Approval(by="ann", stage="pro", role="launch")
        )


async def test_a_proof_is_good_for_a_few_minutes_either_way() -> None:
    token = prove(KEYS, ASKED, 1_000_000.0)
    assert find_flaw(KEYS, token, ASKED, 1_000_000.0 + GOOD_FOR_S) is None
    for now in (1_000_000.0 + GOOD_FOR_S + 1.0, 1_000_000.0 - GOOD_FOR_S - 1.0, float("nan")):
        assert "more than 300 s ago" in str(find_flaw(KEYS, token, ASKED, now))
    assert "no keys here" in str(find_flaw(None, token, ASKED, 1_000_000.0))


async def test_every_update_has_a_validator_as_proofs_are_looked_at_by_validators_alone() -> None:
    unguarded = [
        f"{kind.__name__}.{name}"
        for kind in WORKFLOWS
        for name, update in workflow._Definition.must_from_class(kind).updates.items()
        if update.validator is None
    ]
    assert unguarded == []
