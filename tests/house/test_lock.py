"""One lock, with a hash for each package and no address of a registry anywhere."""

import re
from collections.abc import Mapping
from pathlib import Path

from tests.house.checkout import ROOT, files, texts

ADDRESS = re.compile(r"--(?:extra-)?" + r"index-url|\bindex[-_]url\s*=|files\.pythonhosted")
PINNED = re.compile(r"^[A-Za-z0-9].*==.*$", re.MULTILINE)


def addresses(documents: Mapping[Path, str]) -> list[Path]:
    """Say which files name a package registry."""
    return [path for path, text in documents.items() if ADDRESS.search(text)]


def unhashed(lock: str) -> list[str]:
    """Say which packages of a lock carry no hash."""
    entries = PINNED.findall(lock.replace("\\\n", " "))
    return [entry for entry in entries if "--hash=sha256:" not in entry]


def test_no_file_names_a_registry() -> None:
    assert addresses(texts()) == []


def test_there_is_no_second_lock() -> None:
    assert [path for path in files() if path.name == "uv.lock"] == []


def test_every_package_of_the_lock_carries_a_hash() -> None:
    assert unhashed((ROOT / "requirements.lock").read_text()) == []


def test_a_registry_in_a_file_is_caught() -> None:
    planted = Path("requirements.txt")
    option = "--" + "index-url https://packages.example/simple\n"
    assert addresses({planted: option, Path("b.txt"): "aiohttp==3.14.5\n"}) == [planted]


def test_a_package_without_a_hash_is_caught() -> None:
    lock = "aiohttp==3.14.5 \\\n    --hash=sha256:00\n    # via tidegate\nredis==8.0\n"
    assert unhashed(lock) == ["redis==8.0"]
