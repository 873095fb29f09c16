"""`make help` lists every target, and every command of the documents is one."""

import re
import subprocess
from collections.abc import Iterable

from tests.house.checkout import ROOT, texts

PHONY = re.compile(r"^\.PHONY: (.+)$", re.MULTILINE)
IN_CODE = re.compile(r"(?:`|^(?:\$ )?)make ([a-z-]+)", re.MULTILINE)


def targets_of(makefile: str) -> set[str]:
    """Find what the Makefile declares."""
    return {name for names in PHONY.findall(makefile) for name in names.split()}


def unlisted(makefile: str, help_text: str) -> set[str]:
    """Say which targets the help leaves out."""
    return targets_of(makefile) - {line.split()[0] for line in help_text.splitlines() if line}


def unknown(documents: Iterable[str], makefile: str) -> set[str]:
    """Say which `make` commands the documents give that do not exist."""
    named = {name for text in documents for name in IN_CODE.findall(text)}
    return named - targets_of(makefile)


def test_make_alone_lists_every_target() -> None:
    helped = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert unlisted((ROOT / "Makefile").read_text(), helped.stdout) == set()


def test_every_make_command_in_the_documents_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert unknown(texts("*.md").values(), makefile) == set()


def test_a_target_without_help_is_caught() -> None:
    assert unlisted(".PHONY: demo\n.PHONY: load bench\n", "  demo  Plays.\n") == {"load", "bench"}


def test_a_command_that_does_not_exist_is_caught() -> None:
    document = "Type `make demo`, or:\n\n```\nmake play HEADLESS=1\n```\nWe make do without.\n"
    assert unknown([document], ".PHONY: demo\n") == {"play"}
