"""One subject a file, short functions, few parameters, shallow folders."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Final

from tests.house.checkout import texts

MEDIAN_LINES: Final = 150
SOURCE_LINES: Final = 400
TEST_LINES: Final = 500
FUNCTION_LINES: Final = 40
PARAMETERS: Final = 6
FOLDERS: Final = 3

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _is_test(path: Path) -> bool:
    return path.parts[0] == "tests"


def _is_generated(path: Path) -> bool:
    return path.parts[-3:-1] == ("migrations", "versions")


def _length(text: str) -> int:
    return len(text.splitlines())


def _parameters(function: Function) -> int:
    named = function.args
    every = [*named.posonlyargs, *named.args, *named.kwonlyargs]
    return len([argument for argument in every if argument.arg not in {"self", "cls"}])


def _functions(text: str) -> Iterator[Function]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Function):
            yield node


def _faults_of_file(path: Path, text: str) -> Iterator[str]:
    limit = TEST_LINES if _is_test(path) else SOURCE_LINES
    if _length(text) > limit:
        yield f"{path}: {_length(text)} lines, limit {limit}. Split it by subject."
    if len(path.parent.parts) > FOLDERS:
        yield f"{path}: {len(path.parent.parts)} folders deep, limit {FOLDERS}. Move it up."


def _faults_of_functions(path: Path, text: str) -> Iterator[str]:
    for function in _functions(text):
        where = f"{path}:{function.lineno} {function.name}"
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        if lines > FUNCTION_LINES:
            yield f"{where}: {lines} lines, limit {FUNCTION_LINES}. Name its parts."
        if _parameters(function) > PARAMETERS:
            yield f"{where}: {_parameters(function)} parameters, limit {PARAMETERS}. Name a value."


def faults(sources: Mapping[Path, str]) -> list[str]:
    """Say what is too large; package markers do not pull the median down."""
    judged = {path: text for path, text in sources.items() if not _is_generated(path)}
    found = [fault for path, text in judged.items() for fault in _faults_of_file(path, text)]
    found += [fault for path, text in judged.items() for fault in _faults_of_functions(path, text)]
    lengths = [
        _length(text)
        for path, text in judged.items()
        if not _is_test(path) and path.name != "__init__.py"
    ]
    if lengths and median(lengths) > MEDIAN_LINES:
        found.append(f"source files: median {median(lengths)} lines, limit {MEDIAN_LINES}.")
    return found


def test_every_file_and_function_of_the_checkout_keeps_its_size() -> None:
    assert faults(texts("*.py")) == []


def test_a_source_file_over_its_limit_is_caught_and_a_test_file_may_be_longer() -> None:
    long = "x = 1\n" * 450
    short = dict.fromkeys(map(Path, ("a.py", "b.py", "c.py")), "x = 1\n")
    assert faults({**short, Path("gateway/long.py"): long}) == [
        "gateway/long.py: 450 lines, limit 400. Split it by subject."
    ]
    assert faults({**short, Path("tests/gateway/test_long.py"): long}) == []


def test_a_median_over_its_limit_is_caught_whatever_the_package_markers() -> None:
    sources = {Path(f"gateway/{name}.py"): "x = 1\n" * 200 for name in "abc"}
    markers = {Path(f"{name}/__init__.py"): "" for name in "abcdef"}
    assert faults({**sources, **markers}) == ["source files: median 200 lines, limit 150."]


def test_a_long_function_is_caught() -> None:
    source = "async def wander() -> None:\n" + "    x = 1\n" * 40
    assert faults({Path("a.py"): source}) == ["a.py:1 wander: 41 lines, limit 40. Name its parts."]


def test_a_seventh_parameter_is_caught_keyword_only_included_and_self_not() -> None:
    six = "class A:\n    def f(self, a, b, c, *, d, e, f): ...\n"
    seven = "def g(a, b, c, *, d, e, f, g): ...\n"
    assert faults({Path("a.py"): six + seven}) == ["a.py:3 g: 7 parameters, limit 6. Name a value."]


def test_a_fourth_folder_is_caught_and_alembic_migrations_are_left_out() -> None:
    assert faults({Path("a/b/c/d/e.py"): "", Path("a/b/c/migrations/versions/e.py"): ""}) == [
        "a/b/c/d/e.py: 4 folders deep, limit 3. Move it up."
    ]
