"""The record's tables: what happened, as columns to filter by."""

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Float,
    Index,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

_KEY_BYTES: Final = 1_000


class UtcDateTime(TypeDecorator[datetime]):
    """An instant, kept as UTC also where the database knows no time zones (SQLite).

    A naive datetime is taken for UTC: an event that cannot be written would be a gap for ever.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Turn it to UTC; raises OverflowError at the far ends of the calendar."""
        return None if value is None else as_utc(value)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return it as an aware datetime."""
        return None if value is None else as_utc(value)


def as_utc(at: datetime) -> datetime:
    """Return the instant in UTC; one without a zone is UTC already."""
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def is_key(text: str) -> bool:
    """Say whether every database can keep and find it; raises ValueError for half a character.

    PostgreSQL keeps no NUL in a text, and two texts and an instant in an index take 2,704 bytes.
    """
    return "\0" not in text and len(text.encode()) <= _KEY_BYTES


METADATA: Final = MetaData()

EVENTS: Final = Table(
    "events",
    METADATA,
    Column("source", String, primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("type", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("data", JSON, nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
    Index("events_by_at", "at"),
    Index("events_by_type", "type", "at"),
    Index("events_by_subject", "subject", "at"),
)

MARKS: Final = Table(
    "marks",
    METADATA,
    Column("source", String, primary_key=True),
    Column("contiguous", BigInteger, nullable=False),
    Column("highest", BigInteger, nullable=False),
)
"""How far each source is recorded, so that a start need not count the events of years."""

CONFLICTS: Final = Table(
    "conflicts",
    METADATA,
    Column("source", String, primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("digest", String, primary_key=True),
    Column("event", Text, nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
)
"""Events that came under the id of another one, as JSON, once each."""

FORECASTS: Final = Table(
    "forecasts",
    METADATA,
    Column("id", String, primary_key=True),
    Column("subject", String, nullable=False),
    Column("what", String, nullable=False),
    Column("made_at", UtcDateTime, nullable=False),
    Column("p50", UtcDateTime),
    Column("p90", UtcDateTime),
    Column("came_true_at", UtcDateTime),
    Index("forecasts_by_subject", "subject", "what", "made_at"),
)

DEMAND_HISTORY: Final = Table(
    "demand_history",
    METADATA,
    Column("pool", String, primary_key=True),
    Column("tier", String, primary_key=True),
    Column("at", UtcDateTime, primary_key=True),
    Column("admitted_rps", Float, nullable=False),
    Column("refused_rps", Float, nullable=False),
    Column("not_exposed_rps", Float, nullable=False),
    Index("demand_history_by_at", "at"),
)

WAITLIST_MARKS: Final = Table(
    "waitlist_marks",
    METADATA,
    Column("feature", String, primary_key=True),
    Column("tier", String, primary_key=True),
    Column("reserved_below", BigInteger, nullable=False),
    Column("issued_below", BigInteger, nullable=False),
    Column("called_below", BigInteger, nullable=False),
    Column("gaps", JSON, nullable=False),
)
"""How far each lane of a waitlist may have come, so that no number is given out twice."""
