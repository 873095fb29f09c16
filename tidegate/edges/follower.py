"""Following what is published: by subscription, with a poll as backstop, through any loss."""

import asyncio
from typing import Final

import structlog

from tidegate.edges.redis import Redis
from tidegate.edges.stored import SnapshotFile
from tidegate.errors import Unavailable
from tidegate.holding import SnapshotHolder

_log = structlog.get_logger(__name__)

POLL_S: Final = 1.0
"""A publication that the subscription missed is in force after this long at most."""
_SAVE_EVERY_S: Final = 1.0
_BACK_OFF_FIRST_S: Final = 0.1
_BACK_OFF_MOST_S: Final = 1.0


class Follower:
    """Keeps the holder as new as Redis, and the last state where Redis is lost or empty."""

    def __init__(self, redis: Redis, holder: SnapshotHolder, file: SnapshotFile) -> None:
        self._redis = redis
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
                while True:
                    await self._read()
                    await changes.wait(POLL_S)
        except Unavailable as error:
            self._tell(redis_up=False, reason=str(error))
        except Exception as error:  # noqa: BLE001 - whatever is published, requests are answered
            if str(error) != self._unusable_because:
                _log.exception("snapshot.unusable")
            self._unusable_because = str(error)

    async def _read(self) -> None:
        before = self._holder.now_held.snapshot.intent
        offered = await self._redis.snapshot()
        self._tell(redis_up=True)
        self._back_off_s = _BACK_OFF_FIRST_S
        self._unsaved |= self._holder.take(offered)
        intent = self._holder.now_held.snapshot.intent
        if intent is not None and intent is not before:
            if before is None or intent.features != before.features:
                _log.info("intent.taken", version=intent.version, features=len(intent.features))
            self._save()
        # Gates move each second; so that many pools do not mean many writes, they share one.
        elif asyncio.get_running_loop().time() - self._saved_at >= _SAVE_EVERY_S:
            self._save()

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
