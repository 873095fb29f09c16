"""The connection to the record: SQLite by default, PostgreSQL when given."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError

from tidegate.edges.record.faults import fault
from tidegate.edges.record.postgresql import begin as begin_postgresql
from tidegate.edges.record.postgresql import open_postgresql
from tidegate.edges.record.urls import POSTGRESQL, parse

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
    parsed = parse(url)
    if parsed.get_backend_name() == POSTGRESQL:
        engine = open_postgresql(parsed)
    else:
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed)
        event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin)
    return engine


@contextmanager
def transaction(engine: Engine, *, writes: bool) -> Iterator[Connection]:
    """Work in one transaction; raises Unavailable (try again) or Broken, never the driver's.

    Those that write take turns, whatever the database and the process.
    """
    try:
        with engine.connect() as connection:
            connection.execution_options(**{_WRITES: writes})
            with connection.begin():
                yield connection
    except SQLAlchemyError as error:
        raise fault(engine.url, error) from error


def insert_into(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT that can say what to do ON CONFLICT, in the database's own words."""
    if connection.dialect.name == POSTGRESQL:
        return postgresql.insert(table)
    return sqlite.insert(table)


def _configure_sqlite(connection: DBAPIConnection, _: object) -> None:
    # Python's driver begins transactions by itself, and only before some statements: tables
    # would be made outside of any, and a killed migration would leave half of them.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin(connection: Connection) -> None:
    writes = cast("bool", connection.get_execution_options().get(_WRITES, True))
    if connection.dialect.name == POSTGRESQL:
        begin_postgresql(connection, writes=writes)
    else:
        # A reader that turns writer cannot wait for its turn in SQLite, it fails; so a writer says
        # so at once.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
