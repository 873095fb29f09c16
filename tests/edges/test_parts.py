"""An intent that was only renewed is not read again, and says what it would have said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.tidegate.snapshots import NOW, conditioned_snapshots, feature, intent
from tidegate.edges.parts import IntentReader
from tidegate.snapshot import IntentPart, Snapshot


def test_what_is_renewed_as_it_was_is_not_read_again() -> None:
    reader = IntentReader()
    first = reader.read(intent().model_dump_json())
    again = reader.read(intent(version=20, expires_at=NOW + 99.0).model_dump_json())
    assert again.features is first.features
    assert again == intent(version=20, expires_at=NOW + 99.0)


@given(st.lists(conditioned_snapshots() | st.just(None), max_size=6), st.data())
def test_however_they_follow_each_is_what_was_written(
    in_turn: list[Snapshot | None], data: st.DataObject
) -> None:
    reader, last = IntentReader(), intent()
    for number, known in enumerate(in_turn):
        part = last if known is None or known.intent is None else known.intent
        last = part.model_copy(update={"version": number, "issued_at": data.draw(st.floats(0, 9))})
        assert reader.read(last.model_dump_json()) == last


@pytest.mark.parametrize(
    "head",
    [
        '{"version":"x","issued_at":1,"expires_at":2',
        '{"version":1',
        '{"version":1,"issued_at":1,"expires_at":2,"models":{"m":{"successor":"n"}}',
        '{"features":{},"version":1,"issued_at":1,"expires_at":2',
    ],
)
def test_other_stamps_come_to_what_they_say_or_are_refused(head: str) -> None:
    reader = IntentReader()
    written = intent().model_dump_json()
    reader.read(written)
    text = head + written[written.index(',"tiers":') :]
    try:
        expected = IntentPart.model_validate_json(text)
    except ValidationError:
        with pytest.raises(ValidationError):
            reader.read(text)
    else:
        assert reader.read(text) == expected


def test_text_that_looks_like_the_end_of_the_stamps_is_no_such_end() -> None:
    reader = IntentReader()
    for reason in (',"tiers":', 'legal ,"tiers":{}'):
        part = intent({"image": feature(held_because=reason)})
        assert reader.read(part.model_dump_json()) == part
