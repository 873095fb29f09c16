"""What went wrong with the record, in one line that says what to do, and never a password."""

import re
from typing import Final

import psycopg
from psycopg import errors as pg
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tidegate.edges.record.urls import shown
from tidegate.errors import Broken, Unavailable

_NO_TABLES: Final = (pg.UndefinedTable, pg.UndefinedColumn)
# A standby that was just promoted, or is about to be.
_PASSING: Final = (psycopg.OperationalError, pg.ReadOnlySqlTransaction)
_LOGIN_REFUSED: Final = re.compile(
    r"authentication|no password|does not exist|not permitted|permission denied|pg_hba\.conf"
)


def fault(url: URL, error: SQLAlchemyError) -> Unavailable | Broken:
    """Return what to raise in its place: Unavailable where trying again may help."""
    where, cause = shown(url), _cause(error)
    original = getattr(error, "orig", None)
    if isinstance(original, _NO_TABLES):
        return _unavailable(
            f"record: {where} is not prepared ({cause}). Start the recorder, which prepares it."
        )
    if _is_cut(error):
        return _unavailable(_not_now(where, cause))
    if isinstance(original, psycopg.OperationalError) and original.sqlstate is None:
        return _unavailable(_unreached(where, str(original)))
    if isinstance(original, _PASSING):
        return _unavailable(_not_now(where, cause))
    if isinstance(error, OperationalError | PoolTimeoutError):
        return _unavailable(
            f"record: no answer from {where} ({cause}). "
            "Start the recorder, which prepares it, or set TIDEGATE_RECORD to where it is."
        )
    message = f"record: {where} refused what it was asked ({cause})."
    if isinstance(original, pg.InsufficientPrivilege):
        message += " Make the user the owner of the database and of the tables."
    return Broken(message, code="record-broken")


def _unreached(where: str, told: str) -> str:
    # The driver gives no code here; its words are of the last address that it tried.
    answered, cause = "FATAL:" in told, _one_line(re.split(r"FATAL:|failed: ", told)[-1])
    if _LOGIN_REFUSED.search(told):
        return (
            f"record: {where} does not let us in ({cause}). Mend user, password or database in "
            "TIDEGATE_RECORD, or make them on the server."
        )
    if answered:
        return _not_now(where, cause)
    return (
        f"record: no answer from {where} ({cause.partition(' Is the server running')[0]}). "
        "Start PostgreSQL there, or set TIDEGATE_RECORD to where it is."
    )


def _not_now(where: str, cause: str) -> str:
    return (
        f"record: {where} did not do it now ({cause}). It is tried again; "
        "if this stays, look at the database's log and at who else uses it."
    )


def _is_cut(error: SQLAlchemyError) -> bool:
    return isinstance(error, DBAPIError) and error.connection_invalidated


def _cause(error: SQLAlchemyError) -> str:
    original = getattr(error, "orig", None)
    if isinstance(original, psycopg.Error):
        # Behind the first line the driver guesses at reasons.
        return original.diag.message_primary or str(original).partition("\n")[0]
    return _one_line(str(original or error))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _unavailable(message: str) -> Unavailable:
    return Unavailable(message, code="record-unavailable")
