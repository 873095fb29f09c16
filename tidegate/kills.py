"""Break-glass: a person's signed order to close a feature for a while, which only ever narrows."""

from collections.abc import Mapping
from typing import Final

import structlog
from pydantic import ValidationError

from tidegate.errors import Refused
from tidegate.signing import Keyring
from tidegate.snapshot import KillPart, next_version

_log = structlog.get_logger(__name__)

LONGEST_S: Final = 7 * 86_400.0
"""An order says when it ends, and that is never further away than this."""
_KIND: Final = "kill"
_UNSIGNED: Final = frozenset({"token"})


def sign_order(part: KillPart, keys: Keyring) -> KillPart:
    """Return the order with its token; raises Refused for one that no reader would take."""
    token = keys.sign(_KIND, part.model_dump(mode="json", exclude=set(_UNSIGNED)))
    return read_order(part.feature, token, keys)


def read_order(feature: str, token: str, keys: Keyring) -> KillPart:
    """Return the order that a token carries; raises Refused for one that is not to be believed."""
    claims = keys.verify(_KIND, token)
    try:
        part = KillPart.model_validate({**claims, "token": token})
    except ValidationError as error:
        raise _wrong(feature, "it is no order to close a feature") from error
    if part.feature != feature:
        raise _wrong(feature, f'it closes "{part.feature}"')
    # Written so that NaN, which compares with nothing, is refused.
    if not part.expires_at - part.issued_at <= LONGEST_S:
        raise _wrong(feature, "it lasts longer than 7 days")
    if not part.kept_until - part.issued_at <= LONGEST_S:
        raise _wrong(feature, "it is kept longer than 7 days")
    return part


def succeed(before: KillPart | None, order: KillPart, *, seen: int, now: float) -> KillPart:
    """Return the order with a version above the one before it and above any `seen`.

    Raises Refused where it would open for somebody, or earlier, what the one before still closes.
    """
    version = next_version(now, max(seen, before.version if before else 0))
    # Whoever repeats the order that this one ends must not find it forgotten.
    kept_until = max(order.expires_at, before.kept_until if before else 0.0)
    if before is not None and now < before.expires_at and _widens(before, order):
        message = (
            f'kill "{order.feature}": it is closed for {_whom(before)} until a later or the same '
            f"instant by {before.by}, and an order may only narrow. "
            "Name those tiers too and a later end, or lift it first: tidegate kill --lift."
        )
        raise Refused(message, code="kill-widens")
    return order.model_copy(update={"version": version, "kept_until": kept_until})


def lift(before: KillPart | None, order: KillPart, *, seen: int, now: float) -> KillPart:
    """Return an order that ends the one before; raises Refused where none is in force."""
    if before is None or now >= before.expires_at:
        message = f'kill "{order.feature}": no order closes it now. There is nothing to lift.'
        raise Refused(message, code="not-killed")
    version = next_version(now, max(seen, before.version))
    update = {"version": version, "expires_at": now, "kept_until": before.kept_until}
    return order.model_copy(update=update)


def is_over(part: KillPart, now: float) -> bool:
    """Whether an order may be forgotten: it, and whatever it replaced, is past its end."""
    return not now < max(part.expires_at, part.kept_until)


def is_lift(part: KillPart) -> bool:
    """Whether an order closes nothing, and only ends the one before."""
    return part.expires_at <= part.issued_at


class KillReader:
    """Believes published orders that are signed; one that is not is told once, and does nothing."""

    def __init__(self, keys: Keyring | None) -> None:
        self._keys = keys
        self._refused: dict[str, str] = {}
        self._over: dict[str, str] = {}

    def verified(
        self, published: Mapping[str, str], held: Mapping[str, KillPart]
    ) -> dict[str, KillPart]:
        """Return the orders that are signed, ended ones too; those `held` are known to be."""
        found: dict[str, KillPart] = {}
        refused: dict[str, str] = {}
        for feature, token in published.items():
            known = held.get(feature)
            if known is not None and known.token == token:
                found[feature] = known
            elif self._refused.get(feature) == token:
                refused[feature] = token
            else:
                try:
                    found[feature] = self._read(feature, token)
                except Refused as error:
                    refused[feature] = token
                    _log.warning("kill.refused", feature=feature, reason=str(error))
        self._refused = refused
        return found

    def in_force(
        self, orders: Mapping[str, KillPart], held: Mapping[str, KillPart], now: float
    ) -> dict[str, KillPart]:
        """Return the orders that are not over; one that is, and was never held, is told once."""
        over = {name: order.token for name, order in orders.items() if is_over(order, now)}
        for feature, token in over.items():
            if feature not in held and self._over.get(feature) != token:
                _log.warning("kill.over", feature=feature)
        self._over = over
        return {name: order for name, order in orders.items() if name not in over}

    def _read(self, feature: str, token: str) -> KillPart:
        if self._keys is None:
            raise _wrong(feature, "there are no keys here to check it with")
        return read_order(feature, token, self._keys)


def _widens(before: KillPart, order: KillPart) -> bool:
    if order.expires_at < before.expires_at:
        return True
    if order.tiers is None:
        return False
    return before.tiers is None or not set(before.tiers) <= set(order.tiers)


def _whom(part: KillPart) -> str:
    return "all tiers" if part.tiers is None else ", ".join(part.tiers)


def _wrong(feature: str, reason: str) -> Refused:
    message = f'kill "{feature}": got an order that is not to be believed: {reason}.'
    return Refused(message, code="kill-refused")
