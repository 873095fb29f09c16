"""Following a gateway's snapshot over HTTP, where a service has no way to Redis."""

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Final

import aiohttp
import structlog
from pydantic import ValidationError

from tidegate.changes import Change, offered_by
from tidegate.edges.stored import SnapshotFile
from tidegate.errors import Unavailable
from tidegate.holding import SnapshotHolder

_log = structlog.get_logger(__name__)

_CONNECT_S: Final = 2.0
_SILENT_S: Final = 75.0
"""A gateway says that it is alive every 30 s; one that misses two is left."""
_LARGEST_BYTES: Final = 256 * 1024 * 1024
_BACK_OFF_FIRST_S: Final = 0.1
_BACK_OFF_MOST_S: Final = 2.0


class StreamFollower:
    """Keeps the holder as new as a gateway, and the last state where the gateway is lost."""

    def __init__(
        self,
        url: str,
        holder: SnapshotHolder,
        file: SnapshotFile,
        *,
        api_key: str | None = None,
        silent_s: float = _SILENT_S,
    ) -> None:
        """Show `api_key` where there is one."""
        self._url = url.rstrip("/") + "/v1/snapshot/stream"
        self._holder = holder
        self._file = file
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_S, sock_read=silent_s
        )
        self._shown = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._back_off_s = _BACK_OFF_FIRST_S
        self._is_heard: bool | None = None

    def start_from_disk(self) -> None:
        """Take the snapshot that was saved, if there is one."""
        self._holder.take(self._file.load())

    async def run(self) -> None:
        """Follow until cancelled, through any loss."""
        async with aiohttp.ClientSession(timeout=self._timeout, headers=self._shown) as http:
            while True:
                try:
                    await self._follow(http)
                except (aiohttp.ClientError, OSError, ValidationError, Unavailable) as error:
                    self._tell(is_heard=False, reason=str(error) or type(error).__name__)
                await asyncio.sleep(self._back_off_s)
                self._back_off_s = min(2.0 * self._back_off_s, _BACK_OFF_MOST_S)

    async def _follow(self, http: aiohttp.ClientSession) -> None:
        async with http.get(self._url, allow_redirects=False) as answer:
            if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
                raise Unavailable(
                    f"{self._url} answered {answer.status}: it wants an API key that may name "
                    "every tier. Set TIDEGATE_API_KEY, or give api_key=",
                    code="caller-unknown",
                )
            if answer.status != HTTPStatus.OK:
                raise Unavailable(f"{self._url} answered {answer.status}", code="gateway")
            async for event in _events(answer.content):
                if event.startswith(b"data: "):
                    self._take(Change.model_validate_json(event.removeprefix(b"data: ")))
        raise Unavailable("the gateway ended the stream", code="gateway")

    def _take(self, change: Change) -> None:
        self._tell(is_heard=True)
        before = self._holder.now_held.snapshot
        offered = offered_by(change, before)
        if offered is None:
            # As where what was saved here is newer than what the gateway holds.
            raise Unavailable("the gateway renewed what is not held here", code="gateway")
        self._back_off_s = _BACK_OFF_FIRST_S
        if self._holder.take(offered):
            held = self._holder.now_held.snapshot
            if held.intent is not before.intent or held.kills != before.kills:
                self._file.save(held)

    def _tell(self, *, is_heard: bool, reason: str = "") -> None:
        if is_heard is not self._is_heard:
            self._is_heard = is_heard
            if is_heard:
                _log.info("gateway.found", url=self._url)
            else:
                _log.warning("gateway.lost", reason=reason, then="the last snapshot stays")


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield the events of a stream, which end at an empty line; each is one line of ours."""
    waiting = bytearray()
    async for chunk in content.iter_any():
        begins = max(0, len(waiting) - 1)
        waiting += chunk
        while (end := waiting.find(b"\n\n", begins)) >= 0:
            yield bytes(waiting[:end])
            del waiting[: end + 2]
            begins = 0
        if len(waiting) > _LARGEST_BYTES:
            raise Unavailable(f"an event of over {_LARGEST_BYTES} bytes", code="gateway")
