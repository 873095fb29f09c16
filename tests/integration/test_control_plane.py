"""What a person types, against a real Temporal and a real worker, in processes of their own."""

import time
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from embedded.ports import LOOPBACK, free_ports
from tests.embedded.until import until
from tests.gateway.running import running_gateway, version_now
from tests.integration.control_plane import Stack, control_plane
from tests.tidegate.snapshots import gate
from tidegate.edges.redis import Redis
from tidegate.manifests import Manifests
from tidegate.messages.budget import Observation
from tidegate.messages.rollout import RolloutOrder, rollout_id
from tidegate.messages.steered import Waits
from tidegate.settings import variable

pytestmark = pytest.mark.asyncio(loop_scope="module")

GPUS: Final = Observation(installed_gpus=16, ready_gpus={"image": 16}, needed_gpus={})

HOUSE: Final = """
apiVersion: tidegate.dev/v1
kind: Tier
metadata: {name: pro}
spec: {rank: 0, gated: false}
---
apiVersion: tidegate.dev/v1
kind: Tier
metadata: {name: free}
spec: {rank: 1}
---
apiVersion: tidegate.dev/v1
kind: Model
metadata: {name: image-2}
spec: {}
---
apiVersion: tidegate.dev/v1
kind: Budget
metadata: {name: local}
spec: {}
---
apiVersion: tidegate.dev/v1
kind: Pool
metadata: {name: image}
spec:
  model: image-2
  gpuType: local
  maxReplicas: 64
  capacityRps: 8.0
  queueWaitTarget: 1s
  coldStart: {p50: 2s, p90: 4s}
  readingLimit: 5s
  actuationLag: 1s
  scaleDownWindow: 20s
"""

FIVE_MISTAKES: Final = """
apiVersion: tidegate.dev/v1
kind: Tier
metadata: {name: team}
spec: {rank: -1}
---
apiVersion: tidegate.dev/v1
kind: Rollout
metadata: {name: mistaken}
spec:
  feature: imagine
  stages:
    - {name: pro, tiers: [pro], exposure: 120%, bake: 30 minutes}
"""


