"""The record's tables, brought up and down on both databases, by one or many, killed or not."""

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from tests.databases import NewDatabase
from tests.edges.dying_migration import COMMIT
from tests.house.checkout import ROOT
from tidegate.edges.migrations import EMPTY, NEWEST, migrate
from tidegate.edges.record import LaneMark, Mark, Record
from tidegate.edges.record.tables import METADATA
from tidegate.errors import Broken, Unavailable
from tidegate.events import Event

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
REVISIONS = ("0001", "0002")
TOLD = [
    Event(source="/gate", sequence=n, type="gate.tightened", at=NOON, subject="image")
    for n in (1, 2)
]
PLACES = LaneMark(20_000, 7, 3, ((4, 6),))


@pytest.fixture
async def empty(record_url: str) -> AsyncIterator[Record]:
    async with Record(record_url) as record:
        yield record


@pytest.fixture
async def filled(empty: Record) -> Record:
    migrate(empty.engine)
    await empty.add(TOLD, NOON)
    await empty.raise_lane_mark("image", "free", PLACES)
    return empty


def tables(record: Record) -> set[str]:
    return set(inspect(record.engine).get_table_names())


def difference(record: Record) -> list[object]:
    with record.engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), METADATA))


@pytest.mark.parametrize("way", [[NEWEST], ["0001", "0002"], [NEWEST, EMPTY, NEWEST]])
def test_every_way_up_leads_to_the_tables_that_the_code_uses(empty: Record, way: list[str]) -> None:
    for to in way:
        migrate(empty.engine, to)
    assert difference(empty) == []


def test_a_table_that_the_code_does_not_use_is_seen(filled: Record) -> None:
    migrate(filled.engine, "0001")
    assert len(difference(filled)) == 1


def test_migrations_lead_back_to_nothing_and_forth_again(filled: Record) -> None:
    assert migrate(filled.engine) == ()
    assert migrate(filled.engine, EMPTY) == REVISIONS
    assert tables(filled) == {"alembic_version"}
    assert migrate(filled.engine) == REVISIONS


async def test_a_step_down_and_up_keeps_all_but_what_that_step_brought(filled: Record) -> None:
    assert migrate(filled.engine, "0001") == ("0002",)
    assert tables(filled) == {*METADATA.tables, "alembic_version"} - {"waitlist_marks"}
    assert await filled.events() == TOLD
    with pytest.raises(Unavailable, match="Start the recorder"):
        await filled.lane_mark("image", "free")
    assert migrate(filled.engine) == ("0002",)
    assert await filled.events() == TOLD
    assert await filled.marks() == {"/gate": Mark(2, 2)}
    assert await filled.lane_mark("image", "free") == LaneMark()


async def test_a_record_of_an_older_release_is_brought_up_with_all_it_holds(empty: Record) -> None:
    migrate(empty.engine, "0001")
    await empty.add(TOLD, NOON)
    assert migrate(empty.engine) == ("0002",)
    await empty.raise_lane_mark("image", "free", PLACES)
    assert await empty.events() == TOLD
    assert await empty.lane_mark("image", "free") == PLACES


def test_a_record_of_a_newer_release_is_left_alone(filled: Record) -> None:
    with filled.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Broken, match="at revision '9999', expected one of"):
        migrate(filled.engine)


def test_a_migration_that_fails_leaves_nothing_behind(empty: Record) -> None:
    with empty.engine.begin() as connection:
        connection.execute(text("CREATE TABLE forecasts (taken INTEGER)"))
    with pytest.raises((Broken, Unavailable), match="already exists"):
        migrate(empty.engine)
    assert tables(empty) == {"forecasts"}


def migrate_as_a_loop_does(record: Record) -> tuple[str, ...]:
    """Try again while it is unavailable: of two that make a SQLite file, one is told "locked"."""
    for _ in range(20):
        with contextlib.suppress(Unavailable):
            return migrate(record.engine)
    return migrate(record.engine)


async def test_of_many_that_start_at_once_one_migrates(new_database: NewDatabase) -> None:
    url = new_database()
    records = [Record(url) for _ in range(4)]
    stepped = await asyncio.gather(
        *(asyncio.to_thread(migrate_as_a_loop_does, record) for record in records)
    )
    assert sorted(stepped) == [(), (), (), REVISIONS]
    assert difference(records[0]) == []
    for record in records:
        record.close()


# --- killed ---


def die(record: Record, to: str, words: str) -> None:
    url = record.engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.edges.dying_migration", url, to, words]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


@pytest.mark.parametrize("words", ["TABLE marks", "TABLE waitlist_marks", COMMIT])
def test_one_that_is_killed_on_the_way_up_leaves_nothing_half_done(
    empty: Record, words: str
) -> None:
    die(empty, NEWEST, words)
    assert tables(empty) == set()
    assert migrate(empty.engine) == REVISIONS
    assert difference(empty) == []


@pytest.mark.parametrize("words", ["TABLE waitlist_marks", "TABLE events", COMMIT])
async def test_one_that_is_killed_on_the_way_down_loses_nothing(filled: Record, words: str) -> None:
    die(filled, EMPTY, words)
    assert migrate(filled.engine) == ()
    assert await filled.events() == TOLD
    assert await filled.lane_mark("image", "free") == PLACES
