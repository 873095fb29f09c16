"""What people see of a budget in the Temporal UI, and what its owners need to hear."""

from datetime import datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from tidegate.messages.budget import ClaimStatus
    from tidegate.quantities import counted
    from tidegate.rules import ledger as rules
    from tidegate.rules.ledger import ClaimState, Ledger
    from tidegate.snapshot import DateRange
    from workflows.visibility import Visible


def show_budget(visible: Visible, book: Ledger) -> None:
    """Update search attributes and the current details."""
    waiting = rules.waiting(book)
    visible.show(
        kind="budget",
        state="short" if waiting else "enough",
        waiting_for="GPUs" if waiting else "nothing",
    )
    rows = [
        f"| {c.id} | {c.kind} | {c.state} | {c.priority} | {c.pool or ''} | {c.gpus} |"
        for c in book.claims.values()
    ]
    workflow.set_current_details(
        "\n".join(
            [
                _told(rules.balance(book)),
                "",
                "| claim | kind | state | priority | pool | GPUs |",
                "|---|---|---|---|---|---|",
                *rows,
            ]
        )
    )


def _told(balance: rules.Balance | None) -> str:
    if balance is None:
        return "Nobody has counted the GPUs yet."
    over = f", {balance.over_claimed} more than there are" if balance.over_claimed else ""
    return (
        f"{counted(balance.installed, 'GPU')}: {balance.in_use} in use, {balance.reserved} "
        f"reserved, {balance.lent} lent, {balance.sick} sick, {balance.unclaimed} unclaimed{over}"
    )


def differs(status: ClaimStatus, told: ClaimStatus | None, now: datetime) -> bool:
    """Say whether an owner would act or explain differently, knowing this."""
    if told is None:
        return True
    return (status.state, status.backed, status.installed_gpus) != (
        told.state,
        told.backed,
        told.installed_gpus,
    ) or (
        _moved(status.forecast, told.forecast, now)
        if status.state is ClaimState.WAITING
        else _is_over(told, now) and not _is_over(status, now)
    )


def _is_over(told: ClaimStatus, now: datetime) -> bool:
    """Say whether an owner still holds a range that has passed without replicas being ready."""
    return not told.backed and told.forecast is not None and told.forecast.p90 <= now


def _moved(forecast: DateRange | None, told: DateRange | None, now: datetime) -> bool:
    """Say whether a forecast is news: it came, it went, or it moved by a quarter of what is left.

    The forecast of an arrival that is overdue slides with the clock, and that alone is no news.
    """
    if forecast is None or told is None:
        return forecast is not told
    slack = max((told.p90 - now) / 4, timedelta(seconds=1))
    return abs(forecast.p50 - told.p50) > slack or abs(forecast.p90 - told.p90) > slack
