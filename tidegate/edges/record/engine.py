"""The connection to the record: SQLite by default, PostgreSQL when given."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tidegate.errors import Broken, PlanError, Unavailable

_WRITES: Final = "tidegate_writes"
_PRAGMAS: Final = (
    "PRAGMA busy_timeout=5000",
    "PRAGMA journal_mode=WAL",
    # Producers forget what is acknowledged, so what is committed must outlive a power cut.
    "PRAGMA synchronous=FULL",
)


def open_engine(url: str) -> Engine:
    """Prepare connections to the record; the first use opens one.

    Raises PlanError when the URL is not one of a database that the record can live in.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "postgresql":
        return create_engine(parsed, pool_pre_ping=True)
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed)
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


@contextmanager
def transaction(engine: Engine, *, writes: bool) -> Iterator[Connection]:
    """Work in one transaction; raises Unavailable (try again) or Broken, never the driver's."""
    try:
        with engine.connect() as connection:
            connection.execution_options(**{_WRITES: writes})
            with connection.begin():
                yield connection
    except (OperationalError, PoolTimeoutError) as error:
        message = (
            f"record: no answer from {engine.url} ({_cause(error)}). "
            "Start the recorder, which prepares it, or set TIDEGATE_RECORD to where it is."
        )
        raise Unavailable(message, code="record-unavailable") from error
    except SQLAlchemyError as error:
        message = f"record: {engine.url} refused what it was asked ({_cause(error)})."
        raise Broken(message, code="record-broken") from error


def insert_into(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT that can say what to do ON CONFLICT, in the database's own words."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def _parse(url: str) -> URL:
    expected = 'expected "sqlite:///tidegate.db" or "postgresql://user@host/name"'
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise PlanError(f"TIDEGATE_RECORD: got {url!r}, {expected}.", code="settings") from error
    if parsed.get_backend_name() not in {"sqlite", "postgresql"}:
        raise PlanError(f"TIDEGATE_RECORD: got {str(parsed)!r}, {expected}.", code="settings")
    return parsed


def _configure_sqlite(connection: DBAPIConnection, _: object) -> None:
    # Python's driver begins transactions by itself, and only before some statements: tables
    # would be made outside of any, and a killed migration would leave half of them.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A reader that turns writer cannot wait for its turn in SQLite, it fails; so a writer says
    # so at once.
    writes = cast("bool", connection.get_execution_options().get(_WRITES, True))
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _cause(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error)
