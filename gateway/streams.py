"""Server-sent events: that answers have changed, for OpenFeature, and the snapshot for clients."""

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.replies import Reply, Request, Stream, encode, problem, retry_after
from tidegate.changes import change_between
from tidegate.holding import SnapshotHolder
from tidegate.rules.refusals import NOT_READY, NOT_READY_DETAIL
from tidegate.snapshot import Snapshot, changed_features

EVENTS_PATH: Final = b"/ofrep/v1/events"
MOST: Final = 1_000
COALESCED_S: Final = 0.1
"""Publications that come one after the other are told once."""
ALIVE_EVERY_S: Final = 30.0
_RETRY_S: Final = 10
_REFETCH: Final = b"data: " + encode({"type": "refetchEvaluation"}) + b"\n\n"

Send = Callable[[bytes], None]


class Streams:
    """Everybody who listens; each is told by the loop, and none is waited for."""

    def __init__(self, holder: SnapshotHolder, most: int = MOST) -> None:
        self._holder = holder
        self._most = most
        self._refetching: set[Send] = set()
        self._following: set[Send] = set()
        self._changed = asyncio.Event()
        self._told = holder.now_held.snapshot
        holder.listen(lambda _: self._changed.set())

    async def run(self) -> None:
        """Tell until cancelled."""
        told_at = asyncio.get_running_loop().time()
        while True:
            try:
                async with asyncio.timeout(ALIVE_EVERY_S):
                    await self._changed.wait()
            except TimeoutError:
                self._tell(self._refetching | self._following, b": alive\n\n")
                continue
            self._changed.clear()
            before, self._told = self._told, self._holder.now_held.snapshot
            if self._following:
                self._tell(self._following, _event(change_between(before, self._told)))
            if self._refetching and changed_features(before, self._told):
                self._tell(self._refetching, _REFETCH)
            now = asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, COALESCED_S - (now - told_at)))
            told_at = asyncio.get_running_loop().time()

    def snapshot(self, _: Request) -> Reply:
        """Return the snapshot that is held."""
        held = self._holder.now_held
        if not held.is_ready:
            return problem(503, NOT_READY, NOT_READY_DETAIL)
        json = (b"content-type", b"application/json")
        return Reply(200, held.snapshot.model_dump_json().encode(), (json,))

    def follow(self, _: Request) -> Reply | Stream:
        """Send the snapshot at once, and from then on the parts that change."""
        return self._stream(self._following, begins_with_snapshot=True)

    def refetch(self, _: Request) -> Reply | Stream:
        """Say when answers may have changed, so that a provider asks again."""
        return self._stream(self._refetching, begins_with_snapshot=False)

    def _stream(self, listeners: set[Send], *, begins_with_snapshot: bool) -> Reply | Stream:
        if len(self._refetching) + len(self._following) >= self._most:
            detail = f"{self._most} streams are open here. Ask another gateway, or poll"
            return problem(503, "too-many-streams", detail, None, retry_after(_RETRY_S))

        def open_stream(send: Send) -> Callable[[], None]:
            listeners.add(send)
            # What all were told last: what changes next is told from there.
            is_ready = begins_with_snapshot and self._told.intent is not None
            send(_event(self._told) if is_ready else b": open\n\n")
            return lambda: listeners.discard(send)

        return Stream(open_stream)

    def _tell(self, listeners: set[Send], chunk: bytes) -> None:
        for send in tuple(listeners):
            send(chunk)


def _event(snapshot: Snapshot) -> bytes:
    return b"data: " + snapshot.model_dump_json().encode() + b"\n\n"
