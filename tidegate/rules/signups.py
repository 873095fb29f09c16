"""What an order does to a feature's sign-ups: suspended at once, reopened step by step."""

from typing import Final

from tidegate.messages.feature import SignupsOrder, SignupsVerb
from tidegate.quantities import format_share
from tidegate.snapshot import Signups

LONGEST_REASON: Final = 200


def after_order(held: Signups, order: SignupsOrder) -> Signups:
    """Return the sign-ups that an order comes to; an order that comes again changes nothing.

    Suspending lets nobody new in. Reopening adds cohorts and raises the share, and never takes
    either back; for all, or without either, it ends the suspension.
    """
    if order.verb is SignupsVerb.SUSPEND:
        return Signups(state="suspended", reason=order.reason)
    if _is_for_all(order):
        return Signups()
    cohorts = dict.fromkeys((*held.cohorts, *order.cohorts))
    share = max(held.share, order.share or 0.0)
    return held.model_copy(update={"cohorts": tuple(cohorts), "share": share})


def widens(before: Signups, after: Signups) -> bool:
    """Say whether some may come in after that could not before."""
    if before.state == "open" or after.state == "open":
        return before.state != after.state == "open"
    return after.share > before.share or not set(after.cohorts) <= set(before.cohorts)


def find_mistake(order: SignupsOrder) -> str | None:
    """Say what is wrong with an order whatever it meets; None where nothing is."""
    is_suspending = order.verb is SignupsVerb.SUSPEND
    if is_suspending and not order.reason.strip():
        return "reason: got nothing, expected why. Say it; whoever is refused is shown it."
    if len(order.reason) > LONGEST_REASON:
        return (
            f"reason: got {len(order.reason)} characters, expected at most {LONGEST_REASON}. "
            "Say it shorter."
        )
    if is_suspending and (order.cohorts or order.share is not None):
        named = f'"{order.cohorts[0]}"' if order.cohorts else format_share(order.share or 0.0)
        field = "cohort" if order.cohorts else "share"
        return (
            f"{field}: got {named}, expected none, as suspending is for everybody outside. "
            "Suspend first, then reopen."
        )
    for cohort in order.cohorts:
        if not cohort or "," in cohort or cohort != cohort.strip():
            return (
                f'cohort: got "{cohort}", expected one name without commas. '
                "Name each cohort by itself."
            )
    if order.share == 0.0:
        return (
            "share: got 0%, expected more than 0%. "
            'Write the share to let in, such as "10%", or suspend.'
        )
    return None


def find_conflict(feature: str, held: Signups, order: SignupsOrder) -> str | None:
    """Say why an order makes no sense as sign-ups stand; None where it does."""
    if order.verb is SignupsVerb.SUSPEND or _is_for_all(order):
        return None
    if held.state == "open":
        return (
            f'feature "{feature}": sign-ups are open for all, expected them suspended. '
            "There is nothing to reopen; suspend them first to let in some only."
        )
    if order.share is not None and order.share < held.share:
        reached = format_share(held.share)
        return (
            f'feature "{feature}": share: got {format_share(order.share)}, expected at least '
            f"{reached}, which is let in. Write more, or suspend first to let in fewer."
        )
    return None


def tell_signups(signups: Signups) -> str:
    """Say how sign-ups stand: `open`, `suspended`, or `suspended but for cohort beta`."""
    if signups.state == "open":
        return "open"
    let_in = tell_let_in(signups)
    return f"suspended but for {let_in}" if let_in else "suspended"


def tell_let_in(signups: Signups) -> str:
    """Say who may come in while sign-ups are suspended; empty where nobody may."""
    cohorts = f"cohort{'s' * (len(signups.cohorts) > 1)} {', '.join(signups.cohorts)}"
    share = f"{format_share(signups.share)} of those who ask"
    return " and ".join([cohorts] * bool(signups.cohorts) + [share] * (signups.share > 0.0))


def _is_for_all(order: SignupsOrder) -> bool:
    return not order.cohorts if order.share is None else order.share >= 1.0
