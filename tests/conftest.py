"""What all tests share: plugins, and the group that a test's folder puts it in."""

from pathlib import Path
from typing import Final

import pytest

pytest_plugins = ["tests.skips"]

GROUP_OF_FOLDER: Final = {
    "integration": "integration",
    "scenarios": "scenario",
    "workflows": "workflows",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the group of its folder, so that no file has to."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if group := GROUP_OF_FOLDER.get(folder):
            item.add_marker(group)
