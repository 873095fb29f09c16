"""The stand-in for NVML, and two cards in it."""

from pathlib import Path
from typing import Final

import pytest

from embedded.gpu_state import GpuState, write_count, write_gpu
from embedded.nvml.build import STATE_SETTING, build
from tests.debian import is_there, packages

BUSY: Final = GpuState.under(0.75, memory_share=0.5, pid=42)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("gcc", "libc6-dev"):
        if not is_there(packages()[package]):
            pytest.skip(f'Debian package "{package}" is missing: install it with apt-get')
    built = build(tmp_path_factory.mktemp("cache"))
    assert isinstance(built, Path), built
    return built


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two busy cards, as files that a test may add words to."""
    for index in range(2):
        write_gpu(tmp_path, index, BUSY)
    write_count(tmp_path, 2)
    monkeypatch.setenv(STATE_SETTING, str(tmp_path))
    return tmp_path
