"""What makes a GPU sick, and what does not."""

import msgspec
import pytest

from tidegate.readings import GpuReading
from tidegate.rules.health import sickness


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"fault": "GPU_IS_LOST"}, "NVML answers GPU_IS_LOST"),
        ({"xids": (13, 48, 79)}, "Xid 48, 79"),
        ({"ecc_errors": 2}, "2 ECC errors were not corrected"),
        ({"has_row_remap_failed": True}, "a bad row of its memory could not be remapped"),
    ],
)
def test_a_sick_gpu_says_why(told: dict[str, object], reason: str) -> None:
    assert sickness(msgspec.convert({"index": 0, **told}, GpuReading)) == reason


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"xids": ()},
        {"xids": (13, 31)},
        {"ecc_errors": 0},
        {"has_row_remap_failed": False, "is_row_remap_pending": True},
        {"hung": ("power_w",)},
    ],
)
def test_what_is_absent_or_a_program_s_fault_is_no_sickness(told: dict[str, object]) -> None:
    assert sickness(msgspec.convert({"index": 0, **told}, GpuReading)) is None
