"""Record the histories that every later version must replay: `make histories`.

Each story is played on the test server, in skipped time, and what each of its workflows went
through is written to `histories/`. Names and instants differ from one recording to the next.
"""

import asyncio
import json
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.embedded.until import until
from tests.workflows.attic import Attic
from tests.workflows.company import Company
from tests.workflows.pressed import NARROW, OPEN, Pressed
from tests.workflows.retiring import Retiring
from tests.workflows.story import CHECK, Given, Stage, Story, Then, When
from tests.workflows.world import World, make_worker, skipping_time
from tidegate.catalogue import FeatureSpec
from tidegate.cli.applying import apply_supply
from tidegate.messages.budget import budget_id
from tidegate.messages.catalogue import CATALOGUE_ID, Declaration
from tidegate.messages.common import Act
from tidegate.messages.feature import HoldOrder, feature_id
from tidegate.messages.hold import hold_id
from tidegate.messages.model import model_id
from tidegate.messages.preview import Feedback
from tidegate.messages.retirement import RetirementPhase
from tidegate.messages.rollout import RolloutPhase, rollout_id
from tidegate.messages.steered import Waits
from tidegate.messages.supply import SupplyOrder
from tidegate.rules.verdict import Verdict

FOLDER: Final = Path(__file__).with_name("histories")
_OF_A_MACHINE: Final = re.compile(r"^\d+@|^[0-9a-f]{32}$|:")
"""An identity or a sticky queue, which name the process and the machine that recorded."""

Play = Callable[[Given, When, Then], Awaitable[None]]


async def waits_for_gpus(given: Given, when: When, then: Then) -> None:
    """Free waits for an arrival, is told when, and opens once replicas are ready."""
    arrival = given.arrival(8, at="2h", latest="4h")
    stages = [Stage("pro", reserve=2, starts_in="10m", approval="launch"), Stage("free", reserve=6)]
    await given.rollout(stages, arrival)
    await when.seen(installed=4, ready=2)
    await when.passes("20m")
    await when.approved("pro", role="launch")
    await then.exposure_is("pro", "100%")
    await when.seen(installed=4, ready=4, needed=4)
    await when.passes("1h")
    await then.told("stage.forecast", stage="free")
    await when.seen(installed=12, ready=4, needed=4)
    await when.seen(installed=12, ready=10, needed=4)
    await then.exposure_is("free", "100%")
    await when.passes("1h")
    await then.it_ended(RolloutPhase.FINISHED)


async def is_stopped_and_goes_on(given: Given, when: When, then: Then) -> None:
    """A pause and a hold overlap while a stage bakes; both are lifted."""
    await given.rollout([Stage("pro", bake="1h"), Stage("free", starts_in="3h")])
    await then.it_waits_for(Waits.BAKE)
    await when.paused()
    await when.held()
    await when.passes("1d")
    await when.released()
    await when.resumed()
    await when.passes("1d")
    await then.it_ended(RolloutPhase.FINISHED)


async def is_promoted_after_an_inconclusive_check(given: Given, when: When, then: Then) -> None:
    """A check that could not be read waits for a person."""
    given.verdicts(Verdict.INCONCLUSIVE)
    await given.rollout([Stage("pro", check=CHECK)])
    await when.passes("1h")
    await then.it_waits_for(Waits.PERSON)
    await when.promoted()
    await then.it_ended(RolloutPhase.FINISHED)


async def grows_skips_and_changes(given: Given, when: When, then: Then) -> None:
    """A stage grows share by share, the next is changed and skipped, a third is watched again."""
    given.verdicts(Verdict.INCONCLUSIVE)
    early, late = Stage("pro", steps=("5%",), reserve=2), Stage("free", check=CHECK)
    await given.rollout([early, Stage("plus", starts_in="3d"), late])
    await when.seen(installed=2, ready=2)
    await when.changed([early, Stage("plus", starts_in="2d"), late])
    await when.passes("1h")
    await when.skipped()
    await when.passes("1h")
    await then.it_waits_for(Waits.PERSON)
    await when.retried()
    await when.passes("1h")
    await then.it_ended(RolloutPhase.FINISHED)


