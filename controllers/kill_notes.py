"""Telling each feature's entity of orders that closed it without Temporal."""

from datetime import UTC, datetime

import structlog

from tidegate.edges.redis import Redis
from tidegate.edges.temporal import ControlPlane
from tidegate.errors import Refused
from tidegate.kills import KillReader, is_lift, is_over
from tidegate.messages.feature import KillNote
from tidegate.signing import Keyring
from tidegate.snapshot import KillPart

_log = structlog.get_logger(__name__)


class KillNotes:
    """Tells of each order once, and drops it from Redis when it is over and was told."""

    def __init__(self, redis: Redis, plane: ControlPlane, keys: Keyring | None) -> None:
        self._redis = redis
        self._plane = plane
        self._reader = KillReader(keys)
        self._noted: dict[str, KillPart] = {}

    async def tick(self, now: float) -> None:
        """Look for orders and tell of them; raises Unavailable where nobody hears it."""
        published = await self._redis.published()
        orders = self._reader.verified(published.kills, self._noted)
        for feature, order in orders.items():
            if self._noted.get(feature) != order:
                await self._tell(order)
                self._noted[feature] = order
            if is_over(order, now):
                await self._redis.drop_kill(order)
        self._noted = {name: order for name, order in self._noted.items() if name in orders}

    async def _tell(self, order: KillPart) -> None:
        note = KillNote(
            version=order.version,
            is_lift=is_lift(order),
            until=datetime.fromtimestamp(order.expires_at, UTC),
            tiers=order.tiers,
            by=order.by,
            reason=order.reason,
        )
        try:
            await self._plane.ask_feature(order.feature, "note_kill", note)
        except Refused as error:
            # Nobody declared it, so there is no history to keep it in.
            _log.warning("kill.unnoted", feature=order.feature, reason=str(error))
