"""Reading who asks for what out of a request, with every mistake named at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal
from urllib.parse import parse_qsl

import msgspec
from pydantic_core import from_json

from tidegate.errors import PlanError
from tidegate.rules.outcome import NOTHING_SAID, Asks, Attributes, Question

DEFAULT_SURFACE: Final = "api"
_TEXT: Final = "a non-empty string"
_SHOWN_CHARACTERS: Final = 60
_SHOWN_UP_TO: Final = 10**15
_QUERY_FIELDS: Final = 32
NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong with a request; `field` is "body" for the whole of it."""

    field: str
    got: str
    expected: str

    def __str__(self) -> str:
        """Say it in one sentence."""
        return f"{self.field}: got {self.got}, expected {self.expected}."


class Malformed(PlanError):  # noqa: N818 - named for the state of the request
    """A request cannot be read; `wrong` holds every mistake found."""

    def __init__(self, *wrong: Mistake) -> None:
        sentences = [str(mistake) for mistake in wrong]
        super().__init__(" ".join(sentences), code="malformed", mistakes=sentences)
        self.wrong = wrong


def read_object(body: bytes) -> Mapping[str, object]:
    """Read a JSON object; raises Malformed about the field "body"."""
    expected = "a JSON object"
    try:
        # Bounded in depth, and refuses halves of surrogate pairs, which json.loads lets through.
        document = from_json(body)
    except ValueError as error:
        raise Malformed(Mistake("body", f"{len(body)} bytes ({error})", expected)) from error
    if not isinstance(document, dict):
        raise Malformed(Mistake("body", show(document), expected))
    return document


def read_query(query: bytes) -> Mapping[str, object]:
    """Read a query string; of a field given twice the last counts. Raises Malformed."""
    try:
        pairs = parse_qsl(
            query.decode("latin-1"), keep_blank_values=True, max_num_fields=_QUERY_FIELDS
        )
    except ValueError as error:
        mistake = Mistake("query", str(error), f"at most {_QUERY_FIELDS} fields")
        raise Malformed(mistake) from error
    return dict(pairs)


def read_asked_in_query(query: bytes) -> Question:
    """Read a question out of a query string, its attributes as a JSON object; raises Malformed."""
    fields = dict(read_query(query))
    if "attributes" in fields:
        fields["attributes"] = _object_in(str(fields["attributes"]))
    return read_question(fields)


def _object_in(text: str) -> Mapping[str, object]:
    try:
        document = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        expected = 'a JSON object, such as {"region":"eu"}, or none'
        raise Malformed(Mistake("attributes", f"{show(text)} ({error})", expected)) from error
    if not isinstance(document, dict):
        raise Malformed(Mistake("attributes", show(document), "a JSON object, or none"))
    return document


class _Asked(msgspec.Struct):
    """A request that is right, as nearly all are: read in one go."""

    feature: NonEmpty
    user: NonEmpty
    tier: NonEmpty = ""  # where none is claimed
    surface: NonEmpty = DEFAULT_SURFACE
    attributes: dict[str, object] = msgspec.field(default_factory=dict)
    asks: Literal["use", "signup"] = "use"


_decode: Final = msgspec.json.Decoder(_Asked).decode
_ASKS: Final = {"use": Asks.USE, "signup": Asks.SIGNUP}


def read_asked(body: bytes) -> Question:
    """Read a question out of a request's body; raises Malformed."""
    try:
        asked = _decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return read_question(read_object(body))  # which says what is wrong, all at once
    return Question(
        asked.feature, asked.user, asked.tier, asked.surface, asked.attributes, _ASKS[asked.asks]
    )


def read_question(fields: Mapping[str, object]) -> Question:
    """Read feature, user, tier, surface, attributes and asks; others are left for later releases.

    Raises Malformed.
    """
    require_texts(fields, ("feature", "user"))
    return Question(
        feature=str(fields["feature"]),
        user=str(fields["user"]),
        tier=str(fields.get("tier", "")),
        surface=surface_of(fields),
        attributes=_attributes_of(fields),
        asks=asks_of(fields),
    )


def _attributes_of(fields: Mapping[str, object]) -> Attributes:
    said = fields.get("attributes", NOTHING_SAID)
    if not isinstance(said, Mapping):
        raise Malformed(Mistake("attributes", show(said), "an object, or none"))
    return said


def asks_of(fields: Mapping[str, object]) -> Asks:
    """Return what is asked, a use where nothing else is said. Raises Malformed."""
    asks = fields.get("asks", "use")
    if not isinstance(asks, str) or asks not in _ASKS:
        raise Malformed(Mistake("asks", show(asks), '"use", "signup", or none'))
    return _ASKS[asks]


def surface_of(fields: Mapping[str, object]) -> str:
    """Return the surface, "api" where none is named."""
    return str(fields.get("surface", DEFAULT_SURFACE))


def require_texts(fields: Mapping[str, object], names: Sequence[str]) -> None:
    """Raise Malformed, about all at once, unless these fields and any tier or surface are texts."""
    wrong = [
        Mistake(name, show(fields[name]) if name in fields else "nothing", _TEXT)
        for name in names
        if not _is_text(fields.get(name))
    ]
    wrong += [
        Mistake(name, show(fields[name]), f"{_TEXT}, or none")
        for name in ("tier", "surface")
        if name in fields and not _is_text(fields[name])
    ]
    if wrong:
        raise Malformed(*wrong)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def show(value: object) -> str:
    """Show what was got, short, whatever a hostile caller sent."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int():
            return str(value) if abs(value) < _SHOWN_UP_TO else "a very large number"
        case float():
            return repr(value)
        case str() if len(value) > _SHOWN_CHARACTERS:
            return f'"{value[:_SHOWN_CHARACTERS]}…"'
        case str():
            return f'"{value}"'
        case list():
            return f"a list of {len(value)}"
        case _:
            return "an object"