async def is_aborted_while_open(given: Given, when: When, then: Then) -> None:
    """What is open and not baked is taken back, and its GPUs with it."""
    await given.rollout([Stage("pro", reserve=2, bake="1d")])
    await when.seen(installed=4, ready=4)
    await then.it_waits_for(Waits.BAKE)
    await when.aborted()
    await then.it_ended(RolloutPhase.ABORTED)


async def has_its_sign_ups_suspended(given: Given, when: When, then: Then) -> None:
    """Sign-ups close after the launch, and reopen by a cohort, by a share and for all."""
    await given.rollout(["pro"])
    await when.passes("1h")
    await then.it_ended(RolloutPhase.FINISHED)
    await when.signups_suspended()
    await when.passes("1h")
    await when.signups_reopened("beta")
    await when.signups_reopened(share=0.1)
    await when.signups_reopened()
    await then.told("feature.signups_reopened")


async def waits_for_a_supply_that_is_late(given: Given, when: When, then: Then) -> None:
    """GPUs on order come late and in parts, and the stage that waits opens on them."""
    story = given.story
    await given.rollout([Stage("pro", reserve=8)])
    await when.seen(installed=4, ready=4)
    spec = given.arrival(8, "1d", "2d").spec
    name = f"order-{story.number}"
    order = SupplyOrder(name=name, spec=spec)
    await apply_supply(story.plane, order)
    story.others["supply"] = order.plan_id
    await when.passes("3d")
    await when.seen(installed=9, ready=9)
    await when.seen(installed=12, ready=12)
    await then.exposure_is("pro", "100%")
    await when.passes("1h")
    await then.it_ended(RolloutPhase.FINISHED)


async def is_held_with_all_of_its_kind(given: Given, when: When, then: Then) -> None:
    """A role holds the feature, mends its reason, and releases it; the catalogue knows of it."""
    story = given.story
    await given.feature()
    features = {story.feature: FeatureSpec(pool=story.pool)}
    await story.plane.declare(Declaration(by="ann", features=features))
    await given.rollout(["pro"])
    scope, role = f"feature/{story.feature}", f"legal-{story.number}"
    for reason in ("a letter", "a court order"):
        await story.plane.place_hold(scope, HoldOrder(by="lee", role=role, reason=reason))
    await story.plane.steer(hold_id(role, scope), "release", HoldOrder(by="lee", role=role))
    story.others["hold"] = hold_id(role, scope)
    story.others["catalogue"] = CATALOGUE_ID
    await when.passes("1h")
    await then.it_ended(RolloutPhase.FINISHED)


async def is_frozen_by_a_code_red(given: Given, when: When, then: Then) -> None:
    """A code red freezes a side project and takes its GPUs, and gives both back."""
    story = given.story
    company = Company(story, Path(tempfile.mkdtemp()) / "file.yaml")
    await company.is_at_work()
    await company.places()
    await when.passes("1d")
    await company.lifts()
    story.others |= {"code-red": company.red, "feature": feature_id(company.voice)}
    await when.passes("5d")
    await then.it_ended(RolloutPhase.FINISHED)


async def retires_its_model(given: Given, when: When, then: Then) -> None:
    """A model goes step by step, is given back to those who pay, and its dates move before."""
    await given.rollout(["pro"])
    going = Retiring(given.story)
    spec = going.spec(restricted_at=going.at("2d"), cut_offs=[("free", "4d")])
    await going.begins()
    await going.serves_on(4)
    await going.starts(spec, pinned=("ada",))
    await when.passes("3d")
    await going.told("pause")
    await when.passes("1d")
    await going.told("resume")
    await going.moves(spec.model_copy(update={"sunset_at": going.at("12d")}))
    await going.sees(old=4)
    await when.passes("11d")
    await going.comes_to(RetirementPhase.RETIRED)
    await going.is_taken_back("pro")
    await going.sees(old=4)
    await when.passes("5d")
    await going.ends()
    given.story.others |= {"retirement": going.plan, "model": model_id(going.model)}
    await then.it_ended(RolloutPhase.FINISHED)


