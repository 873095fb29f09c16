"""How the record lives on PostgreSQL: bounded waits, one writer at a time, durable commits."""

from typing import Final

from sqlalchemy import URL, Connection, Engine, create_engine

# On the line, where the URL says nothing else. The waits in a transaction are shorter together than
# the record's deadline, so that the database says what it waited for, and not a clock of ours.
_LINE: Final = {
    "connect_timeout": "5",
    "tcp_user_timeout": "10000",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "application_name": "tidegate",
}
# Local to a transaction, since a pooler between may give the session to somebody else afterwards.
# UTC, since in other zones the last day of the calendar cannot be read back. A process that stands
# still in the middle must not hold up the others: its transaction is ended for it.
_LIMITS: Final = (
    "SET LOCAL TIME ZONE 'UTC'; "
    "SET LOCAL lock_timeout = '4s'; "
    "SET LOCAL statement_timeout = '8s'; "
    "SET LOCAL idle_in_transaction_session_timeout = '10s'"
)
# Producers forget what is acknowledged, so what is committed must outlive a power cut.
_DURABLE: Final = (
    "SELECT set_config('synchronous_commit', 'on', true) "
    "WHERE current_setting('synchronous_commit') = 'off'"
)
# As SQLite has it. Two recorders that did not see each other's rows would move a mark back, leave a
# forecast open that came true, or make the tables twice.
_ONE_WRITER: Final = f"SELECT pg_advisory_xact_lock({int.from_bytes(b'tidegate')})"


def open_postgresql(url: URL) -> Engine:
    """Prepare connections; what the URL says of the line, as `?connect_timeout=2`, holds."""
    line: dict[str, object] = {key: each for key, each in _LINE.items() if key not in url.query}
    # Prepared statements outlive a change of the tables, and a pooler need not know them.
    line["prepare_threshold"] = None
    return create_engine(
        url, connect_args=line, pool_pre_ping=True, isolation_level="READ COMMITTED"
    )


def begin(connection: Connection, *, writes: bool) -> None:
    """Bound the transaction that begins; a writer waits for its turn."""
    statements = [_LIMITS, _DURABLE, _ONE_WRITER] if writes else [_LIMITS]
    connection.exec_driver_sql("; ".join(statements))


def lift_statement_limit(connection: Connection) -> None:
    """Give the statements of this transaction all the time that they need."""
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
