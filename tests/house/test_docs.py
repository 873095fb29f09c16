"""The documents name what there is, link to what is there, and show plans that load."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Final
from urllib.parse import unquote

import typer
import yaml

from gateway.questions import read_object, read_question
from scenarios.assertions import ALL
from scenarios.scenario import ScenarioSpec
from tests.house.checkout import ROOT, texts
from tests.house.test_makefile import targets_of
from tidegate import edges
from tidegate.cli.main import EXIT_CODES, app
from tidegate.documents import read_documents
from tidegate.edges.files import load_manifests
from tidegate.manifests import Manifests, parse_manifests
from tidegate.rules import refusals
from tidegate.rules.outcome import Code
from tidegate.settings import Settings, variable

DOCUMENTS: Final = texts("*.md", ":!tests")
REFERENCE: Final = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
ERRORS: Final = frozenset({"PlanError", "Refused", "Unavailable", "Broken", "error"})
LINK: Final = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCED: Final = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    """Return the part of the reference below a heading."""
    return REFERENCE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def rows(title: str) -> Iterator[list[str]]:
    """Yield the cells of each table row of a section."""
    for line in section(title).splitlines():
        if line.startswith("| ") and not line.startswith("| ---"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def code_words(text: str) -> set[str]:
    """Return what is written as code."""
    return set(re.findall(r"`([^`]+)`", text))


def anchors(text: str) -> set[str]:
    """Return the fragments that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def broken_links(documents: Mapping[Path, str]) -> list[str]:
    """Say which relative links point to no file, or to no heading of it."""
    broken = []
    for path, text in documents.items():
        for link in LINK.findall(FENCED.sub("", text)):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = unquote(link).partition("#")
            target = (ROOT / path).parent / name if name else ROOT / path
            if not target.exists():
                broken.append(f"{path}: {link}")
            elif anchor and anchor not in anchors(target.read_text(encoding="utf-8")):
                broken.append(f"{path}: {link} (no such heading)")
    return broken


def plans_in(documents: Mapping[Path, str]) -> Iterator[tuple[str, str]]:
    """Yield each fenced YAML block of our API, with where it stands."""
    for path, text in documents.items():
        for block in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            if "apiVersion: tidegate.dev/v1" in block:
                yield f"{path}", block


def load(block: str, where: str) -> None:
    """Load a block as what it is: a scenario, or manifests."""
    for document in yaml.safe_load_all(block):
        if document["kind"] == "Scenario":
            ScenarioSpec.model_validate(document["spec"])
            return
    parse_manifests(block, where=where)


def error_codes(sources: Iterable[str]) -> set[str]:
    """Find the codes that errors are raised with, or logged under."""
    found = set()
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name in ERRORS or name == "__init__":
                    found |= {
                        str(keyword.value.value)
                        for keyword in node.keywords
                        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant)
                    }
    return found


def test_every_relative_link_points_to_something() -> None:
    assert broken_links(DOCUMENTS) == []


def test_a_link_to_nowhere_is_caught() -> None:
    wrong = "[a](nowhere.md) [b](reference.md#no-such-heading) [c](reference.md#settings)"
    assert broken_links({Path("docs/planted.md"): wrong}) == [
        "docs/planted.md: nowhere.md",
        "docs/planted.md: reference.md#no-such-heading (no such heading)",
    ]


def test_every_plan_in_the_documents_loads() -> None:
    found = list(plans_in(DOCUMENTS))
    assert {where for where, _ in found} >= {"README.md", "docs/scenarios.md"}
    for where, block in found:
        load(block, where)


def test_every_example_is_complete() -> None:
    examples = sorted((ROOT / "docs/examples").glob("*.yaml"))
    assert examples
    launch = load_manifests(ROOT / "docs/examples/launch.yaml")
    for path in examples:
        before = launch if path.stem == "later" else Manifests()
        load_manifests(path, before=before)


def test_the_first_example_can_be_applied_beside_the_demo() -> None:
    demo = texts("scenarios/launch-day-plan.yaml").popitem()[1]
    tiers = [
        document
        for document in read_documents(demo, where="demo")
        if isinstance(document, dict) and document["kind"] == "Tier"
    ]
    before = parse_manifests(yaml.safe_dump_all(tiers), where="demo")
    first = (ROOT / "docs/examples/first.yaml").read_text(encoding="utf-8")
    parse_manifests(first, where="first.yaml", before=before)


