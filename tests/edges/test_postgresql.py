"""The record on PostgreSQL: who is let in, who waits for whom, and what outlives a crash."""

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import text

from embedded.ports import LOOPBACK, free_ports
from tests.debian import needs_package
from tests.embedded.until import is_alive, until
from tests.house.checkout import ROOT
from tests.real_postgres import RealPostgres, real_postgres
from tidegate.edges.migrations import migrate
from tidegate.edges.record import Mark, Record
from tidegate.edges.record.engine import transaction
from tidegate.edges.record.writes import add
from tidegate.errors import Broken, PlanError, TidegateError, Unavailable
from tidegate.events import Event, EventData

pytestmark = needs_package("postgresql")

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
PASSWORD = "f0r-n0b0dy"


@pytest.fixture
def url(postgres: RealPostgres) -> Iterator[str]:
    url = postgres.new_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
async def record(url: str) -> AsyncIterator[Record]:
    async with Record(url) as record:
        migrate(record.engine)
        yield record


def event(sequence: int, type_: str = "x.told", data: EventData | None = None) -> Event:
    at = NOON + timedelta(seconds=sequence)
    source, subject = f"/{type_.split('.', maxsplit=1)[0]}", "image"
    return Event(
        source=source, sequence=sequence, type=type_, at=at, subject=subject, data=data or {}
    )


def asked_inside(record: Record, *names: str, writes: bool = True) -> dict[str, str]:
    with transaction(record.engine, writes=writes) as connection:
        return {name: connection.scalars(text(f"SHOW {name}")).one() for name in names}


async def test_the_server_of_the_tests_ends_with_them_however_they_end() -> None:
    holding = "from tests.real_postgres import hold; hold()"
    command = [sys.executable, "-c", holding]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid, folder = owner.stdout.readline().split()
        owner.kill()
    await until(lambda: not is_alive(int(pid)), 20.0)
    shutil.rmtree(folder)


# --- the setting ---


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg"])
async def test_a_url_is_enough(url: str, scheme: str) -> None:
    async with Record(url.replace("postgresql", scheme)) as record:
        migrate(record.engine)
        assert (await record.add([event(1)], NOON)).new == 1


async def test_what_the_url_says_of_the_line_holds(url: str) -> None:
    async with Record(f"{url}?connect_timeout=2&application_name=night") as record:
        line = record.engine.raw_connection()
        assert isinstance(line.driver_connection, psycopg.Connection)
        said = line.driver_connection.info.get_parameters()
        line.close()
    assert (said["connect_timeout"], said["application_name"]) == ("2", "night")
    assert said["tcp_user_timeout"] == "10000"


@pytest.mark.parametrize(
    ("url", "got"),
    [
        ("mysql://u:f0r-n0b0dy@host/name", "mysql://u:***@host/name"),
        ("postgresql+asyncpg://u:f0r-n0b0dy@host/name", "postgresql://u:***@host/name"),
        ("postgresql://u:f0r-n0b0dy@host:x/name", "postgresql://***@host:x/name"),
        ("postgresql://u:f0r@n0b0dy@host/name", "postgresql://***@host/name"),
        ("nonsense", "nonsense"),
    ],
)
def test_another_url_is_refused_without_its_password(url: str, got: str) -> None:
    with pytest.raises(PlanError) as error:
        Record(url)
    assert str(error.value).startswith(f'TIDEGATE_RECORD: got "{got}", expected "sqlite:///')
    assert '"postgresql://user@host/name".' in str(error.value)
    assert ("%40" in str(error.value)) is (url.count("@") == 2)
    assert "n0b0dy" not in str(error.value)


# --- who is let in ---


async def refusal(url: str) -> TidegateError:
    async with Record(url) as record:
        with pytest.raises(TidegateError) as error:
            await record.marks()
    assert "\n" not in str(error.value)
    assert PASSWORD not in str(error.value)
    assert "hunter2" not in str(error.value)
    return error.value


async def test_where_nobody_listens_there_is_one_line_that_says_so() -> None:
    (port,) = free_ports(1)
    error = await refusal(
        f"postgresql://gate:{PASSWORD}@{LOOPBACK}:{port}/name?sslpassword=hunter2"
    )
    assert isinstance(error, Unavailable)
    assert str(error) == (
        f"record: no answer from postgresql://gate:***@{LOOPBACK}:{port}/name "
        "(Connection refused). Start PostgreSQL there, or set TIDEGATE_RECORD to where it is."
    )


async def test_where_nobody_answers_it_is_said_before_the_deadline() -> None:
    with socket.create_server((LOOPBACK, 0)) as silent:
        port = silent.getsockname()[1]
        error = await refusal(f"postgresql://gate@{LOOPBACK}:{port}/name?connect_timeout=2")
    assert "timeout expired" in str(error)


async def test_a_wrong_or_missing_password_user_or_database_is_named(
    postgres: RealPostgres,
) -> None:
    postgres.run(f"CREATE USER locked PASSWORD '{PASSWORD}'")
    right = postgres.url("postgres", f"locked:{PASSWORD}")
    async with Record(right) as record:
        with pytest.raises(Unavailable, match="Start the recorder"):
            await record.marks()
    for url, why in {
        right.replace(PASSWORD, "hunter2"): 'password authentication failed for user "locked"',
        right.replace(f":{PASSWORD}", ""): "no password supplied",
        postgres.url("postgres", "nobody"): 'role "nobody" does not exist',
        postgres.url("nowhere"): 'database "nowhere" does not exist',
    }.items():
        error = await refusal(url)
        assert isinstance(error, Unavailable)
        assert f"does not let us in ({why}" in str(error).replace("fe_sendauth: ", "")
        assert "Mend user, password or database in TIDEGATE_RECORD" in str(error)
    postgres.run("DROP USER locked")


