"""What a controller told, kept in a file of its own until the recorder has it."""

import asyncio
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Self

import structlog

from tidegate.edges.redis import Redis
from tidegate.errors import Broken, Unavailable
from tidegate.events import Event

_SENT_AT_ONCE: Final = 500
_SEND_AGAIN_AFTER: Final = timedelta(seconds=1)
_SEND_AGAIN_WITHIN: Final = timedelta(seconds=8)
"""How long the pause between two sendings grows while nobody records, by doubling."""

_SCHEMA: Final = """
PRAGMA busy_timeout=5000;
PRAGMA journal_mode=WAL;
-- A number that a power cut takes back would be given twice.
PRAGMA synchronous=FULL;
CREATE TABLE IF NOT EXISTS numbering (one INTEGER PRIMARY KEY CHECK (one = 1), source, last);
CREATE TABLE IF NOT EXISTS waiting (sequence INTEGER PRIMARY KEY, event);
"""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Sent:
    at: datetime
    pause: timedelta


@dataclass(frozen=True, slots=True)
class News:
    """What happened, before it has a number. `at` has a time zone."""

    type: str
    subject: str
    at: datetime
    data: Mapping[str, str | float | bool | None]


def news(type_: str, /, *, subject: str, at: datetime, **data: str | float | bool | None) -> News:
    """Write down what happened, to be told with others."""
    return News(type_, subject, at, data)


class Outbox:
    """One producer's events: numbered, kept on disk, then sent until they are recorded.

    `source` is the name asked for and a random part that belongs to the file. A producer whose
    file was lost cannot know which numbers it used, so it goes on as another source, from 1,
    instead of guessing a number that an event still under way may have.
    """

    def __init__(self, path: Path, source: str, redis: Redis) -> None:
        self._redis = redis
        self._path = path
        self._turn = threading.Lock()
        self._sent: dict[int, _Sent] = {}
        self._is_away = False
        with self._mending():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._file.executescript(_SCHEMA)
            self.source = self._name(source)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what waits is sent by whoever opens it next."""
        with self._turn, self._mending():
            self._file.close()

    async def tell(
        self,
        type_: str,
        /,
        *,
        subject: str,
        at: datetime,
        **data: str | float | bool | None,
    ) -> Event:
        """Number an event, keep it, send it; returns once it is safe on disk.

        `at` has a time zone. A Redis that is away is no error, a later tick sends the event.
        Raises Broken when the file cannot be written.
        """
        (event,) = await self.tell_all([News(type_, subject, at, data)])
        return event

    async def tell_all(self, happened: Sequence[News]) -> Sequence[Event]:
        """Tell as `tell` does, in this order: all of it is safe on disk at once, or nothing is."""
        if not happened:
            return ()
        events = await asyncio.to_thread(self._keep, happened)
        if not self._is_away:
            await self._send(events, happened[-1].at)
        return events

    async def tick(self, now: datetime) -> int:
        """Drop what is recorded, send again what has waited; returns how many events wait.

        It looks at the oldest 500 only, so that a recorder that is away for long finds a stream
        that is not flooded; as these are acknowledged, the next ones move up.
        """
        waiting, oldest = await asyncio.to_thread(self._oldest)
        if not waiting:
            return 0
        try:
            recorded = await self._redis.acknowledged(self.source)
        except Unavailable as error:
            self._note(error)
            return waiting
        self._note(None)
        if recorded is not None and recorded >= oldest[0].sequence:
            waiting, oldest = await asyncio.to_thread(self._drop, recorded)
            self._sent = {key: sent for key, sent in self._sent.items() if key > recorded}
        await self._send([each for each in oldest if self._is_due(each, now)], now)
        return waiting

    async def _send(self, events: Sequence[Event], now: datetime) -> None:
        if not events:
            return
        try:
            await self._redis.append(events)
        except Unavailable as error:
            self._note(error)
            return
        for event in events:
            before = self._sent.get(event.sequence)
            pause = _SEND_AGAIN_AFTER if before is None else before.pause * 2
            self._sent[event.sequence] = _Sent(now, min(pause, _SEND_AGAIN_WITHIN))

    def _is_due(self, event: Event, now: datetime) -> bool:
        sent = self._sent.get(event.sequence)
        # A clock that was set back must not keep an event here: hence the distance.
        return sent is None or abs(now - sent.at) > sent.pause

    def _note(self, error: Unavailable | None) -> None:
        if error is not None and not self._is_away:
            _log.warning("outbox.redis_away", source=self.source, error=str(error))
        elif error is None and self._is_away:
            _log.info("outbox.redis_back", source=self.source)
        self._is_away = error is not None

    def _name(self, source: str) -> str:
        fresh = f"{source}/{secrets.token_hex(4)}"
        self._file.execute("INSERT OR IGNORE INTO numbering VALUES (1, ?, 0)", (fresh,))
        (held,) = self._file.execute("SELECT source FROM numbering").fetchone()
        if str(held).rpartition("/")[0] != source:
            message = (
                f"outbox {self._path}: it belongs to {held!r}, expected one of {source!r}. "
                "Give each producer a file of its own."
            )
            raise Broken(message, code="outbox-of-another")
        return str(held)

    def _keep(self, happened: Sequence[News]) -> list[Event]:
        with self._transaction():
            step = "UPDATE numbering SET last = last + ? RETURNING last"
            ((last,),) = self._file.execute(step, (len(happened),)).fetchall()
            events = [
                Event(
                    source=self.source,
                    sequence=sequence,
                    type=each.type,
                    at=each.at,
                    subject=each.subject,
                    data=each.data,
                )
                for sequence, each in enumerate(happened, last - len(happened) + 1)
            ]
            rows = ((event.sequence, event.model_dump_json()) for event in events)
            self._file.executemany("INSERT INTO waiting VALUES (?, ?)", rows)
        return events

    def _oldest(self) -> tuple[int, list[Event]]:
        with self._transaction():
            (count,) = self._file.execute("SELECT count(*) FROM waiting").fetchone()
            rows = self._file.execute(
                "SELECT event FROM waiting ORDER BY sequence LIMIT ?", (_SENT_AT_ONCE,)
            ).fetchall()
        return count, [Event.model_validate_json(text) for (text,) in rows]

    def _drop(self, recorded: int) -> tuple[int, list[Event]]:
        with self._transaction():
            self._file.execute("DELETE FROM waiting WHERE sequence <= ?", (recorded,))
        return self._oldest()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        # A cancelled call leaves its thread at work, so the turn is the thread's to give back.
        with self._turn, self._mending():
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._file.execute("COMMIT")
            finally:
                if self._file.in_transaction:
                    self._file.execute("ROLLBACK")

    @contextmanager
    def _mending(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            message = (
                f"outbox {self._path}: cannot be used ({error}). Make room or mend the disk; a "
                "file that is damaged beyond repair may be moved away, and events in it are lost."
            )
            raise Broken(message, code="outbox-broken") from error