def launch(name: str, *stages: str) -> str:
    """Write a feature and its rollout, both of this name."""
    listed = "\n".join(f"    - {{{stage}}}" for stage in stages)
    return f"""
apiVersion: tidegate.dev/v1
kind: Feature
metadata: {{name: {name}}}
spec: {{pool: image}}
---
apiVersion: tidegate.dev/v1
kind: Rollout
metadata: {{name: {name}}}
spec:
  feature: {name}
  owner: ada
  stages:
{listed}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with control_plane(tmp_path_factory.mktemp("control-plane")) as stack:
        code, said = await stack.applies(HOUSE)
        assert code == 0, said
        yield stack


async def test_a_plan_is_applied_shown_approved_and_opens(stack: Stack) -> None:
    plan = launch("draw", "name: first, tiers: [pro], approval: product, bake: 1h")
    code, said = await stack.applies(plan)
    assert code == 0, said
    assert said.splitlines()[0] == "feature/draw applied"
    assert said.splitlines()[-1] == "rollout/draw started"
    assert (await stack.applies(plan))[1].endswith("rollout/draw is there already, unchanged")

    code, said = await stack.types("status", "draw")
    assert code == 0
    assert "rollout/draw  running, waits for approval" in said
    assert "feature/draw  exposed to nobody" in said

    code, said = await stack.types("approve", "draw", "first", "--role", "product")
    assert (code, said) == (0, "draw: first is approved")

    async def is_open() -> bool:
        return "feature/draw  exposed to pro 100%" in (await stack.types("status"))[1]

    await until(is_open, within_s=10.0)


async def test_what_makes_no_sense_is_refused_with_exit_3_and_writes_no_history(
    stack: Stack,
) -> None:
    stage = "name: first, tiers: [pro], approval: product, bake: 1h"
    assert (await stack.applies(launch("refused", stage)))[0] == 0
    await until(lambda: _waits_for(stack, "refused", Waits.APPROVAL), within_s=10.0)
    handle = stack.plane.client.get_workflow_handle(rollout_id("refused"))
    await until(lambda: _is_at_rest(stack, "refused"), within_s=10.0)
    before = (await handle.describe()).history_length
    role = ["--role", "legal"]
    assert await stack.types("approve", "refused", "first", *role) == (
        3,
        'stage "first": product approves it, not legal.',
    )
    assert await stack.types("approve", "refused", "last", *role) == (
        3,
        'rollout/refused: no stage "last". It has first.',
    )
    code, said = await stack.types("resume", "refused")
    assert (code, said.split(": ")[0]) == (3, "rollout/refused")
    code, said = await stack.types("release", "refused", *role)
    assert (code, said) == (
        3,
        "rollout/refused: nobody holds it, so there is nothing to release.",
    )
    assert (await handle.describe()).history_length == before
    unknown = 'plan "unheard-of": none of this name is running. Apply its manifest first.'
    assert await stack.types("pause", "unheard-of") == (3, unknown)
    code, said = await stack.types("status", "unheard-of")
    assert code == 3
    assert said.startswith('rollout "unheard-of": nobody declared it. There is ')


async def test_five_mistakes_are_five_messages_and_nothing_is_declared(stack: Stack) -> None:
    before = await _declared(stack)
    code, said = await stack.applies(FIVE_MISTAKES)
    assert (code, len(said.splitlines())) == (2, 5), said
    assert await _declared(stack) == before
    assert await stack.plane.plan(rollout_id("mistaken"), RolloutOrder) is None


async def test_a_plan_that_would_rewrite_the_past_is_refused_before_anything_is_declared(
    stack: Stack,
) -> None:
    stage = "name: first, tiers: [pro], bake: {bake}"
    assert (await stack.applies(launch("busy", stage.format(bake="1h"))))[0] == 0
    await until(partial(_waits_for, stack, "busy", Waits.BAKE), 20.0)
    before = await _declared(stack)
    other = launch("extra", "name: first, tiers: [pro], bake: 1h")
    code, said = await stack.applies(f"{other}---{launch('busy', stage.format(bake='2h'))}")
    assert code == 3
    assert said == (
        'rollout/busy: stages[0]: "first" has opened, and stays as it is: bake: 1h to 2h. '
        "Abort the rollout, or add a stage behind it."
    )
    assert await _declared(stack) == before
    assert await stack.plane.plan(rollout_id("extra"), RolloutOrder) is None
    assert await stack.plane.feature("extra") is None


async def test_a_change_of_what_is_to_come_is_shown_as_a_diff_and_taken(stack: Stack) -> None:
    first, free = "name: first, tiers: [pro], bake: 1h", "name: rest, tiers: [free], bake: {bake}"
    assert (await stack.applies(launch("growing", first, free.format(bake="1h"))))[0] == 0
    await until(partial(_waits_for, stack, "growing", Waits.BAKE), 20.0)
    code, said = await stack.applies(launch("growing", first, free.format(bake="2h")))
    assert code == 0
    assert said.splitlines()[-2:] == [
        "rollout/growing changed",
        "  ~ stage rest: bake: 1h to 2h",
    ]
    code, said = await stack.applies(launch("growing", first, free.format(bake="2h")))
    assert said.splitlines()[-1] == "rollout/growing is there already, unchanged"


async def test_a_plan_that_has_finished_is_not_started_again(stack: Stack) -> None:
    plan = launch("done", "name: first, tiers: [pro], reserve: 1, bake: 0s")
    assert (await stack.applies(plan))[0] == 0
    await stack.plane.observe("local", GPUS)

    async def is_finished() -> bool:
        return "rollout/done  finished" in (await stack.types("status", "done"))[1]

    await until(is_finished, within_s=10.0)
    assert (await stack.applies(plan))[1].endswith("rollout/done is there already, unchanged")
    budget = await stack.plane.budget("local")
    assert budget is not None
    assert sum("rollout/done/" in claim for claim in budget.ledger.claims) == 1


async def test_a_hold_that_outlived_its_rollout_is_lifted_by_its_role(stack: Stack) -> None:
    plan = launch("held", "name: first, tiers: [pro], approval: product, bake: 1h")
    assert (await stack.applies(plan))[0] == 0
    legal = ["--role", "legal"]
    said = await stack.types("hold", "held", *legal, "--reason", "a review")
    assert said == (0, "held is held by legal")
    assert "held by legal since" in (await stack.types("status", "held"))[1]
    assert (await stack.types("abort", "held", "--reason", "a mistake"))[0] == 0
    code, said_by_safety = await stack.types("release", "held", "--role", "safety")
    assert (code, "legal" in said_by_safety) == (3, True)
    assert await stack.types("release", "held", *legal) == (0, "held is released")
    feature = await stack.plane.feature("held")
    assert feature is not None
    assert feature.hold is None


async def test_sign_ups_close_and_reopen_at_a_gateway_as_typed_and_those_inside_notice_nothing(
    stack: Stack, tmp_path: Path
) -> None:
    assert (await stack.applies(launch("door", "name: first, tiers: [pro], bake: 1h")))[0] == 0
    url = stack.environment[variable("redis")]
    async with stack.publishing(), running_gateway(tmp_path, url) as gateway, Redis(url) as redis:
        await redis.publish(gate(version=version_now(), expires_at=time.time() + 600.0))

        async def answer(*cohorts: str, asks: str = "signup") -> str:
            said = {"cohorts": cohorts}
            asked = gateway.admit("ada", "pro", feature="door", asks=asks, attributes=said)
            return str((await asked)[1]["code"])

        async def is_answered(code: str, *cohorts: str) -> bool:
            return await answer(*cohorts) == code

        await until(lambda: is_answered("allowed"), within_s=15.0)
        reason = ["--reason", "a surge", "--by", "mara"]
        said = await stack.types("signups", "door", "suspend", *reason)
        assert said == (0, "door: sign-ups are suspended")
        await until(lambda: is_answered("signups-suspended"), within_s=10.0)
        assert await answer(asks="use") == "allowed"

        said = await stack.types("signups", "door", "reopen", "--cohort", "beta")
        assert said == (0, "door: sign-ups are suspended but for cohort beta")
        await until(lambda: is_answered("allowed", "beta"), within_s=10.0)
        assert await answer() == "signups-suspended"
        why = await gateway.get("/v1/why?user=ada&feature=door&tier=pro&asks=signup")
        assert why[1]["would_be_yes_if"] == "in cohort beta: yes now; or when sign-ups reopen"
        told = (await stack.types("status", "door"))[1]
        assert "sign-ups are suspended but for cohort beta: a surge" in told

        assert await stack.types("signups", "door", "reopen") == (0, "door: sign-ups are open")
        await until(lambda: is_answered("allowed"), within_s=10.0)


async def test_a_rollout_goes_on_with_a_new_worker_at_once_and_nothing_happens_twice(
    stack: Stack,
) -> None:
    stages = [
        f"name: to-{share}, tiers: [free], exposure: {share}%, reserve: 1, bake: 200ms"
        for share in (10, 20, 30, 40, 50)
    ]
    last = "name: all, tiers: [free], approval: product, bake: 0s"
    assert (await stack.applies(launch("killed", *stages, last)))[0] == 0
    await stack.plane.observe("local", GPUS)
    for share in (0.1, 0.3):
        await until(partial(_reaches, stack, "killed", share), within_s=10.0)
        stack.kill_worker()
        await stack.start_worker()
        # A killed worker's tasks are given back after 2 s, by default only after 10 s. Between the
        # two is room for a machine that is slow.
        await until(partial(_reaches, stack, "killed", share + 0.1), within_s=8.0)
    await until(lambda: _waits_for(stack, "killed", Waits.APPROVAL), within_s=10.0)
    assert (await stack.types("approve", "killed", "all", "--role", "product"))[0] == 0

    async def is_recorded() -> bool:
        # In a burst each workflow tells what happened a little later, and not one after the other.
        rollout = await stack.recorded(subject="rollout/killed")
        feature = await stack.recorded(subject="feature/killed")
        is_open = any(e.type == "feature.exposed" and e.data["after"] == 1.0 for e in feature)
        return is_open and any(e.type == "rollout.finished" for e in rollout)

    await until(is_recorded, within_s=10.0)
    told = await stack.recorded(subject="rollout/killed")
    assert [event.sequence for event in told] == list(range(1, len(told) + 1))
    each = Counter((event.type, event.data.get("stage")) for event in told)
    happened = {
        key: n for key, n in each.items() if key[0] not in {"stage.waiting", "stage.forecast"}
    }
    assert set(happened.values()) == {1}
    exposed = await stack.recorded(subject="feature/killed")
    shares = [e.data["after"] for e in exposed if e.type == "feature.exposed"]
    assert shares == [0.1, 0.2, 0.3, 0.4, 0.5, 1.0]


async def test_without_a_worker_there_is_one_clear_line_and_exit_4(stack: Stack) -> None:
    plan = launch("alone", "name: first, tiers: [pro], approval: product, bake: 1h")
    assert (await stack.applies(plan))[0] == 0
    stack.kill_worker()
    try:
        code, said = await stack.types("approve", "alone", "first", "--role", "product")
        assert code == 4
        assert (
            said == "temporal: no worker answered in 5 s. Start one: python -m controllers worker."
        )
        code, said = await stack.types("status")
        assert code == 4
        assert len(said.splitlines()) == 1
    finally:
        await stack.start_worker()


async def test_a_dead_temporal_is_one_clear_line_and_exit_4(stack: Stack) -> None:
    (port,) = free_ports(1)
    code, said = await stack.types("status", temporal=f"{LOOPBACK}:{port}")
    assert code == 4
    assert said == (
        f"temporal: no answer from {LOOPBACK}:{port}. "
        "Start it, or set TIDEGATE_TEMPORAL to where it is."
    )


async def _declared(stack: Stack) -> Manifests:
    catalogue = await stack.plane.catalogue()
    assert catalogue is not None
    return catalogue.declared


async def _reaches(stack: Stack, feature: str, share: float) -> bool:
    state = await stack.plane.feature(feature)
    return state is not None and state.exposure.get("free", 0.0) >= share - 1e-9


async def _waits_for(stack: Stack, rollout: str, waits: Waits) -> bool:
    order = await stack.plane.plan(rollout_id(rollout), RolloutOrder)
    return order is not None and order.state.waits is waits


async def _is_at_rest(stack: Stack, rollout: str) -> bool:
    order = await stack.plane.plan(rollout_id(rollout), RolloutOrder)
    handle = stack.plane.client.get_workflow_handle(rollout_id(rollout))
    found = await handle.describe()
    pending = found.raw_description.pending_activities
    return order is not None and not order.state.outbox.waiting and not pending
