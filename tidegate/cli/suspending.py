"""`tidegate signups`: suspends and reopens them, and says how they stand then."""

from dataclasses import dataclass

from tidegate.edges.temporal import connect
from tidegate.errors import PlanError
from tidegate.messages.feature import SignupsOrder, SignupsVerb
from tidegate.mistakes import nearest
from tidegate.quantities import parse_share
from tidegate.rules.signups import find_mistake, tell_signups
from tidegate.settings import Settings
from tidegate.signing import find_keyring


@dataclass(frozen=True, slots=True)
class Asked:
    """What was typed; an empty share is one that a script failed to fill in, and not none."""

    feature: str
    verb: str
    cohorts: tuple[str, ...]
    share: str | None
    reason: str
    by: str


async def set_signups(settings: Settings, asked: Asked) -> list[str]:
    """Suspend or reopen; raises PlanError for what is typed wrong, Refused as the feature does."""
    order = read_order(asked)  # before anybody is asked
    keys = find_keyring(settings.keys_file)
    plane = await connect(settings.temporal, settings.namespace, keys)
    signups = await plane.set_signups(asked.feature, order)
    return [f"{asked.feature}: sign-ups are {tell_signups(signups)}"]


def read_order(asked: Asked) -> SignupsOrder:
    """Read what was typed; raises PlanError with what was found, expected, and to be done."""
    order = SignupsOrder(
        verb=_verb(asked.verb),
        cohorts=asked.cohorts,
        share=None if asked.share is None else _share(asked.share),
        reason=asked.reason,
        by=asked.by,
    )
    mistake = find_mistake(order)
    if mistake is not None:
        raise PlanError(f"--{mistake}", code="signups")
    return order


def _verb(text: str) -> SignupsVerb:
    try:
        return SignupsVerb(text)
    except ValueError as error:
        near = nearest(text, SignupsVerb)
        hint = f'Did you mean "{near}"?' if near else "Write one of the two."
        message = f'signups: got "{text}", expected suspend or reopen. {hint}'
        raise PlanError(message, code="signups") from error


def _share(text: str) -> float:
    try:
        return parse_share(text)
    except ValueError as error:
        raise PlanError(f'--share: got "{text}", {error}.', code="signups") from error
