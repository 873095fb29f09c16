"""Every TIDEGATE_ variable that the code reads is documented."""

import re
from collections.abc import Iterable

from tests.house.checkout import texts
from tidegate.settings import Settings, variable

NAME = re.compile(r"\bTIDEGATE_[A-Z0-9]+(?:_[A-Z0-9]+)*\b")


def names_in(sources: Iterable[str]) -> set[str]:
    """Find the variables that are written out in full."""
    return {name for source in sources for name in NAME.findall(source)}


def undocumented(names: set[str], documents: Iterable[str]) -> set[str]:
    """Say which names no document mentions."""
    return names - names_in(documents)


def test_every_setting_is_documented_in_the_readme_or_under_docs() -> None:
    sources = texts("*.py", "*.sh", "Makefile", ".ci/run", ":!tests")
    names = names_in(sources.values()) | {variable(field) for field in Settings.model_fields}
    assert undocumented(names, texts("README.md", "docs/*.md").values()) == set()


def test_a_setting_without_a_word_about_it_is_caught() -> None:
    names = names_in(['os.environ["TIDEGATE_REDIS"]', "export TIDEGATE_STATE_DIR ?= x"])
    assert undocumented(names, ["`TIDEGATE_REDIS`: where Redis is."]) == {"TIDEGATE_STATE_DIR"}


def test_a_longer_name_does_not_document_a_shorter_one() -> None:
    assert undocumented({"TIDEGATE_STATE"}, ["`TIDEGATE_STATE_DIR`"]) == {"TIDEGATE_STATE"}