def test_a_user_that_may_make_no_tables_is_told_what_it_lacks(
    postgres: RealPostgres, url: str
) -> None:
    postgres.run("CREATE USER guest")
    guest = Record(url.replace("//tidegate@", "//guest@"))
    with pytest.raises(Broken, match=r"permission denied for schema public.*the owner of"):
        migrate(guest.engine)
    guest.close()
    postgres.run("DROP USER guest")


async def test_a_database_that_may_only_be_read_is_tried_again(
    postgres: RealPostgres, record: Record
) -> None:
    record.engine.dispose()
    name = str(record.engine.url.database)
    postgres.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(Unavailable, match=r"read-only transaction.*It is tried again"):
        await record.add([event(1)], NOON)
    assert await record.events() == []


# --- who waits for whom ---


def waiting(postgres: RealPostgres, count: int = 1) -> Callable[[], bool]:
    """Return what says whether so many wait for a lock in some database."""
    found = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    return lambda: postgres.run(found) == [(count,)]


async def add_while_another_adds(
    postgres: RealPostgres, record: Record, first: Sequence[Event], second: Sequence[Event]
) -> None:
    with transaction(record.engine, writes=True) as connection:
        add(connection, first, NOON)
        other = asyncio.create_task(record.add(second, NOON))
        await until(waiting(postgres))
    await other


async def test_two_writers_leave_no_mark_behind_of_a_source_that_nobody_knew(
    postgres: RealPostgres, record: Record
) -> None:
    await add_while_another_adds(postgres, record, [event(1)], [event(2)])
    assert await record.marks() == {"/x": Mark(2, 2)}


async def test_a_forecast_is_closed_by_what_another_writer_records_meanwhile(
    postgres: RealPostgres, record: Record
) -> None:
    made = event(1, "stage.forecast", {"stage": "free", "p50": None, "p90": None})
    came = event(2, "stage.advanced", {"stage": "free"})
    await add_while_another_adds(postgres, record, [made], [came])
    (forecast,) = await record.forecasts()
    assert forecast.came_true_at == came.at


async def test_two_that_start_at_once_wait_and_migrate_once(
    postgres: RealPostgres, url: str
) -> None:
    async with Record(url) as first, Record(url) as second:
        with transaction(first.engine, writes=True):
            both = [
                asyncio.create_task(asyncio.to_thread(migrate, one.engine))
                for one in (first, second)
            ]
            await until(waiting(postgres, 2))
        assert sorted(await asyncio.gather(*both)) == [(), ("0001", "0002")]


async def test_a_reader_waits_for_no_writer(record: Record) -> None:
    with transaction(record.engine, writes=True) as connection:
        add(connection, [event(1)], NOON)
        assert await record.events() == []
    assert await record.events() == [event(1)]


async def test_who_waits_too_long_for_another_writer_is_told_so(record: Record) -> None:
    with (
        transaction(record.engine, writes=True),
        pytest.raises(Unavailable, match=r"did not do it now .*lock timeout.*tried again"),
    ):
        await record.add([event(1)], NOON)
    assert (await record.add([event(1)], NOON)).new == 1


def test_every_wait_of_a_transaction_is_bounded_below_the_deadline(record: Record) -> None:
    limits = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    for writes in (True, False):
        found = asked_inside(record, *limits, writes=writes)
        assert list(found.values()) == ["4s", "8s", "10s"]
    with record.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as outside:
        assert outside.scalars(text("SHOW idle_in_transaction_session_timeout")).one() == "0"


# --- what outlives what ---


@pytest.mark.parametrize(("given", "held"), [("off", "on"), ("remote_apply", "remote_apply")])
def test_what_is_recorded_is_durable_whatever_the_server_thinks_of_it(
    postgres: RealPostgres, record: Record, given: str, held: str
) -> None:
    record.engine.dispose()
    name = str(record.engine.url.database)
    postgres.run(f"ALTER DATABASE {name} SET synchronous_commit = {given}")
    assert asked_inside(record, "synchronous_commit") == {"synchronous_commit": held}


async def test_the_zone_of_the_server_changes_nothing(
    postgres: RealPostgres, record: Record
) -> None:
    record.engine.dispose()
    name = str(record.engine.url.database)
    postgres.run(f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'")
    last = event(1).model_copy(update={"at": datetime.max.replace(tzinfo=UTC)})
    await record.add([last], NOON)
    assert await record.events() == [last]


async def test_a_server_that_crashes_and_comes_back_loses_nothing_and_is_used_again() -> None:
    with real_postgres() as server:
        async with Record(server.new_database()) as record:
            migrate(record.engine)
            await record.add([event(1)], NOON)

            def crash_halfway() -> None:
                with transaction(record.engine, writes=True) as connection:
                    add(connection, [event(2)], NOON)
                    server.stop(signal.SIGQUIT)
                    add(connection, [event(3)], NOON)

            with pytest.raises(Unavailable, match=r"server closed the connection .*tried again"):
                crash_halfway()
            with pytest.raises(Unavailable, match="Connection refused"):
                await record.add([event(2)], NOON)
            server.start()
            assert await record.events() == [event(1)]
            assert (await record.add([event(2)], NOON)).new == 1


async def test_tables_that_change_under_a_reader_do_not_break_it(
    postgres: RealPostgres, record: Record
) -> None:
    for _ in range(10):  # by then a driver that prepares its statements has prepared this one
        await record.events()
    name = str(record.engine.url.database)
    postgres.run("ALTER TABLE events ALTER COLUMN subject TYPE text", name)
    assert await record.events() == []
