"""How far each lane of a waitlist may have come; marks only ever rise."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select

from tidegate.edges.record.engine import insert_into
from tidegate.edges.record.tables import WAITLIST_MARKS

_MARKS: Final = ("reserved_below", "issued_below", "called_below")


@dataclass(frozen=True, slots=True)
class LaneMark:
    """Numbers at or above `reserved_below` were never given out to anybody."""

    reserved_below: int = 0
    issued_below: int = 0
    """As of the last time that it was kept: more may have been given out since."""
    called_below: int = 0
    gaps: tuple[tuple[int, int], ...] = ()
    """Numbers that were skipped, as of the same time."""


def lane_mark(connection: Connection, feature: str, tier: str) -> LaneMark:
    """Read one lane's mark; all zero for a lane that was never heard of."""
    columns = [WAITLIST_MARKS.c[name] for name in (*_MARKS, "gaps")]
    where = (WAITLIST_MARKS.c.feature == feature, WAITLIST_MARKS.c.tier == tier)
    row = connection.execute(select(*columns).where(*where)).one_or_none()
    if row is None:
        return LaneMark()
    reserved_below, issued_below, called_below, gaps = row
    skipped = tuple((first, below) for first, below in gaps)
    return LaneMark(reserved_below, issued_below, called_below, skipped)


def raise_lane_mark(connection: Connection, feature: str, tier: str, mark: LaneMark) -> None:
    """Keep a mark, each part of it only where it is higher than what is kept."""
    held = lane_mark(connection, feature, tier)
    row: dict[str, object] = {
        name: max(getattr(held, name), getattr(mark, name)) for name in _MARKS
    }
    row["gaps"] = [list(gap) for gap in mark.gaps]
    statement = insert_into(connection, WAITLIST_MARKS).values(feature=feature, tier=tier, **row)
    key = [WAITLIST_MARKS.c.feature, WAITLIST_MARKS.c.tier]
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=row))
