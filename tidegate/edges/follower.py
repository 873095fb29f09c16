"""Following what is published: by subscription, with a poll as backstop, through any loss."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from tidegate.edges.redis import Redis
from tidegate.edges.stored import SnapshotFile
from tidegate.errors import Unavailable
from tidegate.holding import SnapshotHolder
from tidegate.kills import KillReader
from tidegate.signing import Keyring
from tidegate.snapshot import KillPart, Snapshot, is_same_intent

_log = structlog.get_logger(__name__)

POLL_S: Final = 1.0
"""A publication that the subscription missed is in force after this long at most."""
_SAVE_EVERY_S: Final = 1.0
_BACK_OFF_FIRST_S: Final = 0.1
_BACK_OFF_MOST_S: Final = 1.0


class Follower:
    """Keeps the holder as new as Redis, and the last state where Redis is lost or empty."""

    def __init__(
        self,
        redis: Redis,
        holder: SnapshotHolder,
        file: SnapshotFile,
        *,
        keys: Keyring | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Believe orders to close a feature that `keys` signed; none without keys."""
        self._redis = redis
        self._kills = KillReader(keys)
        self._clock = clock
        self._holder = holder
        self._file = file
        self._unsaved = False
        self._saved_at = float("-inf")
        self._unusable_because = ""
        self._back_off_s = _BACK_OFF_FIRST_S
        self.redis_up: bool | None = None
        """None until Redis has answered or failed to."""

    def start_from_disk(self) -> None:
        """Take the snapshot that was saved, if there is one."""
        if self._holder.take(self._file.load()):
            _log.info("snapshot.loaded", **self._holder.now_held.snapshot.versions())

    async def run(self) -> None:
        """Follow until cancelled."""
        try:
            while True:
                await self._follow_until_lost()
                await asyncio.sleep(self._back_off_s)
                self._back_off_s = min(2.0 * self._back_off_s, _BACK_OFF_MOST_S)
        finally:
            self._save()

    async def _follow_until_lost(self) -> None:
        try:
            # Subscribed before reading, so that nothing published between the two is missed.
            async with self._redis.part_changes() as changes:
                clock, looked_at, changed = asyncio.get_running_loop().time, -POLL_S, ""
                while True:
                    if not changed or clock() - looked_at >= POLL_S:
                        changed, looked_at = "", clock()
                    await self._read(changed)
                    changed = await changes.wait(max(0.0, looked_at + POLL_S - clock())) or ""
        except Unavailable as error:
            self._tell(redis_up=False, reason=str(error))
        except Exception as error:  # noqa: BLE001 - whatever is published, requests are answered
            if str(error) != self._unusable_because:
                _log.exception("snapshot.unusable")
            self._unusable_because = str(error)

    async def _read(self, only: str) -> None:
        before = self._holder.now_held.snapshot
        published = await self._redis.published(before.versions(), only=only)
        self._tell(redis_up=True)
        self._back_off_s = _BACK_OFF_FIRST_S
        orders = self._kills.verified(published.kills, before.kills)
        self._take(published.snapshot, orders)
        held = self._holder.now_held.snapshot
        intent = held.intent
        if intent is not None and intent is not before.intent:
            if not is_same_intent(intent, before.intent):
                _log.info("intent.taken", version=intent.version, features=len(intent.features))
            self._save()
        # Gates move each second; so that many pools do not mean many writes, they share one.
        elif held.kills != before.kills or self._is_save_due():
            self._save()
        await self._echo(published.kills, orders)

    def _take(self, offered: Snapshot, orders: Mapping[str, KillPart]) -> None:
        now = self._clock()
        before = self._holder.now_held.snapshot.kills
        in_force = self._kills.in_force(orders, before, now)
        self._unsaved |= self._holder.take(offered.model_copy(update={"kills": in_force}))
        for feature in self._holder.forget_kills(now):
            self._unsaved = True
            _log.info("kill.ended", feature=feature)
        for feature, kill in self._holder.now_held.snapshot.kills.items():
            if kill is not before.get(feature):
                told = kill.model_dump(exclude={"token", "kept_until"})
                _log.warning("kill.taken", **told)

    async def _echo(self, published: Mapping[str, str], orders: Mapping[str, KillPart]) -> None:
        """Publish an order again where Redis lost it: it is signed, so anybody may."""
        for feature, kill in self._holder.now_held.snapshot.kills.items():
            known = orders.get(feature)
            if kill.token and (known is None or known.version < kill.version):
                is_broken = feature in published and known is None
                seen = known.token if known is not None else ""
                await self._redis.publish_kill(kill, over=None if is_broken else seen)

    def _is_save_due(self) -> bool:
        return asyncio.get_running_loop().time() - self._saved_at >= _SAVE_EVERY_S

    def _save(self) -> None:
        if self._unsaved:
            self._file.save(self._holder.now_held.snapshot)
            self._saved_at = asyncio.get_running_loop().time()
            self._unsaved = False

    def _tell(self, *, redis_up: bool, reason: str = "") -> None:
        if redis_up is not self.redis_up:
            self.redis_up = redis_up
            if redis_up:
                _log.info("redis.found")
            else:
                _log.warning("redis.lost", reason=reason, then="the last snapshot stays in force")
