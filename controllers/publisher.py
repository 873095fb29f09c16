"""The publisher: asks the entities what people decided, and publishes it as one part."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from controllers.kill_notes import KillNotes
from tidegate.edges.preview_keys import PreviewKeys
from tidegate.edges.redis import Redis
from tidegate.edges.temporal import ControlPlane
from tidegate.errors import Unavailable
from tidegate.manifests import Manifests
from tidegate.messages.feature import FeatureState
from tidegate.messages.preview import PreviewOrder
from tidegate.rules.intent import compile_intent
from tidegate.rules.ledger import Ledger
from tidegate.signing import Keyring
from tidegate.snapshot import INTENT, IntentPart, next_version

ASK_EVERY_S: Final = 5.0
"""Everybody is asked this often, whether or not an event said that something changed."""
RENEW_EVERY_S: Final = 5.0
LIVES_S: Final = 60.0
"""A part says for how long it may be relied on."""
_ASK_WITHIN_S: Final = 3.0
"""A part that Redis lost is published again after this, at the latest, whoever does not answer."""
_NUDGES: Final = ("catalogue.", "feature.", "model.", "claim.", "supply.", "preview.")


class Publisher:
    """The only writer of the intent part."""

    def __init__(
        self,
        redis: Redis,
        plane: ControlPlane,
        previews: PreviewKeys,
        keys: Keyring | None = None,
    ) -> None:
        self._redis = redis
        self._plane = plane
        self._previews = previews
        self._kills = KillNotes(redis, plane, keys)
        self._heard = "0"
        self._asked_at = 0.0
        self._intent: IntentPart | None = None

    async def wake(self, wait_s: float) -> None:
        """Return when an event is there to be heard, at the latest after `wait_s`."""
        await self._redis.events(after=self._heard, wait_s=wait_s)

    async def tick(self, now: float) -> None:
        """Publish the intent where it changed, is about to expire, or was lost.

        Then tell the entities of orders that closed a feature without them.
        """
        nudged = await self._was_nudged()
        snapshot = await self._redis.snapshot()
        lost = snapshot.intent is None and self._intent is not None
        if lost and self._intent is not None:
            # At once; what has changed since follows. It is as old as it was, and not renewed.
            await self._publish(self._intent, now, issued_at=self._intent.issued_at)
        if nudged or lost:
            self._asked_at = 0.0  # until somebody has answered
        if not 0.0 <= now - self._asked_at < ASK_EVERY_S:
            intent = await self._ask_in_time(now)
            self._asked_at = now
            if intent is not None and self._is_due(intent, now):
                await self._publish(intent, now, issued_at=now)
        await self._kills.tick(now)

    def _is_due(self, intent: IntentPart, now: float) -> bool:
        held = self._intent
        # A clock that was set back makes it due as well.
        if held is None or not 0.0 <= now - held.issued_at < RENEW_EVERY_S:
            return True
        unstamped = {"version": 0, "issued_at": 0.0, "expires_at": 0.0}
        return held.model_copy(update=unstamped) != intent

    async def _was_nudged(self) -> bool:
        nudged = False
        while (heard := await self._redis.events(after=self._heard)).after != self._heard:
            self._heard = heard.after
            nudged = nudged or any(event.type.startswith(_NUDGES) for event in heard.events)
        return nudged

    async def _ask_in_time(self, now: float) -> IntentPart | None:
        try:
            async with asyncio.timeout(_ASK_WITHIN_S):
                return await self._ask(now)
        except TimeoutError as error:
            message = (
                f"temporal: no answer in {_ASK_WITHIN_S:g} s. "
                "Check that Temporal and a worker are running."
            )
            raise Unavailable(message, code="temporal-unavailable") from error

    async def _ask(self, now: float) -> IntentPart | None:
        catalogue = await self._plane.catalogue()
        if catalogue is None:
            return None
        declared = catalogue.declared
        features = {name: await self._plane.feature(name) for name in declared.features}
        models = {name: await self._plane.model(name) for name in declared.models}
        budgets = {name: await self._plane.budget(name) for name in declared.budgets}
        invited = await self._invited(declared)
        return compile_intent(
            declared,
            {name: _with(state, invited) for name, state in features.items() if state is not None},
            {name: state for name, state in models.items() if state is not None},
            {name: Ledger() if b is None else b.ledger for name, b in budgets.items()},
            datetime.fromtimestamp(now, UTC),
        )

    async def _invited(self, declared: Manifests) -> Mapping[str, tuple[str, ...]]:
        """Return who is invited to a feature by its preview; nobody where the key is gone."""
        found: dict[str, tuple[str, ...]] = {}
        for name, spec in declared.previews.items():
            order = await self._plane.plan(f"{PreviewOrder.kind}/{name}", PreviewOrder)
            sealed = [] if order is None else order.state.invited
            opened = (self._previews.open(name, each) for each in sealed)
            found[spec.feature] = tuple(user for user in opened if user is not None)
        return found

    async def _publish(self, intent: IntentPart, now: float, *, issued_at: float) -> None:
        _, gateways = await self._redis.readings(gpus=False)
        held = (await self._redis.snapshot()).intent
        seen = max(
            [gateway.seen.get(INTENT, 0) for gateway in gateways]
            + [part.version for part in (held, self._intent) if part is not None],
            default=0,
        )
        part = intent.model_copy(
            update={
                "version": next_version(now, seen),
                "issued_at": issued_at,
                "expires_at": issued_at + LIVES_S,
            }
        )
        if await self._redis.publish(part):
            self._intent = part


def _with(state: FeatureState, invited: Mapping[str, tuple[str, ...]]) -> FeatureState:
    """Return a feature whose invited users are those of its preview as well."""
    users = invited.get(state.name, ())
    if state.spec is None or not users:
        return state
    spec = state.spec.model_copy(update={"invited": (*state.spec.invited, *users)})
    return state.model_copy(update={"spec": spec})
