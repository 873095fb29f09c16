"""What a real card answered, idle and at work, is what the reader made of it."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from tidegate.readings import GpuReading

RECORDED: Final = json.loads(
    (Path(__file__).with_name("recorded") / "nvml-h200.json").read_text(encoding="utf-8")
)
"""An NVIDIA H200, driver 580.159.04, by tests/edges/record_nvml.py."""


@pytest.mark.parametrize("moment", ["idle", "busy"])
def test_each_reading_says_what_the_card_said(moment: str) -> None:
    raw: dict[str, Any] = RECORDED[moment]["raw"][0]
    for told in RECORDED[moment]["readings"]:
        reading = GpuReading.model_validate(told["gpus"][0])
        assert reading.fault is None
        assert reading.name == raw["Name"]
        assert reading.utilisation == raw["UtilizationRates"]["gpu"] / 100
        assert reading.memory_total_bytes == raw["MemoryInfo"]["total"]
        assert reading.power_w == pytest.approx(raw["PowerUsage"] / 1000, rel=0.01)
        assert reading.ecc_errors == 0
        assert told["took_ms"] < 5.0


def test_memory_that_the_driver_keeps_for_itself_is_not_in_use() -> None:
    raw, told = RECORDED["idle"]["raw"][0], RECORDED["idle"]["readings"][0]["gpus"][0]
    assert raw["MemoryInfo"]["used"] > 500_000_000, "as the first version of the call counts"
    assert told["memory_used_bytes"] == 0


def test_at_work_a_duty_cycle_of_all_is_no_measure_of_how_much_is_left() -> None:
    busy = RECORDED["busy"]["raw"][0]
    assert busy["UtilizationRates"] == {"gpu": 100, "memory": 23}


def test_nothing_that_names_the_card_was_kept() -> None:
    assert "GPU-" not in json.dumps(RECORDED)
    assert not any(word in RECORDED["idle"]["raw"][0] for word in ("UUID", "Serial", "PciInfo"))
