"""The commands: what the documents type exists, and what exists says what it does."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest
import typer
from typer.core import TyperCommand, TyperOption

from tests.house.checkout import ROOT, texts
from tidegate.cli.main import app

_TYPED: Final = re.compile(r"(?:`|^\$ |^|-m )tidegate ([a-z][^`\n#|&]*)", re.MULTILINE)
_TO_COME: Final = {Path("docs/architecture.md"): {"kill", "rehearse"}}
"""What the design has and nobody has built yet, and the one page that says so."""
_CODE: Final = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def commands() -> dict[str, TyperCommand]:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    return {name: c for name, c in group.commands.items() if isinstance(c, TyperCommand)}


def typed(text: str) -> Iterator[list[str]]:
    """Find the words of every command that a document or a message shows as code."""
    for code in _CODE.findall(text):
        for match in _TYPED.finditer(code):
            yield shlex.split(match[1].strip().replace("'", ""))


def unknown(texts_by_path: Mapping[Path, str]) -> list[str]:
    """Say which typed commands do not exist, or have options that they do not take."""
    known = {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in commands().items()
    }
    found = []
    for path, text in texts_by_path.items():
        for words in typed(text):
            if words[0] in _TO_COME.get(path, ()):
                continue
            name, given = words[0], {word.partition("=")[0] for word in words if word[0] == "-"}
            wrong = given - known.get(name, set()) - {"--help"}
            if name not in known or wrong:
                found.append(f"{path}: tidegate {' '.join(words)}")
    return found


def test_every_command_that_a_document_types_exists_with_its_options() -> None:
    documents = texts("README.md", "docs/*.md")
    assert sum(len(list(typed(text))) for text in documents.values()) > 10
    assert unknown(documents) == []


def test_every_command_that_a_workflow_proposes_exists_with_its_options() -> None:
    assert unknown(texts("workflows/*.py")) == []


@pytest.mark.parametrize(
    "text", ["`tidegate aprove x`", "```\n$ tidegate hold x --rule legal\n```", "`tidegate steer`"]
)
def test_a_command_that_does_not_exist_is_caught(text: str) -> None:
    assert len(unknown({Path("x.md"): text})) == 1


@pytest.mark.parametrize("name", sorted(commands()))
def test_a_command_says_what_it_does_in_a_sentence_and_so_does_each_option(name: str) -> None:
    command = commands()[name]
    assert command.help is not None
    assert re.fullmatch(r"[A-Z][^\n]+\.", command.help), command.help
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{name}: {parameter.name} says nothing"
        if isinstance(parameter, TyperOption) and parameter.name == "role":
            assert parameter.required


def test_help_waits_for_no_client_of_any_server() -> None:
    program = (
        "import sys, tidegate.cli.main; "
        "print([m for m in ('temporalio', 'redis', 'aiohttp', 'sqlalchemy') if m in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "[]"
