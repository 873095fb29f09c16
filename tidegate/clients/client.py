"""The in-process client: the gateway's decision without the way to it."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tidegate.edges.follower import Follower
from tidegate.edges.gateway_stream import StreamFollower
from tidegate.edges.redis import Redis
from tidegate.edges.stored import SnapshotFile
from tidegate.errors import PlanError
from tidegate.holding import Held, SnapshotHolder
from tidegate.rules.outcome import NOTHING_SAID, Asks, Attributes, Outcome, Question
from tidegate.settings import variable
from tidegate.signing import read_keyring

READY_WITHIN_S: Final = 5.0
_LOOK_EVERY_S: Final = 1.0
_STOP_WITHIN_S: Final = 5.0
_SCHEMES: Final = frozenset({"http", "https", "redis", "rediss", "unix"})
_WHERE_KEYS_ARE: Final = "Give keys= the file that they have, or leave it out."


class Client:
    """Answers from the snapshot that `holder` holds; a service that embeds it vouches for tiers.

    Before anything was heard every feature is unknown, and so every answer is no. Any thread may
    ask.
    """

    def __init__(self, holder: SnapshotHolder) -> None:
        self._holder = holder
        self._heard = asyncio.Event()
        self._take()
        holder.listen(lambda _: self._take())

    @property
    def held(self) -> Held:
        """The one state that everything in a request should be answered from."""
        return self._holder.now_held

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
async def follow(
    address: str,
    state: Path,
    *,
    keys: Path | None = None,
    api_key: str | None = None,
    ready_within_s: float = READY_WITHIN_S,
) -> AsyncIterator[Client]:
    """Follow what is published, and yield a client, ready or not after `ready_within_s`.

    `address` is Redis' (`redis://…`) or a gateway's (`http://…`). `state` is a folder of this
    process's own for the last good snapshot, to start from while neither is there. `api_key` is
    shown to a gateway, by default the one in TIDEGATE_API_KEY. `keys` is the
    gateways' file of signing keys: without it, orders to close a feature that are read from Redis
    are not believed; a gateway has checked those that it sends. Raises PlanError for an address
    that is none, and for keys that are not there or cannot be read.
    """
    holder = SnapshotHolder()
    client = Client(holder)
    async with _following(holder, address, state, keys, api_key):
        await client.until_ready(ready_within_s)
        yield client


@contextmanager
def follow_in_background(
    address: str,
    state: Path,
    *,
    keys: Path | None = None,
    api_key: str | None = None,
    ready_within_s: float = READY_WITHIN_S,
) -> Iterator[Client]:
    """Do the same from a thread, for services that have no event loop."""
    background = Background(address, state, keys=keys, api_key=api_key)
    background.start()
    try:
        background.until_ready(ready_within_s)
        yield background.client
    finally:
        background.stop()


class Background:
    """Follows in a thread of its own, between `start` and `stop`.

    A thread does not survive a fork: a server that forks its workers starts one in each.
    """

    def __init__(
        self,
        address: str,
        state: Path,
        *,
        keys: Path | None = None,
        api_key: str | None = None,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        """Call `look` in that thread whenever something was taken, and once a second."""
        self._holder = SnapshotHolder()
        self._heard = threading.Event()
        self._where = (address, state, keys, api_key)
        self._look = look
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._has_begun = threading.Event()
        self._failed: Exception | None = None
        self._holder.listen(self._taken)
        self.client = Client(self._holder)
        """Answers from the first call on, from before anything was heard."""

    def start(self) -> None:
        """Begin to follow; returns once the saved snapshot was taken, if there is one.

        Raises what it could not begin by, such as PlanError for a wrong address or wrong keys.
        """
        self._has_begun.clear()
        self._failed = None
        self._thread = threading.Thread(target=self._run, name="tidegate", daemon=True)
        self._thread.start()
        self._has_begun.wait()
        if self._failed is not None:
            raise self._failed

    def until_ready(self, within_s: float = READY_WITHIN_S) -> bool:
        """Wait until a snapshot was heard, at most so long; returns whether it was."""
        return self._heard.wait(within_s)

    def stop(self) -> None:
        """Follow no longer; where nothing follows, do nothing."""
        if self._loop is not None and self._stopped is not None and self._thread is not None:
            with suppress(RuntimeError):  # a thread that has ended has closed its loop
                self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join(_STOP_WITHIN_S)
            self._loop = None

    def _run(self) -> None:
        try:
            asyncio.run(self._follow())
        except Exception as error:
            if self._has_begun.is_set():
                raise
            self._failed = error
        finally:
            self._has_begun.set()

    async def _follow(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        async with _following(self._holder, *self._where):
            self._has_begun.set()
            while not self._stopped.is_set():
                self._look()
                try:
                    async with asyncio.timeout(_LOOK_EVERY_S):
                        await self._stopped.wait()
                except TimeoutError:
                    continue

    def _taken(self, held: Held) -> None:
        if held.is_ready:
            self._heard.set()
        self._look()


@asynccontextmanager
async def _following(
    holder: SnapshotHolder, address: str, state: Path, keys: Path | None, api_key: str | None
) -> AsyncIterator[None]:
    url = _checked(address)
    keyring = None if keys is None else read_keyring(keys, next_step=_WHERE_KEYS_ARE)
    file = SnapshotFile(state / "client.json")
    follower: StreamFollower | Follower
    async with AsyncExitStack() as stack:
        if url.startswith("http"):
            follower = StreamFollower(url, holder, file, api_key=api_key or _key_set())
        else:
            redis = await stack.enter_async_context(Redis(url))
            follower = Follower(redis, holder, file, keys=keyring)
        follower.start_from_disk()
        following = asyncio.create_task(follower.run())
        try:
            yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


def _checked(address: str) -> str:
    """Return an address with its scheme in lower case; raises PlanError where it is none."""
    scheme, separator, rest = address.partition("://")
    url = f"{scheme.lower()}{separator}{rest}"
    try:
        parts = urlsplit(url)
        is_somewhere = parts.path if parts.scheme == "unix" else parts.hostname
        is_good = parts.scheme in _SCHEMES and bool(is_somewhere) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good:
        message = (
            f'address: got "{address}", expected the URL of a gateway or of Redis. Write it like '
            '"http://127.0.0.1:8080" or "redis://127.0.0.1:6379/0".'
        )
        raise PlanError(message, code="address")
    return url


def _key_set() -> str | None:
    return os.environ.get(variable("api_key")) or None
