"""The notifier: posts events to a receiver, in order, again until it takes them."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiohttp
import structlog
from standardwebhooks import Webhook

from tidegate.edges.redis import Redis
from tidegate.events import Event
from tidegate.webhooks import ReceiverSpec

log = structlog.get_logger()

_ANSWERS_WITHIN: Final = aiohttp.ClientTimeout(total=10.0)
_FIRST_AGAIN_S: Final = 1.0
_LONGEST_AGAIN_S: Final = 3600.0
_TAKEN: Final = range(200, 300)
GIVES_UP_S: Final = 3 * 86_400.0
"""An event that a receiver did not take for so long is passed over."""


class Notifier:
    """One receiver's own: how far it has heard is in a file, and no other waits for it."""

    def __init__(self, receiver: ReceiverSpec, redis: Redis, folder: Path) -> None:
        self._receiver = receiver
        self._redis = redis
        self._webhook = Webhook(receiver.secret)
        self._file = folder / f"{receiver.name}.webhook"
        self._heard = self._file.read_text().strip() if self._file.exists() else ""
        self._failures = 0
        self._failing_since: float | None = None
        self._again_at = 0.0

    async def tick(self, now: float) -> None:
        """Post what was told since, until the receiver fails; raises Unavailable without Redis.

        What it took and has not been noted yet is posted again, under the same id.
        """
        if not self._heard:  # whoever is new hears of what happens from now on
            self._note(await self._redis.last_stream_id() or "0")
        while now >= self._again_at:
            heard = await self._redis.events(after=self._heard)
            if heard.after == self._heard:
                return
            for stream_id, event in zip(heard.ids, heard.events, strict=True):
                if self._receiver.wants(event) and not await self._is_done_with(event, now):
                    return
                self._note(stream_id)
            self._note(heard.after)

    async def _is_done_with(self, event: Event, now: float) -> bool:
        """Say whether the receiver took an event, or never will."""
        fault = await self._post(event, now)
        if fault is None:
            self._failures, self._failing_since = 0, None
            return True
        self._failures += 1
        since = self._failing_since = self._failing_since or now
        name = self._receiver.name
        if now - since >= GIVES_UP_S:
            log.error("webhook.given_up", receiver=name, event_id=event.id, reason=fault)
            self._failures, self._failing_since = 0, None
            return True
        wait_s = min(_FIRST_AGAIN_S * 2 ** (self._failures - 1), _LONGEST_AGAIN_S)
        self._again_at = now + wait_s
        if self._failures == 1:
            log.warning("webhook.not_taken", receiver=name, event_id=event.id, reason=fault)
        return False

    async def _post(self, event: Event, now: float) -> str | None:
        """Post one event; returns what went wrong, None for nothing."""
        body = json.dumps(event.to_cloudevent(), separators=(",", ":"))
        at = datetime.fromtimestamp(now, UTC)
        headers = {
            "content-type": "application/cloudevents+json",
            "webhook-id": event.id,
            "webhook-timestamp": str(int(now)),
            "webhook-signature": self._webhook.sign(msg_id=event.id, timestamp=at, data=body),
        }
        try:
            async with (
                aiohttp.ClientSession(timeout=_ANSWERS_WITHIN) as session,
                session.post(
                    self._receiver.url, data=body, headers=headers, allow_redirects=False
                ) as answer,
            ):
                if answer.status in _TAKEN:
                    return None
                return f"it answered {answer.status}"
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}"

    def _note(self, stream_id: str) -> None:
        """Remember how far the receiver has heard, whole or as before."""
        if stream_id != self._heard:
            self._heard = stream_id
            draft = self._file.with_suffix(".draft")
            draft.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(stream_id)
            draft.replace(self._file)
