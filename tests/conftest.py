"""What all tests share: plugins, Hypothesis's profile, and the group that a folder stands for."""

import os
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.databases", "tests.skips"]

GROUP_OF_FOLDER: Final = {
    "integration": "integration",
    "workflows": "workflows",
}

# A busy machine is no bug, so examples have no deadline. CI tries the same ones each time, so that
# a change is judged by what it changed; people's machines go on searching.
settings.register_profile(
    "tidegate",
    deadline=None,
    derandomize=os.environ.get("CI") == "true",
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tidegate")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the group of its folder, so that no file has to."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if group := GROUP_OF_FOLDER.get(folder):
            item.add_marker(group)
