"""`tidegate kill`: signed, straight into the snapshot; Temporal is not asked."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pydantic import TypeAdapter, ValidationError

from tidegate.edges.redis import Redis
from tidegate.errors import PlanError, Refused
from tidegate.kills import LONGEST_S, KillReader, lift, sign_order, succeed
from tidegate.mistakes import nearest
from tidegate.quantities import Instant, parse_duration
from tidegate.settings import Settings
from tidegate.signing import Keyring, read_keyring
from tidegate.snapshot import IntentPart, KillPart, kill_part

_WHERE_KEYS_ARE: Final = "Set TIDEGATE_KEYS, or TIDEGATE_STATE, to where they are."
_REASON_CHARACTERS: Final = 200
_TRIES: Final = 5
_TAKEN_WITHIN_S: Final = 3.0
_LOOK_EVERY_S: Final = 0.1
_GATEWAY_LIVES_S: Final = 5.0
_INSTANT: Final[TypeAdapter[datetime]] = TypeAdapter(Instant)


@dataclass(frozen=True, slots=True)
class Asked:
    """What was typed; `until` is empty for a lift alone."""

    feature: str
    until: str
    reason: str
    tiers: tuple[str, ...]
    by: str
    is_lift: bool


async def kill_feature(settings: Settings, asked: Asked) -> list[str]:
    """Close a feature, or lift the order that closes it; returns what came of it.

    Raises PlanError for what is typed wrong, Refused where it would not only narrow.
    """
    now = time.time()
    order = _order(asked, now)
    keys = read_keyring(settings.keys_file, next_step=_WHERE_KEYS_ARE)
    async with Redis(settings.redis) as redis:
        _check_names((await redis.snapshot()).intent, asked)
        signed = await _publish(redis, keys, order, is_lift=asked.is_lift)
        return [_done(signed, is_lift=asked.is_lift), *await _who_took_it(redis, signed)]


def read_until(text: str, now: float) -> float:
    """Return the instant that a duration from now, or an instant, names; raises PlanError."""
    try:
        until = now + parse_duration(text).total_seconds()
    except ValueError:
        try:
            until = _INSTANT.validate_python(text).timestamp()
        except ValidationError:
            raise _wrong_until(text) from None
    if not now < until <= now + LONGEST_S:
        raise _wrong_until(text)
    return until


def _wrong_until(text: str) -> PlanError:
    message = (
        f'--until: got "{text}", expected an end within 7 days. '
        'Write a duration such as "2h", or an instant such as "2026-03-04T09:00:00Z".'
    )
    return PlanError(message, code="kill-until")


def _order(asked: Asked, now: float) -> KillPart:
    if not asked.reason.strip() or len(asked.reason) > _REASON_CHARACTERS:
        message = (
            f"--reason: got {len(asked.reason)} characters, expected 1 to {_REASON_CHARACTERS}. "
            "Say why; users' services show it."
        )
        raise PlanError(message, code="kill-reason")
    if asked.is_lift and (asked.until or asked.tiers):
        message = "--lift: got --until or --tier as well. A lift is whole and at once; drop them."
        raise PlanError(message, code="kill-lift")
    return KillPart(
        feature=asked.feature,
        version=0,
        issued_at=now,
        expires_at=now if asked.is_lift else read_until(asked.until, now),
        tiers=asked.tiers or None,
        by=asked.by,
        reason=asked.reason,
    )


def _check_names(intent: IntentPart | None, asked: Asked) -> None:
    """Refuse what nobody published; after a loss nothing is, and an emergency does not wait."""
    # Whatever is closed can be lifted, be it published or not.
    if intent is None or asked.is_lift:
        return
    _check_name("feature", asked.feature, intent.features)
    for tier in asked.tiers:
        _check_name("--tier", tier, intent.tiers)


def _check_name(field: str, name: str, known: Mapping[str, object]) -> None:
    if name in known:
        return
    near = nearest(name, known)
    hint = f'Did you mean "{near}"?' if near else "Write one of them."
    expected = ", ".join(sorted(known)) or "none, as none is published"
    raise PlanError(f'{field}: got "{name}", expected one of {expected}. {hint}', code="kill-name")


async def _publish(redis: Redis, keys: Keyring, order: KillPart, *, is_lift: bool) -> KillPart:
    follow = lift if is_lift else succeed
    for _ in range(_TRIES):
        published = await redis.published()
        before = KillReader(keys).verified(published.kills, {}).get(order.feature)
        _, gateways = await redis.readings()
        name = kill_part(order.feature)
        seen = max((gateway.seen.get(name, 0) for gateway in gateways), default=0)
        signed = sign_order(follow(before, order, seen=seen, now=order.issued_at), keys)
        is_broken = before is None and order.feature in published.kills
        over = None if is_broken else (before.token if before else "")
        if await redis.publish_kill(signed, over=over):
            return signed
    message = f'kill "{order.feature}": others write orders for it at this moment. Type it again.'
    raise Refused(message, code="kill-contended")


def _done(order: KillPart, *, is_lift: bool) -> str:
    if is_lift:
        return f"{order.feature} is no longer closed by order"
    whom = "all tiers" if order.tiers is None else ", ".join(order.tiers)
    until = datetime.fromtimestamp(order.expires_at, UTC)
    return f"{order.feature} is closed for {whom} until {until:%F %H:%M:%S} UTC"


async def _who_took_it(redis: Redis, order: KillPart) -> Iterable[str]:
    """Wait until every gateway that reports has it, at most three seconds, and say which have."""
    name = kill_part(order.feature)
    deadline_at = time.monotonic() + _TAKEN_WITHIN_S
    while True:
        _, readings = await redis.readings()
        now = time.time()
        alive = [r for r in readings if abs(now - r.at) < _GATEWAY_LIVES_S]
        # One that has forgotten a lifted order already says nothing of it.
        lacking = [
            r.gateway
            for r in alive
            if r.seen.get(name, 0) < order.version
            and not (name not in r.seen and order.kept_until <= now)
        ]
        if (alive and not lacking) or time.monotonic() > deadline_at:
            break
        await asyncio.sleep(_LOOK_EVERY_S)
    if not alive:
        return ["no gateway reports; each takes the order when it finds Redis"]
    lines = [f"{len(alive) - len(lacking)} of {len(alive)} gateways have it"]
    lines += [f"{gateway} has not: look at kill.refused in its log" for gateway in lacking]
    return lines
