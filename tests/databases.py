"""Databases for the record: each test that asks for one runs on SQLite and on PostgreSQL."""

from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.debian import needs_package
from tests.real_postgres import RealPostgres, real_postgres

BOTH: Final = ("sqlite", pytest.param("postgresql", marks=needs_package("postgresql")))
NewDatabase = Callable[[], str]
"""Makes an empty database, gone after the test, and returns its URL."""


@pytest.fixture(scope="session")
def postgres() -> Iterator[RealPostgres]:
    with real_postgres() as server:
        yield server


@pytest.fixture(params=BOTH)
def new_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NewDatabase]:
    if request.param == "sqlite":
        yield lambda: f"sqlite:///{tmp_path_factory.mktemp('record')}/record.db"
        return
    server: RealPostgres = request.getfixturevalue("postgres")
    made: list[str] = []

    def new() -> str:
        made.append(server.new_database())
        return made[-1]

    yield new
    for url in made:
        server.drop_database(url)


@pytest.fixture
def record_url(new_database: NewDatabase) -> str:
    return new_database()
