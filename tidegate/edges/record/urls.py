"""Where the record is: what TIDEGATE_RECORD may say, and how it is shown, never with a password."""

import re
from typing import Final

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from tidegate.errors import PlanError

POSTGRESQL: Final = "postgresql"
DRIVER: Final = "postgresql+psycopg"
_DRIVERS: Final = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    POSTGRESQL: DRIVER,
    DRIVER: DRIVER,
}
_EXPECTED: Final = 'expected "sqlite:///tidegate.db" or "postgresql://user@host/name"'
_SECRETS: Final = ("password", "sslpassword", "passfile")
_LOGIN: Final = re.compile(r"(?<=://).*@")


def parse(url: str) -> URL:
    """Read the setting; raises PlanError when it is not one of a database that we can use."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise _refused(_LOGIN.sub("***@", url)) from error
    # By the letter a host may have an @. What follows a password with one would be shown as host.
    if "@" in (parsed.host or ""):
        raise _refused(
            _LOGIN.sub("***@", url), 'In a user or a password, write "@" as "%40" and "%" as "%25"'
        )
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise _refused(shown(parsed))
    return parsed.set(drivername=driver)


def shown(url: URL) -> str:
    """Write it for people, without driver and password."""
    told = url.difference_update_query(_SECRETS).set(drivername=url.get_backend_name())
    return told.render_as_string(hide_password=True)


def _refused(got: str, hint: str = "") -> PlanError:
    message = f'TIDEGATE_RECORD: got "{got}", {_EXPECTED}. {hint}'.rstrip(" .") + "."
    return PlanError(message, code="settings")