async def is_previewed_and_promoted(given: Given, when: When, then: Then) -> None:
    """A prototype lives by invites, becomes a rollout, and its key is destroyed after that."""
    await given.rollout(["pro"])
    attic = Attic(given.story)
    await attic.opens()
    await attic.invites("ivy", "noah")
    sealed = attic.keys.seal(attic.name, "lovely")
    await attic.steer("feedback", Feedback(by="preview", sealed=sealed, said_id="1"))
    await attic.steer("promote", Act(by="ada", reason="they love it"))
    await when.passes("3d")
    await until(partial(given.story.is_over, attic.plan))
    given.story.others |= {"preview": attic.plan, "catalogue": CATALOGUE_ID}
    await then.it_ended(RolloutPhase.FINISHED)


async def lives_through_a_surge(given: Given, when: When, then: Then) -> None:
    """A gate narrows for long and opens again: sign-ups close, reopen by steps, and it ends."""
    story = given.story
    pressed = Pressed(Company(story, Path(tempfile.mkdtemp()) / "file.yaml"))
    await pressed.company.is_at_work()
    await pressed.gate_is(NARROW, starts=True)
    await when.passes("11m")
    await pressed.gate_is(OPEN)
    await when.passes("4h")
    await pressed.ends()
    story.others |= {"surge": pressed.plan, "feature": feature_id(pressed.company.voice)}
    await when.passes("5d")
    await then.it_ended(RolloutPhase.FINISHED)


STORIES: Final[Mapping[str, Play]] = {
    play.__name__.replace("_", "-"): play
    for play in (
        waits_for_gpus,
        is_stopped_and_goes_on,
        is_promoted_after_an_inconclusive_check,
        grows_skips_and_changes,
        is_aborted_while_open,
        has_its_sign_ups_suspended,
        waits_for_a_supply_that_is_late,
        is_held_with_all_of_its_kind,
        is_frozen_by_a_code_red,
        retires_its_model,
        is_previewed_and_promoted,
        lives_through_a_surge,
    )
}


async def record(folder: Path) -> list[Path]:
    """Play every story, and write the history of each workflow in it; returns the files."""
    world, written = World(), list[Path]()
    async with skipping_time() as env, make_worker(env.client, world):
        for name, play in STORIES.items():
            story = Story(env.client, world, env, await env.get_current_time())
            await play(Given(story), When(story), Then(story))
            ids = {
                "rollout": rollout_id(story.rollout),
                "feature": feature_id(story.feature),
                "budget": budget_id(story.gpu_type),
                **story.others,
            }
            for kind, workflow_id in ids.items():
                history = await env.client.get_workflow_handle(workflow_id).fetch_history()
                path = folder / f"{name}.{kind}.json"
                clean = {"workflow_id": workflow_id, "history": _scrub(history.to_json_dict())}
                path.write_text(json.dumps(clean, indent=1) + "\n", encoding="utf-8")
                written.append(path)
            await story.end()
    return written


def _scrub(value: Any, key: str = "") -> Any:  # noqa: ANN401 - any JSON
    """Take out what names the machine: identities, and the queues of one worker's cache."""
    match value:
        case dict():
            return {k: _scrub(v, k) for k, v in value.items()}
        case list():
            return [_scrub(v, key) for v in value]
        case str() if key == "identity":
            return "worker"
        case str() if key == "name" and _OF_A_MACHINE.search(value):
            return "sticky"
        case _:
            return value


def main() -> None:
    """Replace the committed histories."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.json"):
        old.unlink()
    for path in asyncio.run(record(FOLDER)):
        sys.stdout.write(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB\n")


if __name__ == "__main__":
    main()
