"""What people see of a retirement: in the Temporal UI, and in what the model says of itself."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from tidegate.messages.model import Going
    from tidegate.messages.retirement import RetirementOrder, RetirementPhase, RetirementState
    from tidegate.rules.retiring import steps_of
    from workflows.steered import what_it_waits_for
    from workflows.visibility import Visible

_GONE = frozenset({RetirementPhase.SUNSET, RetirementPhase.DRAINED, RetirementPhase.RETIRED})


def what_is_told(
    order: RetirementOrder, state: RetirementState, *, is_stopped: bool
) -> Going | None:
    """Return how the model goes, as anybody may know; None before the announcement, or never.

    Dates are those of the plan, moved by pauses and holds. While it stands still nobody knows
    them, and no brownout may come.
    """
    spec = order.spec
    if state.phase in {RetirementPhase.PLANNED, RetirementPhase.TAKEN_BACK}:
        return None
    is_gone = state.phase in _GONE
    shifted = [
        window.model_copy(
            update={"start": window.start + state.shift, "end": window.end + state.shift}
        )
        for window in spec.brownouts
    ]
    planned = None if is_stopped else spec.sunset_at + state.shift
    return Going(
        successor=spec.successor,
        deprecated_at=spec.announced_at,
        sunset_at=state.sunset_at or planned,
        brownouts=() if is_stopped or is_gone else tuple(shifted),
        link=spec.link,
        personality=spec.personality,
        is_restricted=state.is_restricted,
        gone=dict(state.gone),
        retired_at=state.sunset_at if is_gone and not state.spared else None,
        spared=tuple(state.spared),
    )


def show_retirement(visible: Visible, order: RetirementOrder, state: RetirementState) -> None:
    """Update search attributes and the current details."""
    spec, waits = order.spec, what_it_waits_for(state)
    visible.show(
        kind="retirement",
        state=str(state.phase),
        waiting_for="nothing" if state.is_over else str(waits),
        owner=spec.owner,
    )
    rows = [
        f"| {step.id} | {step.at + state.shift:%F %H:%M} | {_mark(step.id, state)} |"
        for step in steps_of(spec, order.tiers)
    ]
    gone, kept = (", ".join(tiers) or "nobody" for tiers in (state.gone, state.spared))
    lacks = f" {state.lacks}. `tidegate promote {order.plan_id}` goes on." if state.lacks else ""
    told = [
        f"**{spec.model}** is {state.phase}, and waits for **{waits}**.{lacks}",
        "",
        f"Gone for {gone}, kept by {kept}.",
        "",
        "| step | at | |",
        "|---|---|---|",
        *rows,
        "",
        "Other dates: apply its manifest again.",
        f'`tidegate reverse {order.plan_id} --tier TIER --reason "…"` takes it back.',
    ]
    workflow.set_current_details("\n".join(told))


def _mark(step: str, state: RetirementState) -> str:
    return "done" if step in state.done else ""
