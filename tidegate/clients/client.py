"""The in-process client: the gateway's decision without the way to it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tidegate.edges.follower import Follower
from tidegate.edges.redis import Redis
from tidegate.edges.stored import SnapshotFile
from tidegate.holding import SnapshotHolder
from tidegate.rules.outcome import NOTHING_SAID, Asks, Attributes, Outcome, Question
from tidegate.signing import load_keyring

READY_WITHIN_S: Final = 5.0


class Client:
    """Answers from the snapshot that `holder` holds; a service that embeds it vouches for tiers.

    Before anything was heard every feature is unknown, and so every answer is no.
    """

    def __init__(self, holder: SnapshotHolder) -> None:
        self._holder = holder
        self._heard = asyncio.Event()
        self._take()
        holder.listen(lambda _: self._take())

    @property
    def is_ready(self) -> bool:
        """Whether a snapshot was heard."""
        return self._holder.now_held.is_ready

    @property
    def is_stale(self) -> bool:
        """Whether what people decided has expired, and nothing newer was heard."""
        intent = self._holder.now_held.snapshot.intent
        return intent is not None and time.time() > intent.expires_at

    def may_use(
        self,
        feature: str,
        user: str,
        tier: str,
        surface: str = "api",
        attributes: Attributes = NOTHING_SAID,
    ) -> Outcome:
        """Answer whether this user may use this feature now."""
        return self._decide(feature, user, tier, surface, time.time(), attributes)

    def may_sign_up(
        self,
        feature: str,
        user: str,
        tier: str,
        surface: str = "api",
        attributes: Attributes = NOTHING_SAID,
    ) -> Outcome:
        """Answer whether this user, who is outside, may come in now."""
        asked = Question(feature, user, tier, surface, attributes, Asks.SIGNUP)
        return self._holder.now_held.decider.answer(asked, time.time())

    async def until_ready(self, within_s: float = READY_WITHIN_S) -> bool:
        """Wait until a snapshot was heard, at most so long; returns whether it was."""
        try:
            async with asyncio.timeout(within_s):
                while not self.is_ready:
                    await self._heard.wait()
        except TimeoutError:
            return False
        return True

    def _take(self) -> None:
        # Bound once a snapshot, so that an answer does not look for who gives it.
        self._decide = self._holder.now_held.decider.decide
        if self.is_ready:
            self._heard.set()


@asynccontextmanager
async def follow_redis(
    url: str, state: Path, *, keys: Path | None = None, ready_within_s: float = READY_WITHIN_S
) -> AsyncIterator[Client]:
    """Follow what is published, and yield a client, ready or not after `ready_within_s`.

    `state` is a folder for the last good snapshot, to start from while Redis is away. `keys` is
    the gateways' file of signing keys: without it, orders to close a feature are not believed.
    """
    holder = SnapshotHolder()
    async with Redis(url) as redis:
        keyring = None if keys is None else load_keyring(keys)
        file = SnapshotFile(state / "client.json")
        follower = Follower(redis, holder, file, keys=keyring)
        follower.start_from_disk()
        client = Client(holder)
        following = asyncio.create_task(follower.run())
        try:
            await client.until_ready(ready_within_s)
            yield client
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
