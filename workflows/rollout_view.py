"""What people see of a rollout: in the Temporal UI, and in its reasons."""

from datetime import datetime

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from tidegate.messages.budget import ClaimStatus
    from tidegate.messages.rollout import RolloutOrder, RolloutState
    from tidegate.messages.steered import Waits
    from tidegate.plans import StageSpec
    from tidegate.quantities import counted, format_share
    from tidegate.rules.ledger import ClaimState
    from workflows.steered import what_it_waits_for
    from workflows.visibility import Visible


def what_is_awaited(claim: ClaimStatus) -> str:
    """Say what a claim lacks, in GPUs and dates."""
    gpus = counted(claim.gpus, "GPU")
    if claim.installed_gpus is None:
        return f"{gpus}; nobody has counted what is installed"
    if claim.state is ClaimState.WAITING:
        return (
            f"{gpus}: {claim.unclaimed_gpus} of {claim.installed_gpus} are unclaimed, "
            f"those inside need {claim.in_use_gpus}"
        )
    return f"{gpus} ready on top of the {claim.in_use_gpus} in use; {claim.ready_gpus} are ready"


def show_rollout(visible: Visible, order: RolloutOrder, state: RolloutState) -> None:
    """Update search attributes and the current details."""
    waits = what_it_waits_for(state)
    visible.show(
        kind="rollout",
        state=str(state.phase),
        feature=order.spec.feature,
        tier=next((", ".join(s.tiers) for s in order.spec.stages if s.name == state.stage), ""),
        waiting_for=str(waits),
        owner=order.spec.owner,
    )
    rows = [_row(stage, state) for stage in order.spec.stages]
    workflow.set_current_details(
        "\n".join(
            [
                f"Stage **{state.stage}** waits for **{waits}**. {_next_step(order, state)}",
                "",
                "| stage | tiers | exposure | GPUs | approved by | open since | verdict |",
                "|---|---|---|---|---|---|---|",
                *rows,
            ]
        )
    )


def _row(stage: StageSpec, state: RolloutState) -> str:
    progress = state.progress.get(stage.name)
    approved = progress.approved_by if progress else None
    approval = approved or (f"needs {stage.approval}" if stage.approval else "not needed")
    opened = f"{progress.exposed_at:%F %T}" if progress and progress.exposed_at else ""
    verdict = str(progress.verdict) if progress and progress.verdict else ""
    if progress and not verdict:
        verdict = "; ".join(f"{check}: {seen}" for check, seen in progress.seen.items())
    if progress and progress.skipped_at:
        verdict = "skipped"
    cells = [
        stage.name,
        ", ".join(stage.tiers),
        " ".join(map(format_share, stage.shares)),
        str(stage.reserve),
        approval,
        opened,
        verdict,
    ]
    return f"| {' | '.join(cells)} |"


def _next_step(order: RolloutOrder, state: RolloutState) -> str:
    name, stage = order.name, state.stage
    if state.hold is not None:
        role = state.hold.role
        return f"{role} holds it: {state.hold.reason}. `tidegate release {name} --role {role}`"
    if state.freezes:
        freeze = next(iter(state.freezes.values()))
        return f"{freeze.freeze_id} froze it: {freeze.reason}. It goes on when that ends"
    if state.paused is not None:
        return f"{state.paused.by} paused it. `tidegate resume {name}`"
    match state.waits:
        case Waits.APPROVAL:
            needed = next(s.approval for s in order.spec.stages if s.name == stage)
            return f"`tidegate approve {name} {stage} --role {needed}`"
        case Waits.PERSON:
            return (
                f"A check was inconclusive. `tidegate promote {name}`, `retry`, `skip` or `abort`"
            )
        case Waits.GPUS if state.claim is not None:
            forecast = state.claim.forecast
            when = f"{forecast.p50:%F %T} to {forecast.p90:%F %T}" if forecast else "unknown"
            return f"It lacks {what_is_awaited(state.claim)}. Expected: {when}"
        case Waits.DUE | Waits.BAKE:
            stops = (
                f"`tidegate pause {name}` stops it, `tidegate abort {name} --back stage` undoes it"
            )
            until = _until(order, state)
            return stops if until is None else f"Until {until:%F %T}. {stops}"
        case _:
            return ""


def _until(order: RolloutOrder, state: RolloutState) -> datetime | None:
    """Return when the stage is due, or has baked; None where that is not known."""
    stage = next(s for s in order.spec.stages if s.name == state.stage)
    if state.waits is Waits.DUE:
        return stage.starts_at and stage.starts_at + state.shift
    progress = state.progress.get(stage.name)
    if progress is None or progress.watched_since is None:
        return None
    since = progress.watched_since - progress.shift_when_watched
    return since + stage.bake_of(progress.steps) + state.shift
