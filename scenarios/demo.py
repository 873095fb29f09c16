"""`make demo`: plays a story on real servers, shows it, and checks what must hold at its end.

The environment: HEADLESS=1 prints lines instead of a live view, KEEP=1 leaves everything up,
DEMAND=FILE plays a real trace, STORY=NAME another story, CLUSTER=1 has pools be Deployments on a
real Kubernetes control plane.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from rich.console import Console

from console.history import History
from console.reader import Reader
from scenarios.assertions import Evidence, Finding, examine
from scenarios.ground import Ground, KubernetesGround, LocalGround
from scenarios.picture import draw
from scenarios.player import Player, Story
from scenarios.scenario import ScenarioSpec, StoryClock, load_scenario
from scenarios.stack import Stack
from scenarios.view import View, make_view
from tidegate.edges.files import load_manifests
from tidegate.edges.record import Record
from tidegate.edges.redis import Redis
from tidegate.errors import PlanError, TidegateError, Unavailable
from tidegate.settings import variable
from tidegate.snapshot import Snapshot

_OUTPUT: Final = Path(".tidegate")
_KEPT_S: Final = 8 * 3600.0
"""With KEEP=1 the crowd goes on asking for this long."""
_NAMED: Final = 5
"""So many files of a folder that was used before are named, and the others counted."""
_SETTLE_S: Final = 10.0
"""How long the record is given to catch up with the last events."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How the demo was asked to run."""

    story: str
    trace: Path | None
    headless: bool
    keep: bool
    on_kubernetes: bool
    folder: Path
    is_folder_ours: bool
    """Whether it was made for this run, and goes with it where nothing is left to look at."""

    @classmethod
    def read(cls, arguments: list[str], environment: Mapping[str, str]) -> "Terms":
        """Read the command line and the environment."""
        parser = argparse.ArgumentParser(prog="python -m scenarios.demo", description=__doc__)
        parser.add_argument("--folder", type=Path, help="where logs and the record go")
        asked = parser.parse_args(arguments)
        _OUTPUT.mkdir(exist_ok=True)
        trace = environment.get("DEMAND")
        return cls(
            story=environment.get("STORY") or "launch-day",
            trace=Path(trace) if trace else None,
            headless=environment.get("HEADLESS", "") not in {"", "0"},
            keep=environment.get("KEEP", "") not in {"", "0"},
            on_kubernetes=environment.get("CLUSTER", "") not in {"", "0"},
            folder=asked.folder or Path(tempfile.mkdtemp(prefix="demo-", dir=_OUTPUT)),
            is_folder_ours=asked.folder is None,
        )


async def play(terms: Terms) -> bool:
    """Play the story; returns whether everything held. Raises TidegateError."""
    story = Story(terms.story, load_scenario(terms.story), terms.trace)
    _require_unused(terms.folder)
    clock = StoryClock(story.scenario.clock)
    view = make_view(headless=terms.headless, console=Console(), clock=clock)
    began = time.monotonic()
    with contextlib.closing(view):
        async with Stack(terms.folder, _ground(terms, view)) as stack:
            player = Player(story, stack, clock, view.say)
            view.say(f"starting Temporal, Redis, the loops, a gateway and pools ({terms.folder})")
            await stack.start()
            await player.prepare()
            view.start(
                {
                    "page": stack.addresses.console,
                    "Temporal UI": stack.addresses.temporal_ui,
                    "gateway": stack.addresses.gateway,
                }
            )
            view.say(f"servers up after {time.monotonic() - began:.1f} s")
            history = await _show(player, stack, view, clock, terms)
            findings = await _examine(story, stack)
            _draw(history, clock, story)
            view.summary(_summary(story, findings, time.monotonic() - began))
            if terms.keep:
                await _until_interrupted(view, stack)
    return all(finding.held for finding in findings)


