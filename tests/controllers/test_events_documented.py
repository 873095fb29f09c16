"""Every type of event that the code tells is in docs/events.md, and no other is."""

import ast
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import pytest

from tidegate.rules.gate import Move

ROOT: Final = Path(__file__).parents[2]
ROOMS: Final = ("activities", "console", "controllers", "gateway", "workflows")
NAMES: Final = frozenset({"event_type", "type_"})
"""A function with a parameter of these names tells events of the type that it is given."""

_ROW: Final = re.compile(r"^\| `([a-z_]+\.[a-z_]+)` \|", re.MULTILINE)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def tellers(tree: ast.AST) -> dict[str, int | None]:
    """Say, of each function, at which place it takes a type; None where it takes none."""
    found: dict[str, int | None] = {}
    for node in ast.walk(tree):
        if isinstance(node, Function):
            names = [each.arg for each in node.args.posonlyargs + node.args.args]
            names = names[1:] if names[:1] == ["self"] else names
            places = [place for place, name in enumerate(names) if name in NAMES]
            found[node.name] = places[0] if places else None
    return found


def types_in(expression: ast.expr) -> Iterator[str]:
    """Find the types that an expression can be, a `*` for each part that only a run knows."""
    match expression:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=one, orelse=other):
            yield from types_in(one)
            yield from types_in(other)
        case ast.JoinedStr(values=parts):
            yield "".join(str(p.value) if isinstance(p, ast.Constant) else "*" for p in parts)
        case ast.Name(id=name) if name in NAMES:
            return  # handed on; its callers say which
        case _:
            message = f"{ast.unparse(expression)}: write the type where the event is told"
            raise AssertionError(message)


def told_in(sources: Iterable[str]) -> set[str]:
    """Find every type of event that these files tell."""
    trees = [ast.parse(source) for source in sources]
    everywhere: dict[str, int | None] = {"tell": 0, "news": 0}
    for tree in trees:
        public = {name: at for name, at in tellers(tree).items() if not name.startswith("_")}
        everywhere |= {name: at for name, at in public.items() if at is not None}
    found: set[str] = set()
    for tree in trees:
        own = {name: p for name, p in tellers(tree).items() if name.startswith("_")}
        places = everywhere | own
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                for expression in type_of(node, places):
                    found.update(types_in(expression))
    return found


def type_of(call: ast.Call, places: dict[str, int | None]) -> Iterator[ast.expr]:
    """Find the expression that says the type of the event that a call tells, if it tells one."""
    match call.func:
        case ast.Name(id="Event"):
            yield from (keyword.value for keyword in call.keywords if keyword.arg == "type")
        case ast.Name(id=name) | ast.Attribute(attr=name):
            place = places.get(name)
            if place is not None and len(call.args) > place:
                yield call.args[place]


def sources() -> list[str]:
    return [path.read_text() for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def documented() -> set[str]:
    return set(_ROW.findall((ROOT / "docs/events.md").read_text()))


def test_every_type_of_event_is_documented() -> None:
    types = documented()
    told = told_in(sources())
    assert {each for each in told if not any(fnmatchcase(one, each) for one in types)} == set()
    assert {f"gate.{move}" for move in Move} - {"gate.stayed"} <= types


def test_no_type_is_documented_that_nobody_tells() -> None:
    told = told_in(sources())
    assert {
        each for each in documented() if not any(fnmatchcase(each, one) for one in told)
    } == set()


def test_a_type_is_found_however_it_is_told() -> None:
    source = """
    class Teller:
        def _pass_on(self, order, event_type): self.outbox.tell(event_type, subject="x")
        def act(self):
            self.outbox.tell("a.told" if more else "b.told", subject="x")
            self.outbox.tell(f"c.{move}")
            self._pass_on(order, "d.told")
            return Event(source="/x", type="e.told"), asyncio.Event(), self.pool.tell()
    """
    elsewhere = "def _pass_on(order, why): ...\n_pass_on(order, words)"
    found = told_in([re.sub("^    ", "", source, flags=re.MULTILINE), elsewhere])
    assert found == {"a.told", "b.told", "c.*", "d.told", "e.told"}


def test_a_type_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(AssertionError, match="words: write the type where the event is told"):
        told_in(["outbox.tell(words, subject='x')"])