def test_every_setting_is_in_the_reference_with_its_default() -> None:
    defaults = {
        code_words(cells[0]).pop(): next(iter(code_words(cells[1])), cells[1])
        for cells in rows("Settings")
        if cells[0].startswith("`TIDEGATE_")
    }
    for name, field in Settings.model_fields.items():
        expected = "none" if field.default is None else str(field.default)
        assert defaults[variable(name)] == expected


def test_every_command_is_in_the_reference_with_its_options() -> None:
    documented = {
        cells[0].split("`")[1]: code_words(cells[1])
        for cells in rows("Commands")
        if cells[0].startswith("`tidegate ")
    }
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    options = {
        f"tidegate {name}": {
            written
            for given in command.params
            if given.param_type_name == "option"
            for written in given.opts
        }
        for name, command in group.commands.items()
    }
    assert set(documented) == set(options)
    for command, written in options.items():
        assert {word for word in documented[command] if word.startswith("-")} == written


def test_every_exit_code_of_a_command_is_in_the_reference() -> None:
    table = section("Commands").split("| exit code |", 1)[1]
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert documented == {0} | {code for _, code in EXIT_CODES}


def test_every_target_of_make_is_in_the_reference() -> None:
    documented = {cells[0].strip("`") for cells in rows("Targets of make")} - {"target"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert documented == {f"make {target}" for target in targets_of(makefile)}


def test_every_decision_code_is_in_the_reference_with_its_status() -> None:
    documented = {cells[0].strip("`"): cells[1] for cells in rows("Decision codes")}
    del documented["code"]
    assert documented == {str(code): str(refusals.STATUS[code]) for code in Code}


def test_every_error_code_is_in_the_reference() -> None:
    rooms = texts("*.py", ":!tests", ":!tools").values()
    assert error_codes(rooms) - code_words(section("Error codes")) == set()


def test_no_error_code_is_in_the_reference_that_nobody_raises() -> None:
    table = "".join(line for line in section("Error codes").splitlines() if line.startswith("|"))
    rooms = texts("*.py", ":!tests", ":!tools").values()
    assert code_words(table) - error_codes(rooms) == set()


def test_an_error_code_without_a_word_about_it_is_caught() -> None:
    source = 'raise Refused("no", code="planted") from error\nf(code="other")'
    assert error_codes([source]) == {"planted"}


def test_every_key_in_redis_is_in_the_reference() -> None:
    modules = [import_module(f"tidegate.edges.{m.name}") for m in iter_modules(edges.__path__)]
    values = [value for module in modules for value in vars(module).values()]
    keys = {value for value in values if isinstance(value, str) and value.startswith("tidegate:")}
    assert keys
    assert {cells[0].strip("`") for cells in rows("Keys in Redis")} - {"key"} == keys


def test_every_thing_that_may_hold_is_documented() -> None:
    text = DOCUMENTS[Path("docs/scenarios.md")].split("## What must hold", 1)[1]
    documented = re.findall(r"^\| `([a-z0-9-]+)` \|", text, re.MULTILINE)
    assert sorted(documented) == sorted(ALL)


def test_every_field_of_a_scenario_is_documented() -> None:
    text = DOCUMENTS[Path("docs/scenarios.md")]
    for field in ScenarioSpec.model_fields.values():
        assert re.search(rf"`{field.alias}[.`]", text) or f"  {field.alias}: " in text, field.alias


def test_what_the_readme_asks_a_gateway_is_a_question() -> None:
    (body,) = re.findall(r"-d '(\{.*?\})'", DOCUMENTS[Path("README.md")])
    assert read_question(read_object(body.encode())).feature == "voice"


def test_the_readme_s_python_is_python() -> None:
    snippets = re.findall(
        r"^```python\n(.*?)^```", DOCUMENTS[Path("README.md")], re.MULTILINE | re.DOTALL
    )
    assert snippets
    for snippet in snippets:
        compile(snippet, "README.md", "exec")


def test_every_decision_record_has_its_parts_and_is_listed() -> None:
    index = DOCUMENTS[Path("docs/decisions/README.md")]
    records = texts("docs/decisions/0*.md")
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    for path, text in records.items():
        status = re.search(r"^\*\*Status\*\*: (accepted|rejected|superseded)", text, re.MULTILINE)
        assert status is not None, path
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert headings == ["Background", "Options", "Decision", "Good because", "Bad because"]
        (title,) = re.findall(rf"^# {path.name[:4]}: (.+)$", text, re.MULTILINE)
        assert f"| [{path.name[:4]}]({path.name}) | {title} | {status[1]} |" in index