def _require_unused(folder: Path) -> None:
    """Raise PlanError where something is in the folder already.

    What an earlier story left, its GPUs, its record and its Temporal, would count as this one's.
    """
    try:
        held = sorted(each.name for each in folder.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        message = f"--folder {folder}: cannot be used ({error}). Name a folder that is not there."
        raise PlanError(message, code="scenario") from error
    if held:
        named = ", ".join(held[:_NAMED])
        more = f" and {len(held) - _NAMED} more" if len(held) > _NAMED else ""
        message = (
            f"--folder {folder}: got one with {named}{more} in it, expected a new or an empty one. "
            "A story goes on from nothing that another left: name another folder, or empty this."
        )
        raise PlanError(message, code="scenario")


def _ground(terms: Terms, view: View) -> Ground:
    folder = terms.folder.resolve()
    return KubernetesGround(folder, view.say) if terms.on_kubernetes else LocalGround(folder)


async def _show(
    player: Player, stack: Stack, view: View, clock: StoryClock, terms: Terms
) -> History:
    """Play while reading what is published, until the story is over; returns what was seen."""
    scenario = load_scenario(terms.story)
    length_s = scenario.clock.length_s
    crowd_until_s = _KEPT_S if terms.keep else length_s
    history = History()
    async with Redis(stack.addresses.redis) as redis:
        reader = Reader(redis, history)
        playing = asyncio.create_task(player.play(crowd_until_s=crowd_until_s))
        try:
            while not (playing.done() and await _is_over(redis, history, scenario)):
                if playing.done():
                    await playing  # a command that failed ends the demo
                now = time.time()
                if clock.started_at and now > clock.started_at + length_s:
                    break
                await reader.tick(now)
                view.show(history, f"{clock(now):%H:%M}")
                await asyncio.sleep(0.5)
            await playing
        finally:
            playing.cancel()
    return history


async def _is_over(redis: Redis, history: History, scenario: ScenarioSpec) -> bool:
    """Say whether the story's last event was told and every gate is open again."""
    try:
        snapshot = await redis.snapshot()
    except Unavailable:
        snapshot = Snapshot()
    finished = scenario.has_ended(history.events)
    ceilings = [share for gate in snapshot.gates.values() for share in gate.ceilings.values()]
    return finished and bool(ceilings) and min(ceilings) >= 1.0


async def _examine(story: Story, stack: Stack) -> list[Finding]:
    """Read the record, once it has caught up, and hold it against the scenario."""
    plan = load_manifests(stack.folder / story.scenario.plan)
    async with Record(stack.addresses.record) as record:
        deadline = time.monotonic() + _SETTLE_S
        while await record.gaps() and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
        gaps = [f"{gap.source}: {gap.missing} is missing" for gap in await record.gaps()]
        evidence = Evidence(await record.events(), gaps, plan)
    return examine(evidence, story.scenario.holds)


def _draw(history: History, clock: StoryClock, story: Story) -> None:
    title = story.scenario.title
    path = _OUTPUT / f"{story.name}.svg"
    draw(history, path, title=title, story_time=clock)


def _summary(story: Story, findings: list[Finding], took_s: float) -> list[str]:
    lines = [
        f"{'held ' if f.held else 'BROKEN'}  {f.name}" + (f": {f.seen}" if f.seen else "")
        for f in findings
    ]
    held = sum(f.held for f in findings)
    picture = _OUTPUT / f"{story.name}.svg"
    lines.append(f"{held} of {len(findings)} held, {took_s:.0f} s in all, drawn in {picture}")
    return lines


async def _until_interrupted(view: View, stack: Stack) -> None:
    view.say("everything stays up; press Ctrl-C to end it. To type commands elsewhere:")
    for name in ("temporal", "gateway"):
        view.say(f"  export {variable(name)}={getattr(stack.addresses, name)}")
    view.say(f"  export {variable('keys')}={stack.folder / 'keys.json'}")
    view.say(f"  export {variable('api_key')}={stack.api_key}")
    await asyncio.Event().wait()


def main(arguments: list[str]) -> int:
    """Run the demo; returns 0 where everything held, 1 where not, 130 when interrupted."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    # SIGTERM ends it as Ctrl-C does, so that nothing is left behind; a shell that starts it in the
    # background has it ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    terms = Terms.read(arguments, os.environ)
    held = False
    try:
        held = asyncio.run(play(terms))
        is_worth_a_look = not held
    except KeyboardInterrupt:
        return 130
    except (TidegateError, ExceptionGroup) as error:
        for told in _told(error):
            sys.stderr.write(f"{told}\n")
        # Mistakes in what was written are found before anything is started.
        is_worth_a_look = not isinstance(error, PlanError)
    if terms.is_folder_ours and not is_worth_a_look:
        shutil.rmtree(terms.folder, ignore_errors=True)
    return 0 if held else 1


def _told(error: BaseException) -> list[str]:
    """Return the lines of our own errors inside a group; anything else is a defect."""
    if isinstance(error, BaseExceptionGroup):
        return [line for inner in error.exceptions for line in _told(inner)]
    if isinstance(error, TidegateError):
        return [str(error)]
    raise error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
