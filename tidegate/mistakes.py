"""What is wrong with what people wrote: field, found, expected, next step, in one line each."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Location = tuple[int | str, ...]

_WHOLE: Final = ("a whole number", "Write digits only")
_NUMBER: Final = ("a number", "Write digits, such as 2.5")
_TRUTH: Final = ("true or false", "Write one of the two")
_INSTANT: Final = ("an instant with its zone", 'Write it like "2026-03-04T09:00:00Z"')
_LIST: Final = ("a list", "Start each item with a dash")
_FIELDS: Final = ("a group of fields", "Write them below it, indented")

_EXPECTED: Final[Mapping[str, tuple[str, str]]] = {
    "bool_parsing": _TRUTH,
    "bool_type": _TRUTH,
    "date_from_datetime_parsing": _INSTANT,
    "datetime_from_date_parsing": _INSTANT,
    "datetime_object_invalid": _INSTANT,
    "datetime_parsing": _INSTANT,
    "datetime_type": _INSTANT,
    "dict_type": _FIELDS,
    "finite_number": _NUMBER,
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "int_from_float": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_type": _WHOLE,
    "invalid_key": ("names of fields", "Put it in quotes, or drop it"),
    "mapping_type": _FIELDS,
    "model_attributes_type": _FIELDS,
    "model_type": _FIELDS,
    "string_pattern_mismatch": (
        "lower-case letters, digits, dots and dashes, 63 at most",
        "Rename it",
    ),
    "string_too_short": ("some text", "Fill it in"),
    "string_type": ("text", "Put it in quotes"),
    "timezone_aware": _INSTANT,
    "too_short": ("at least one item", "Add it"),
    "tuple_type": _LIST,
}


def describe(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Return a line for each mistake that Pydantic found in what should have been a `model`."""
    found = error.errors()
    misspelt = {
        (*details["loc"][:-1], near)
        for details in found
        if details["type"] == "extra_forbidden" and (near := _meant(details["loc"], model))
    }
    return [
        line
        for details in found
        # A misspelt field is one mistake, not also a missing one.
        if not (details["type"] == "missing" and details["loc"] in misspelt)
        for line in _lines(details, model)
    ]


def shown(value: object) -> str:
    """Show what was found, on one line and not at length."""
    if value is None:
        return "nothing"
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 - one line


def nearest(name: object, known: Iterable[str]) -> str | None:
    """Return the known name that was probably meant."""
    near = difflib.get_close_matches(str(name), sorted(known), n=1, cutoff=0.5)
    return near[0] if near else None


def _lines(details: ErrorDetails, model: type[BaseModel]) -> Iterator[str]:
    path = _path(details["loc"])
    got = shown(details["input"])
    match details["type"]:
        case "value_error":
            message = str(details["ctx"]["error"])
            if message.startswith("stages["):
                yield from (f"{path}.{line}" for line in message.split("\n"))
            else:
                yield f"{path}: got {got}, {message}."
        case "too_short" if details["input"]:
            return  # its items are wrong, and each of them says so itself
        case "missing":
            yield f"{path}: got nothing, expected a value. Add it."
        case "extra_forbidden":
            yield _unknown_field(details["loc"], model)
        case _:
            expected, next_step = _expectation(details)
            yield f"{path}: got {got}, expected {expected}. {next_step}."


def _expectation(details: ErrorDetails) -> tuple[str, str]:
    context = details.get("ctx", {})
    match details["type"]:
        case "greater_than":
            return f"more than {context['gt']:g}", "Raise it"
        case "greater_than_equal":
            return f"at least {context['ge']:g}", "Raise it"
        case "literal_error":
            choice = str(context["expected"]).replace("'", '"')
            return choice, "Write it so" if " or " not in choice else "Choose one"
        case other if other in _EXPECTED:
            return _EXPECTED[other]
        case _:
            return details["msg"].removeprefix("Input should be "), "Change it"


def _unknown_field(location: Location, model: type[BaseModel]) -> str:
    path = _path(location)
    if near := _meant(location, model):
        return f'{path}: got an unknown field, expected a known one. Did you mean "{near}"?'
    known = ", ".join(_fields_beside(location, model))
    return f"{path}: got an unknown field, expected one of {known}. Drop it, or correct its name."


def _meant(location: Location, model: type[BaseModel]) -> str | None:
    return nearest(location[-1], _fields_beside(location, model))


def _fields_beside(location: Location, model: type[BaseModel]) -> list[str]:
    """Name the fields that the model at this place knows."""
    for part in location[:-1]:
        for name, field in model.model_fields.items():
            if part == (field.alias or name):
                model = next(_models_in(field.annotation), model)
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _path(location: Location) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")
