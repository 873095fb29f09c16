"""The record: what happened, each thing once, and what is missing."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import text

from tidegate.edges.migrations import migrate
from tidegate.edges.record import Gap, Mark, MeanDemand, Record
from tidegate.errors import Broken, PlanError, Unavailable
from tidegate.events import Event, EventData

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
async def record(record_url: str) -> AsyncIterator[Record]:
    async with Record(record_url) as record:
        migrate(record.engine)
        yield record


def event(
    sequence: int,
    type_: str = "gate.tightened",
    *,
    source: str = "/gate",
    at: datetime | None = None,
    subject: str = "image",
    data: EventData | None = None,
) -> Event:
    at = at or NOON + timedelta(seconds=sequence)
    return Event(
        source=source, sequence=sequence, type=type_, at=at, subject=subject, data=data or {}
    )


async def test_an_event_comes_back_as_it_was_told(record: Record) -> None:
    data: EventData = {"ceiling_rps": 1.5, "pods": 3, "held": True, "why": "Größe", "until": None}
    zone = timezone(timedelta(hours=9))
    told = event(1, at=NOON.astimezone(zone), data=data)
    await record.add([told], NOON)
    (found,) = await record.events()
    assert found == told
    assert found.at.tzinfo == UTC


async def test_hearing_an_event_again_does_nothing_again(record: Record) -> None:
    first = await record.add([event(1), event(2), event(1)], NOON)
    again = await record.add([event(2), event(1)], NOON)
    assert (first.new, again.new) == (2, 0)
    assert again.marks == {"/gate": Mark(2, 2)}
    assert again.conflicts == ()
    assert len(await record.events()) == 2


async def test_another_event_under_the_same_id_is_kept_apart_and_named_once(record: Record) -> None:
    await record.add([event(1)], NOON)
    changed = event(1, "gate.relaxed")
    first = await record.add([changed, changed], NOON)
    again = await record.add([changed], NOON)
    assert (first.conflicts, again.conflicts) == (("/gate/1",), ())
    assert await record.events() == [event(1)]
    with record.engine.connect() as connection:
        (kept,) = connection.execute(text("SELECT event FROM conflicts")).scalars()
    assert Event.model_validate_json(kept) == changed


async def test_two_bodies_of_one_id_in_one_page_conflict(record: Record) -> None:
    added = await record.add([event(1), event(1, "gate.relaxed")], NOON)
    assert (added.new, added.conflicts) == (1, ("/gate/1",))


async def test_what_no_database_could_keep_is_named_and_stops_nothing(record: Record) -> None:
    too_late = event(3, at=datetime.max.replace(tzinfo=timezone(timedelta(hours=-9))))
    not_json = event(2, data={"share": float("nan")})
    added = await record.add([event(2**63, at=NOON), not_json, too_late, event(1)], NOON)
    assert added.unkeepable == (f"/gate/{2**63}", "/gate/2", "/gate/3")
    assert await record.events() == [event(1)]


@pytest.mark.parametrize("name", ["a\0b", "x" * 1001, "\ud800"], ids=["nul", "long", "half"])
async def test_a_name_that_a_database_cannot_keep_or_find_stops_nothing(
    record: Record, name: str
) -> None:
    told = [
        event(1, subject=name),
        event(2, name),
        event(1, source=name),
        event(3, "stage.forecast", data={"stage": name, "p50": None, "p90": None}),
        event(4, "stage.advanced", data={"stage": name}),
        event(5),
    ]
    if name == "\ud800":  # it is no JSON for the columns, and for nobody else
        told[3:5] = [event(3), event(4)]
    added = await record.add(told, NOON)
    assert added.unkeepable == ("/gate/1", "/gate/2", f"{name}/1")
    assert added.unreadable_forecasts == (() if name == "\ud800" else ("/gate/3",))
    assert await record.events() == told[3:]


async def test_names_as_long_as_may_be_are_kept(record: Record) -> None:
    name = "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(333))
    data: EventData = {"stage": name[::-1], "p50": None, "p90": None}
    told = event(1, "stage.forecast", source=name, subject=name, data=data)
    changed = event(1, name, source=name)
    added = await record.add([told, changed], NOON)
    assert (added.new, added.conflicts) == (1, (told.id,))
    (forecast,) = await record.forecasts(subject=name)
    assert forecast.what == name[::-1]


async def test_what_happens_on_the_last_day_of_the_calendar_is_kept(record: Record) -> None:
    last = datetime.max.replace(tzinfo=UTC)
    data: EventData = {"stage": "free", "p50": last.isoformat(), "p90": None}
    too_late: EventData = {**data, "p50": "9999-12-31T23:59:59-09:00"}
    told = [
        event(1, "stage.forecast", at=last, data=data),
        event(2, "stage.forecast", at=last, data=too_late),
        event(3, at=datetime.min.replace(tzinfo=UTC)),
    ]
    added = await record.add(told, NOON)
    assert (added.new, added.unkeepable, added.unreadable_forecasts) == (3, (), ("/gate/2",))
    assert await record.events() == [told[2], told[0], told[1]]
    (forecast,) = await record.forecasts()
    assert forecast.p50 == last


async def test_a_gap_is_seen_until_it_is_filled(record: Record) -> None:
    early = await record.add([event(n) for n in (1, 2, 5, 9)], NOON)
    await record.add([event(1, source="/other"), event(3, source="/third")], NOON)
    assert early.marks == {"/gate": Mark(2, 9)}
    assert await record.gaps() == [
        Gap("/gate", range(3, 5)),
        Gap("/gate", range(6, 9)),
        Gap("/third", range(1, 3)),
    ]
    assert await record.gaps(["/third"]) == [Gap("/third", range(1, 3))]
    partly = await record.add([event(4), event(3)], NOON)
    filled = await record.add([event(n) for n in (8, 7, 6)], NOON)
    assert (partly.marks, filled.marks) == ({"/gate": Mark(5, 9)}, {"/gate": Mark(9, 9)})
    assert await record.gaps(["/gate"]) == []
    assert (await record.marks())["/gate"] == Mark(9, 9)


async def test_events_come_by_instant_then_source_then_sequence(record: Record) -> None:
    told = [
        event(1, source="/b", at=NOON),
        event(2, source="/a", at=NOON),
        event(1, source="/a", at=NOON),
        event(3, source="/a", at=NOON - timedelta(microseconds=1)),
    ]
    await record.add(told, NOON)
    assert [each.id for each in await record.events()] == ["/a/3", "/a/1", "/a/2", "/b/1"]


async def test_events_are_found_by_type_and_subject_and_page_by_page(record: Record) -> None:
    told = [event(n, "a" if n % 2 else "b", subject="x" if n < 5 else "y") for n in range(1, 9)]
    await record.add(told, NOON)
    assert [e.sequence for e in await record.events(types=["a"], subject="x")] == [1, 3]
    page = await record.events(limit=3)
    rest = await record.events(after_id=page[-1].id)
    assert [e.sequence for e in page + rest] == list(range(1, 9))


async def test_paging_on_behind_an_unknown_event_is_refused(record: Record) -> None:
    with pytest.raises(PlanError, match="after_id: got '/gate/7', expected the id"):
        await record.events(after_id="/gate/7")


async def test_a_forecast_is_closed_when_its_stage_advances(record: Record) -> None:
    data: EventData = {"stage": "free", "p50": "2026-03-04T13:00:00Z", "p90": None}
    other: EventData = {"stage": "plus", "p50": None, "p90": None}
    made = [event(1, "stage.forecast", data=data), event(2, "stage.forecast", data=other)]
    await record.add(made, NOON)
    await record.add([event(3, "stage.advanced", data={"stage": "free"})], NOON)
    await record.add([event(4, "stage.advanced", data={"stage": "free"})], NOON)
    free, plus = await record.forecasts(subject="image")
    assert (free.what, free.p50, free.p90) == ("free", NOON + timedelta(hours=1), None)
    assert free.came_true_at == NOON + timedelta(seconds=3)
    assert (plus.what, plus.came_true_at) == ("plus", None)


async def test_a_forecast_that_arrives_after_its_stage_advanced_is_closed_too(
    record: Record,
) -> None:
    advanced = [event(n, "stage.advanced", data={"stage": "free"}) for n in (1, 3, 4)]
    await record.add(advanced, NOON)
    data: EventData = {"stage": "free", "p50": None, "p90": None}
    await record.add([event(2, "stage.forecast", data=data)], NOON)
    (forecast,) = await record.forecasts()
    assert forecast.came_true_at == NOON + timedelta(seconds=3)


async def test_a_forecast_that_is_none_stays_an_event(record: Record) -> None:
    added = await record.add([event(1, "stage.forecast", data={"p50": "soon"})], NOON)
    assert (added.new, added.unreadable_forecasts) == (1, ("/gate/1",))
    assert await record.forecasts() == []


async def test_demand_history_is_kept_once_for_each_window(record: Record) -> None:
    mean = MeanDemand(NOON, "image", "free", 3.0, 1.5, 0.0)
    await record.add_demand([mean])
    await record.add_demand([MeanDemand(NOON, "image", "free", 9.0, 9.0, 9.0)])
    hour = timedelta(hours=1)
    assert await record.demand("image", since=NOON, until=NOON + hour) == [mean]
    assert await record.demand("image", since=NOON - hour, until=NOON) == []


async def test_two_writers_and_a_reader_wait_for_each_other(
    record_url: str, record: Record
) -> None:
    async with Record(record_url) as other:
        told = [event(n) for n in range(1, 200)]
        pages = [told[n : n + 20] for n in range(0, 200, 20)]
        writes = [one.add(page, NOON) for page in pages for one in (record, other)]
        added, _ = await asyncio.gather(asyncio.gather(*writes), record.events())
    assert sum(each.new for each in added) == 199
    assert await record.marks() == {"/gate": Mark(199, 199)}


async def test_a_record_without_tables_is_unavailable_and_says_what_to_do(record_url: str) -> None:
    async with Record(record_url) as record:
        with pytest.raises(
            Unavailable, match=r"(no such table|does not exist).*Start the recorder"
        ):
            await record.events()


async def test_a_file_that_is_no_database_is_broken(tmp_path: Path) -> None:
    (tmp_path / "record.db").write_text("notes, not a database\n" * 99)
    async with Record(f"sqlite:///{tmp_path}/record.db") as record:
        with pytest.raises(Broken, match="not a database"):
            await record.marks()
