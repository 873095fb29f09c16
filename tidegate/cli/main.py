"""The commands of `tidegate`."""

import asyncio
import getpass
import json
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from tidegate.errors import Broken, PlanError, Refused, TidegateError, Unavailable
from tidegate.leaving import leave
from tidegate.settings import Settings

if TYPE_CHECKING:
    from tidegate.edges.temporal import ControlPlane
    from tidegate.messages.common import Act

app: Final = typer.Typer(
    help="Who may use what, when, and on how many GPUs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

EXIT_CODES: Final = ((PlanError, 2), (Refused, 3), (Unavailable, 4), (Broken, 5))
"""What a script can tell apart: the plan is wrong, a rule said no, nobody answered, a defect."""

Plan = Annotated[str, typer.Argument(help="The plan's name, or its kind and name with a slash.")]
Reason = Annotated[str, typer.Option(help="Why; others will read it.")]
By = Annotated[str, typer.Option("--by", help="Who asks; by default who is logged in.")]


def _filled(role: str) -> str:
    if not role:
        raise typer.BadParameter("expected a role. Name it.")
    return role


Role = Annotated[
    str, typer.Option(help="The role that this is done in the name of.", callback=_filled)
]


@app.command()
def apply(
    file: Annotated[Path, typer.Option("--file", "-f", help="A YAML file of manifests.")],
    by: By = "",
    override: Annotated[
        str, typer.Option(help="A role in whose name a retirement may come earlier.")
    ] = "",
    reason: Reason = "",
) -> None:
    """Declare what a file holds and start its plans; a mistake changes nothing."""
    from tidegate.cli.applying import (  # noqa: PLC0415 - help must not wait for it
        Applicant,
        apply_file,
    )

    applicant = Applicant(by or _me(), override, reason)
    _run(lambda plane: apply_file(plane, file, applicant))


@app.command()
def status(name: Annotated[str, typer.Argument(help="A rollout; by default all.")] = "") -> None:
    """Show where rollouts and features stand, and what they wait for."""
    from tidegate.cli.status import tell_status  # noqa: PLC0415

    _run(lambda plane: tell_status(plane, name))


@app.command()
def approve(
    plan: Plan,
    stage: Annotated[str, typer.Argument(help="The stage to approve.")],
    role: Role,
    by: By = "",
    reason: Reason = "",
) -> None:
    """Approve a stage in the name of a role."""
    from tidegate.messages.rollout import Approval  # noqa: PLC0415

    approval = Approval(by=by or _me(), reason=reason, stage=stage, role=role)
    _steer(plan, "approve", approval, f"{plan}: {stage} is approved")


@app.command()
def answer(
    plan: Plan,
    asked: Annotated[str, typer.Argument(help="STAGE/CHECK: what bakes, and what asks.")],
    verdict: Annotated[Literal["pass", "fail"], typer.Argument(help="What you say of it.")],
    role: Role,
    by: By = "",
    reason: Reason = "",
) -> None:
    """Answer a check that asks a person, in the name of a role."""
    from tidegate.messages.rollout import Answer  # noqa: PLC0415

    stage, _, check = asked.partition("/")
    passes = verdict == "pass"
    said = Answer(by=by or _me(), reason=reason, stage=stage, check=check, role=role, passes=passes)
    _steer(plan, "answer", said, f"{plan}: {check} {'passes' if passes else 'fails'}")


@app.command()
def pause(plan: Plan, reason: Reason = "", by: By = "") -> None:
    """Stop a plan; everything later moves by as long as it lasts."""
    _steer(plan, "pause", _act(by, reason), f"{plan} is paused")


@app.command()
def resume(plan: Plan, reason: Reason = "", by: By = "") -> None:
    """Go on with a paused plan."""
    _steer(plan, "resume", _act(by, reason), f"{plan} goes on")


@app.command()
def promote(plan: Plan, reason: Reason = "", by: By = "") -> None:
    """Go on past an inconclusive check or what a retirement lacks; or open what was previewed."""
    _steer(plan, "promote", _act(by, reason), f"{plan} goes on")


@app.command()
def retry(plan: Plan, reason: Reason = "", by: By = "") -> None:
    """Watch a rollout's stage anew whose check was inconclusive, for as long again."""
    _steer(plan, "retry", _act(by, reason), f"{plan} is watched again")


@app.command()
def skip(plan: Plan, reason: Reason, by: By = "") -> None:
    """Pass over the stage that a rollout has come to: shut it stays shut, open it stays open."""
    _steer(plan, "skip", _act(by, reason), f"{plan} passes over its stage")


@app.command()
def abort(
    plan: Plan,
    reason: Reason,
    back: Annotated[
        Literal["here", "stage", "nothing"] | None,
        typer.Option(help="How far a rollout goes back; by default as far as its stage."),
    ] = None,
    by: By = "",
) -> None:
    """End a plan; of a rollout, what the stage has opened that it had come to is taken back."""
    from tidegate.cli.steering import abort_plan  # noqa: PLC0415

    _do(lambda plane: abort_plan(plane, plan, _act(by, reason), back), f"{plan} is ending")


@app.command()
def invite(
    preview: Annotated[str, typer.Argument(help="The preview's name.")],
    user: Annotated[list[str], typer.Option(help="A user's id, again for each.")],
    by: By = "",
) -> None:
    """Invite users to a preview."""
    from tidegate.cli.previewing import invite as invite_to  # noqa: PLC0415

    who = by or _me()
    _run(lambda plane: invite_to(plane, _settings(), preview, tuple(user), who))


@app.command()
def feedback(
    preview: Annotated[str, typer.Argument(help="The preview's name.")],
    text: Annotated[str, typer.Argument(help="What was said; without it, all is shown.")] = "",
    user: Annotated[str, typer.Option(help="Who said it.")] = "",
) -> None:
    """Keep what a user said of a preview, or show what was said."""
    from tidegate.cli.previewing import give_feedback, read_feedback  # noqa: PLC0415

    if text:
        _run(lambda plane: give_feedback(plane, _settings(), preview, user, text))
    else:
        _print(lambda: read_feedback(_settings(), preview))


@app.command()
def reverse(
    plan: Plan,
    reason: Reason,
    tier: Annotated[
        list[str] | None, typer.Option(help="A tier that keeps the model, again for each; or all.")
    ] = None,
    by: By = "",
) -> None:
    """Take a retirement back, for some tiers or for all."""
    from tidegate.messages.retirement import ReversalOrder  # noqa: PLC0415

    order = ReversalOrder(by=by or _me(), reason=reason, tiers=tuple(tier or ()))
    _steer(plan, "reverse", order, f"{plan} is taken back for {', '.join(order.tiers) or 'all'}")


Held = Annotated[
    str,
    typer.Argument(help="A plan, or everything, or as feature/image and model/image-2."),
]


@app.command()
def hold(
    what: Held,
    role: Role,
    reason: Reason,
    by: By = "",
    roll_back: Annotated[
        bool, typer.Option("--roll-back", help="Let nobody in meanwhile; else only nobody new.")
    ] = False,
) -> None:
    """Stop further exposure at once, in the name of a role."""
    from tidegate.cli.holding import place_hold  # noqa: PLC0415
    from tidegate.messages.feature import HoldOrder  # noqa: PLC0415

    order = HoldOrder(by=by or _me(), reason=reason, role=role, rolls_back=roll_back)
    _run(lambda plane: place_hold(plane, what, order))


@app.command()
def release(what: Held, role: Role, reason: Reason = "", by: By = "") -> None:
    """Lift a hold; only the role that placed it may."""
    from tidegate.cli.holding import release_hold  # noqa: PLC0415
    from tidegate.messages.feature import HoldOrder  # noqa: PLC0415

    order = HoldOrder(by=by or _me(), reason=reason, role=role)
    _do(lambda plane: release_hold(plane, what, order), f"{what} is released")


@app.command()
def why(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    feature: Annotated[str, typer.Argument(help="The feature.")],
    tier: Annotated[str, typer.Option(help="The user's tier; by default the lowest.")] = "",
    surface: Annotated[str, typer.Option(help="Where it is used.")] = "api",
    attribute: Annotated[
        list[str] | None,
        typer.Option(help="What else is said of the user, as NAME=VALUE; again for each."),
    ] = None,
    signup: Annotated[
        bool, typer.Option("--signup", help="Ask for somebody outside who wants to come in.")
    ] = False,
) -> None:
    """Say whether a user may use a feature now, from what, and what would make it yes."""
    from tidegate.cli.asking import ask_why, read_attributes  # noqa: PLC0415

    async def ask() -> list[str]:
        asked = {"user": user, "feature": feature, "surface": surface}
        if tier:
            asked["tier"] = tier
        asked["attributes"] = json.dumps(read_attributes(attribute or ()))
        asked["asks"] = "signup" if signup else "use"
        return await ask_why(_settings().gateway, asked, _settings().api_key)

    _print(ask)


@app.command()
def signups(
    feature: Annotated[str, typer.Argument(help="The feature.")],
    verb: Annotated[str, typer.Argument(metavar="suspend|reopen", help="What to do.")],
    cohort: Annotated[
        list[str] | None, typer.Option(help="A cohort to reopen for, again for each.")
    ] = None,
    share: Annotated[
        str | None, typer.Option(help="The share of those who ask to reopen for, such as 10%.")
    ] = None,
    reason: Reason = "",
    by: By = "",
) -> None:
    """Suspend sign-ups, or reopen them: for cohorts, for a share, or, with neither, for all."""
    from tidegate.cli.suspending import Asked, set_signups  # noqa: PLC0415

    asked = Asked(feature, verb, tuple(cohort or ()), share, reason, by or _me())
    _print(lambda: set_signups(_settings(), asked))


@app.command()
def kill(
    feature: Annotated[str, typer.Argument(help="The feature to close.")],
    reason: Reason,
    until: Annotated[
        str, typer.Option(help="When it ends: a duration or an instant, at most 7 days ahead.")
    ] = "",
    tier: Annotated[
        list[str] | None, typer.Option(help="A tier to close it for, again for each; or all.")
    ] = None,
    lift: Annotated[
        bool, typer.Option("--lift", help="End the order that closes the feature, now.")
    ] = False,
    by: By = "",
) -> None:
    """Close a feature at once, for a while, also with Temporal away."""
    from tidegate.cli.killing import Asked, kill_feature  # noqa: PLC0415

    asked = Asked(feature, until, reason, tuple(tier or ()), by or _me(), is_lift=lift)
    _print(lambda: kill_feature(_settings(), asked))


@app.command()
def use(
    model: Annotated[str, typer.Argument(help="The model.")],
    days: Annotated[
        int, typer.Option(min=1, max=40, help="Over so many days, today's the last.")
    ] = 7,
) -> None:
    """Show who uses a model, by tier: requests, and different users."""
    from tidegate.cli.using import tell_use  # noqa: PLC0415

    _print(lambda: tell_use(_settings(), model, days))


def main() -> None:
    """Run the command line, and leave with its exit code."""
    try:
        app(prog_name="tidegate")
    except SystemExit as end:
        leave(end.code if isinstance(end.code, int) else 1)


def _act(by: str, reason: str) -> "Act":
    from tidegate.messages.common import Act  # noqa: PLC0415

    return Act(by=by or _me(), reason=reason)


def _steer(plan: str, verb: str, order: "Act", done: str) -> None:
    from tidegate.cli.steering import steer_plan  # noqa: PLC0415

    _do(lambda plane: steer_plan(plane, plan, verb, order), done)


def _do(act: "Callable[[ControlPlane], Awaitable[None]]", done: str) -> None:
    async def told(plane: "ControlPlane") -> list[str]:
        await act(plane)
        return [done]

    _run(told)


def _run(act: "Callable[[ControlPlane], Awaitable[Iterable[str]]]") -> None:
    async def connected() -> Iterable[str]:
        from tidegate.edges.temporal import connect  # noqa: PLC0415
        from tidegate.signing import find_keyring  # noqa: PLC0415

        settings = _settings()
        keys = find_keyring(settings.keys_file)
        return await act(await connect(settings.temporal, settings.namespace, keys))

    _print(connected)


def _print(act: Callable[[], Awaitable[Iterable[str]]]) -> None:
    async def awaited() -> Iterable[str]:
        return await act()

    try:
        for line in asyncio.run(awaited()):
            typer.echo(line)
    except TidegateError as error:
        lines = error.mistakes if isinstance(error, PlanError) else (str(error),)
        for line in lines:
            typer.echo(line, err=True)
        code = next(code for kind, code in EXIT_CODES if isinstance(error, kind))
        raise typer.Exit(code) from None


def _settings() -> Settings:
    return Settings.from_environment(os.environ)


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
