"""The versions that the README and CONTRIBUTING name are those of the metadata."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from tests.house.checkout import ROOT, texts

PYTHON_VERSION = re.compile(r"Python\s*(?:>=|≥)?\s*(3\.\d+)")


def wrong_versions(documents: Mapping[Path, str], requires_python: str) -> list[str]:
    """Say where a document names another Python than the one that is required."""
    required = requires_python.removeprefix(">=")
    return [
        f"{path}: says Python {said}, pyproject.toml requires {required}."
        for path, text in documents.items()
        for said in PYTHON_VERSION.findall(text)
        if said != required
    ]


def _project() -> dict[str, str]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project: dict[str, str] = tomllib.load(file)["project"]
    return project


def test_documents_name_the_python_that_the_metadata_requires() -> None:
    documents = texts("README.md", "CONTRIBUTING.md")
    assert wrong_versions(documents, _project()["requires-python"]) == []


def test_the_readme_says_which_python_is_needed() -> None:
    assert PYTHON_VERSION.search((ROOT / "README.md").read_text())


def test_a_readme_that_names_an_older_python_is_caught() -> None:
    documents = {Path("README.md"): "Needs Python ≥ 3.10 and make."}
    assert wrong_versions(documents, ">=3.11") == [
        "README.md: says Python 3.10, pyproject.toml requires 3.11."
    ]
