"""The local snapshot takes what is newer and nothing else, and survives on disk."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.tidegate.snapshots import NOW, gate, intent, snapshot
from tidegate.changes import change_between
from tidegate.edges.stored import SnapshotFile
from tidegate.holding import Held, SnapshotHolder
from tidegate.snapshot import KillPart, Snapshot

parts = st.builds(
    lambda i, g: Snapshot(
        intent=None if i is None else intent(version=i),
        gates={} if g is None else {"image": gate(version=g)},
    ),
    st.none() | st.integers(0, 9),
    st.none() | st.integers(0, 9),
)


@given(st.lists(parts))
def test_each_part_is_the_newest_ever_offered(offers: list[Snapshot]) -> None:
    holder = SnapshotHolder()
    newest: dict[str, int] = {}
    for offered in offers:
        holder.take(offered)
        for name, version in offered.versions().items():
            newest[name] = max(version, newest.get(name, version))
        assert holder.now_held.snapshot.versions() == newest


def test_what_is_missing_changes_nothing() -> None:
    holder = SnapshotHolder()
    assert holder.take(snapshot())
    before = holder.now_held
    assert not holder.take(Snapshot())
    assert holder.now_held is before


def test_what_is_no_newer_is_refused_whatever_it_says() -> None:
    holder = SnapshotHolder()
    holder.take(snapshot(intent(), gate({"free": 0.0}, version=11)))
    for version in (10, 11):
        assert not holder.take(Snapshot(gates={"image": gate(version=version)}))
    assert not holder.now_held.decider.decide("image", "ada", "free", "api", NOW).allowed


def test_a_saved_snapshot_is_loaded_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "state" / "gateway-one.json"
    SnapshotFile(path).save(snapshot())
    assert SnapshotFile(path).load() == snapshot()
    assert [file.name for file in path.parent.iterdir()] == ["gateway-one.json"]


def test_a_part_that_is_renewed_does_not_write_what_people_decided_again(tmp_path: Path) -> None:
    path = tmp_path / "gateway-one.json"
    file = SnapshotFile(path)
    file.save(snapshot())
    written = path.stat()
    renewed = intent(version=20, expires_at=NOW + 900.0)
    file.save(snapshot(renewed, gate({"free": 0.4}, version=30)))
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert SnapshotFile(path).load() == snapshot(renewed, gate({"free": 0.4}, version=30))


def test_what_people_decide_anew_is_written_whole_and_outlives_what_was_renewed_before(
    tmp_path: Path,
) -> None:
    path = tmp_path / "gateway-one.json"
    file = SnapshotFile(path)
    decided = snapshot(intent({}, version=40), gate(version=41))
    for each in (snapshot(), snapshot(intent(version=20), gate(version=30)), decided):
        file.save(each)
        assert SnapshotFile(path).load() == each
    # A process that ended between the two writes leaves what renews another intent.
    since = path.with_suffix(".since.json")
    since.write_text(change_between(snapshot(), snapshot(intent(version=20))).model_dump_json())
    assert SnapshotFile(path).load() == decided


def test_nothing_saved_is_no_news(tmp_path: Path) -> None:
    with capture_logs() as logs:
        assert SnapshotFile(tmp_path / "none.json").load() == Snapshot()
    assert logs == []


@pytest.mark.parametrize("saved", [b"", b"{", b"\xff\xfe", b'{"intent": {"version": "x"}}'])
def test_a_saved_snapshot_that_cannot_be_read_is_told_and_left(
    tmp_path: Path, saved: bytes
) -> None:
    path = tmp_path / "gateway.json"
    path.write_bytes(saved)
    with capture_logs() as logs:
        assert SnapshotFile(path).load() == Snapshot()
    assert [log["event"] for log in logs] == ["snapshot.unreadable"]


def test_a_disk_that_fails_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    file = SnapshotFile(tmp_path / "file" / "gateway.json")
    with capture_logs() as logs:
        file.save(snapshot())
        file.save(snapshot())
    assert [log["event"] for log in logs] == ["snapshot.unsaved"]


def test_listeners_hear_of_what_was_taken_and_of_nothing_else() -> None:
    holder, heard = SnapshotHolder(), list[Held]()
    holder.listen(heard.append)
    holder.take(snapshot())
    holder.take(snapshot())
    assert heard == [holder.now_held]


def test_an_order_to_close_a_feature_is_taken_with_the_rest() -> None:
    def kill(version: int, expires_at: float) -> Snapshot:
        part = KillPart(
            feature="image",
            version=version,
            issued_at=NOW,
            expires_at=expires_at,
            by="ops",
            reason="a leak",
        )
        return Snapshot(kills={"image": part})

    holder = SnapshotHolder()
    holder.take(snapshot())
    assert holder.take(kill(2, NOW + 60.0))
    assert not holder.take(kill(1, NOW - 60.0))
    assert not holder.now_held.decider.decide("image", "ada", "pro", "api", NOW).allowed
