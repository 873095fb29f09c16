"""What real cards answered, idle, at work and after a fault, is what the reader made of it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pynvml
import pytest

from embedded.gpu_state import write_count
from tidegate.edges.nvml import NvmlReader
from tidegate.readings import GpuReading
from tidegate.rules.health import sickness

FOLDER: Final = Path(__file__).with_name("recorded")
H100: Final = json.loads((FOLDER / "nvml-h100.json").read_text(encoding="utf-8"))
"""An NVIDIA H100 80GB HBM3, driver 580.159.04, 2026-11-27, by tests/edges/record_nvml.py."""
H200: Final = json.loads((FOLDER / "nvml-h200.json").read_text(encoding="utf-8"))
"""An NVIDIA H200, driver 580.159.04, 2026-11-26, by the same, when it asked for less."""
CARDS: Final = pytest.mark.parametrize("recorded", [H100, H200], ids=["h100", "h200"])

POWER_CAP: Final = 0x4
XID_OF_A_PROGRAM: Final = 31


def readings(moment: str) -> list[GpuReading]:
    """Return what the H100 was read as, a second apart."""
    return [msgspec.convert(each["gpus"][0], GpuReading) for each in H100[moment]["readings"]]


@CARDS
@pytest.mark.parametrize("moment", ["idle", "busy"])
def test_each_reading_says_what_the_card_said(recorded: dict[str, Any], moment: str) -> None:
    raw: dict[str, Any] = recorded[moment]["raw"][0]
    for told in recorded[moment]["readings"]:
        reading = msgspec.convert(told["gpus"][0], GpuReading)
        assert reading.fault is None
        assert reading.name == raw["Name"]
        assert reading.utilisation == pytest.approx(raw["UtilizationRates"]["gpu"] / 100, abs=0.02)
        assert reading.memory_total_bytes == raw["MemoryInfo"]["total"]
        assert reading.power_w == pytest.approx(raw["PowerUsage"] / 1000, rel=0.02)
        assert reading.ecc_errors == 0
        assert told["took_ms"] < 5.0


@pytest.mark.parametrize("moment", ["idle", "busy"])
def test_the_figures_that_came_later_say_what_the_card_said_too(moment: str) -> None:
    raw: dict[str, Any] = H100[moment]["raw"][0]
    for reading in readings(moment):
        assert reading.temperature_c == pytest.approx(raw["Temperature(GPU)"], abs=4)
        assert reading.sm_clock_mhz == pytest.approx(raw["ClockInfo(SM)"], rel=0.1)
        assert reading.memory_clock_mhz == raw["ClockInfo(MEM)"]
        assert reading.memory_used_bytes == raw["MemoryInfo(v2)"]["used"]
        assert reading.ecc_errors == raw["TotalEccErrors(uncorrected, volatile)"]
        assert reading.is_partitioned is (raw["MigMode"][0] == 1)
        assert reading.remapped_rows == sum(raw["RemappedRows"][:2])
        is_capped = bool(raw["CurrentClocksEventReasons"] & POWER_CAP)
        assert reading.throttled_by == (("power_cap",) if is_capped else ())
        assert (reading.xids, reading.hung) == ((), ())


def as_words(raw: Mapping[str, Any], card: GpuReading) -> str:
    """Write what the H100 said as the stand-in reads it."""
    words = {
        "utilisation_pct": raw["UtilizationRates"]["gpu"],
        "memory_used_bytes": raw["MemoryInfo(v2)"]["used"],
        "memory_total_bytes": raw["MemoryInfo(v2)"]["total"],
        "power_mw": raw["PowerUsage"],
        "temperature_c": raw["Temperature(GPU)"],
        "ecc_errors": raw["TotalEccErrors(uncorrected, volatile)"],
        "sm_clock_mhz": raw["ClockInfo(SM)"],
        "memory_clock_mhz": raw["ClockInfo(MEM)"],
        "throttle_reasons": raw["CurrentClocksEventReasons"],
        "remapped_rows": sum(raw["RemappedRows"][:2]),
        "mig": raw["MigMode"][0],
        "gpm_sm_pct": round(100 * (card.sm_utilisation or 0.0)),
        "gpm_memory_pct": round(100 * (card.memory_bandwidth_utilisation or 0.0)),
    }
    return " ".join(f"{name}={value}" for name, value in words.items())


@pytest.mark.parametrize("moment", ["idle", "busy"])
async def test_the_stand_in_is_read_as_the_card_was(library: Path, gpus: Path, moment: str) -> None:
    card = readings(moment)[-1]
    (gpus / "gpu-0").write_text(as_words(H100[moment]["raw"][0], card) + "\n")
    write_count(gpus, 1)
    reader = NvmlReader(library)
    await reader.read()
    read = await reader.read()
    assert isinstance(read, tuple)
    of_card, of_stand_in = (msgspec.structs.asdict(each) for each in (card, read[0]))
    for name in of_card.keys() - {"uuid", "name", "pids", "pods"}:
        value = of_card[name]
        assert type(of_stand_in[name]) is type(value), name
        if isinstance(value, float):
            assert of_stand_in[name] == pytest.approx(value, rel=0.1, abs=0.05), name
        elif name != "sm_clock_mhz":
            assert of_stand_in[name] == value, name


def test_where_a_card_lacks_something_it_says_so_by_the_errors_that_are_known() -> None:
    answers = H100["idle"]["raw"][0].values()
    codes = {int(each.split()[1].strip(":")) for each in answers if str(each).startswith("error ")}
    missing = {pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_NOT_FOUND}
    assert missing | {pynvml.NVML_ERROR_FUNCTION_NOT_FOUND} <= codes


def test_how_busy_the_card_was_is_known_from_the_second_reading_on() -> None:
    first, *idle = readings("idle")
    assert (first.sm_utilisation, first.memory_bandwidth_utilisation) == (None, None)
    assert all(each.sm_utilisation == pytest.approx(0.0, abs=0.01) for each in idle)
    first, *busy = readings("busy")
    assert first.sm_utilisation is None
    for each in busy:
        assert each.sm_utilisation == pytest.approx(0.96, abs=0.02)
        assert each.memory_bandwidth_utilisation == pytest.approx(0.24, abs=0.02)


def test_at_work_there_is_one_process_more() -> None:
    found = {moment: H100[moment]["readings"][-1]["gpus"][0] for moment in ("idle", "busy")}
    assert (found["idle"]["processes"], found["busy"]["processes"]) == (0, 1)
    assert len(H100["busy"]["raw"][0]["ComputeRunningProcesses_v3"]) == 1


def test_a_program_s_fault_is_told_as_an_xid_and_the_card_is_not_sick() -> None:
    before = msgspec.convert(H100["fault"]["before"]["gpus"][0], GpuReading)
    (after,) = readings("fault")
    assert (before.xids, after.xids) == ((), (XID_OF_A_PROGRAM,))
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in H100["fault"]["program_said"][0]
    assert sickness(after) is None


def test_whether_it_is_partitioned_takes_the_card_longest_to_say() -> None:
    took_us = H100["busy"]["took_us"][0]
    others = ("UtilizationRates", "MemoryInfo(v2)", "PowerUsage", "RemappedRows", "ClockInfo(SM)")
    assert took_us["MigMode"] > sum(took_us[name] for name in others), "so it is asked seldom"


@CARDS
def test_memory_that_the_driver_keeps_for_itself_is_not_in_use(recorded: dict[str, Any]) -> None:
    raw, told = recorded["idle"]["raw"][0], recorded["idle"]["readings"][0]["gpus"][0]
    assert raw["MemoryInfo"]["used"] > 500_000_000, "as the first version of the call counts"
    assert told["memory_used_bytes"] == 0


@CARDS
def test_at_work_a_duty_cycle_of_all_is_no_measure_of_how_much_is_left(
    recorded: dict[str, Any],
) -> None:
    assert recorded["busy"]["raw"][0]["UtilizationRates"]["gpu"] == 100
    assert recorded["busy"]["raw"][0]["UtilizationRates"]["memory"] < 40


@CARDS
def test_nothing_that_names_the_card_was_kept(recorded: dict[str, Any]) -> None:
    assert "GPU-" not in json.dumps(recorded)
    for moment in ("idle", "busy"):
        kept = set(recorded[moment]["raw"][0])
        assert not kept & {"UUID", "Serial", "PciInfo", "Pdi"}
