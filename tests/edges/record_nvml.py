"""What a real card answers to NVML, idle, at work and after a program's fault.

`python -m tests.edges.record_nvml FILE`. What names the card, or the machine that it is in, is
left out.
"""

import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import pynvml

from tidegate.edges.nvml import NvmlReader
from tidegate.readings import Absent

_PERSONAL: Final = (
    "UUID",
    "Serial",
    "PciInfo",
    "InfoRom",
    "Uuid",
    "BoardId",
    "GpuFabric",
    "Handle",
    "Pdi",
    "Hostname",
)
_LEFT_OUT: Final = frozenset({"uuid", "pids", "pods"})
_LOAD: Final = """
import time, torch
a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
end = time.time() + 25
while time.time() < end:
    for _ in range(50):
        a @ a
    torch.cuda.synchronize()
"""
_FAULT: Final = """
import cupy
write = cupy.RawKernel('extern "C" __global__ void write(int* at) { *at = 1; }', "write")
write((1,), (1,), (cupy.uint64(16),))
cupy.cuda.runtime.deviceSynchronize()
"""
"""Writes where no memory is: the driver ends the program, and tells of it as an Xid."""
_BUSY_AFTER_S: Final = 10.0
_TIMES: Final = 3
_MORE: Final[Mapping[str, Callable[[Any], object]]] = {
    "ClockInfo(SM)": lambda card: pynvml.nvmlDeviceGetClockInfo(card, pynvml.NVML_CLOCK_SM),
    "ClockInfo(MEM)": lambda card: pynvml.nvmlDeviceGetClockInfo(card, pynvml.NVML_CLOCK_MEM),
    "GpmSupport": lambda card: pynvml.nvmlGpmQueryDeviceSupport(card).isSupportedDevice,
    "MemoryInfo(v2)": lambda card: pynvml.nvmlDeviceGetMemoryInfo(card, version=0x02000028),
    "MigDeviceHandleByIndex(0)": lambda card: str(
        pynvml.nvmlDeviceGetMigDeviceHandleByIndex(card, 0)
    ),
    "ProcessUtilization(0)": lambda card: len(pynvml.nvmlDeviceGetProcessUtilization(card, 0)),
    "RegisterEvents(Xid)": lambda card: (
        pynvml.nvmlDeviceRegisterEvents(
            card, pynvml.nvmlEventTypeXidCriticalError, pynvml.nvmlEventSetCreate()
        )
        or "registered"
    ),
    "Temperature(GPU)": lambda card: pynvml.nvmlDeviceGetTemperature(
        card, pynvml.NVML_TEMPERATURE_GPU
    ),
    "TotalEccErrors(corrected, volatile)": lambda card: _ecc_errors(card, 0),
    "TotalEccErrors(uncorrected, volatile)": lambda card: _ecc_errors(card, 1),
}
"""What takes more than a card."""


def _ecc_errors(card: object, kind: int) -> object:
    return pynvml.nvmlDeviceGetTotalEccErrors(card, kind, pynvml.NVML_VOLATILE_ECC)


def _raw(card: object) -> tuple[dict[str, object], dict[str, float]]:
    """Ask everything, and how long it takes; what a card cannot say is its error's name."""
    calls = dict(_MORE)
    for name in sorted(dir(pynvml)):
        if name.startswith("nvmlDeviceGet") and not any(word in name for word in _PERSONAL):
            calls[name.removeprefix("nvmlDeviceGet")] = getattr(pynvml, name)
    answers = {name: _answer(ask, card) for name, ask in sorted(calls.items())}
    # What wants more than a card is left out.
    asked = {name: calls[name] for name, answer in answers.items() if answer is not None}
    return {name: answers[name] for name in asked}, _took_us(asked, card)


def _took_us(calls: Mapping[str, Callable[[Any], object]], card: object) -> dict[str, float]:
    """Return the median of some calls, a second apart: the driver remembers some for less."""
    took: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(_TIMES):
        time.sleep(1.0)
        for name, ask in calls.items():
            began = time.perf_counter()
            _answer(ask, card)
            took[name].append(time.perf_counter() - began)
    return {name: round(statistics.median(each) * 1e6, 1) for name, each in took.items()}


def _answer(ask: Callable[[object], Any], card: object) -> object:
    try:
        return _plain(ask(card))
    except pynvml.NVMLError as error:
        return f"error {error.value}: {error}"
    except (TypeError, AttributeError, ValueError):
        return None  # it wants more than a card


def _plain(value: Any) -> object:  # noqa: ANN401 - whatever the library returns
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    fields = getattr(value, "_fields_", None)
    names = list(vars(value)) if fields is None and hasattr(value, "__dict__") else []
    names += [name for name, *_ in fields or ()]
    if not names:
        return repr(type(value).__name__)
    return {name: _plain(getattr(value, name)) for name in names if "pid" not in name.lower()}


async def _read(reader: NvmlReader) -> dict[str, object]:
    began, used = time.perf_counter(), time.process_time()
    read = await reader.read()
    took_ms = round((time.perf_counter() - began) * 1000, 3)
    cpu_ms = round((time.process_time() - used) * 1000, 3)
    if isinstance(read, Absent):
        return {"absent": read.reason}
    plain = [
        {
            **{k: v for k, v in msgspec.structs.asdict(gpu).items() if k not in _LEFT_OUT},
            "has_uuid": gpu.uuid is not None,
            "processes": None if gpu.pids is None else len(gpu.pids),
        }
        for gpu in read
    ]
    return {"took_ms": took_ms, "cpu_ms": cpu_ms, "gpus": plain}


async def _readings(times: int) -> list[object]:
    reader, found = NvmlReader(), list[object]()
    for _ in range(times):
        found.append(await _read(reader))
        await asyncio.sleep(1.0)
    return found


def _look(times: int) -> dict[str, object]:
    pynvml.nvmlInit()
    cards = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    raw = [_raw(card) for card in cards]
    return {
        "raw": [answers for answers, _ in raw],
        "took_us": [took_us for _, took_us in raw],
        "readings": asyncio.run(_readings(times)),
    }


async def _fault() -> dict[str, object]:
    """Read before and after a program that writes where it may not."""
    reader = NvmlReader()
    before = await _read(reader)
    ended = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", _FAULT], check=False, capture_output=True, text=True
    )
    await asyncio.sleep(1.0)
    said = ended.stderr.strip().splitlines()[-1:]
    return {"before": before, "program_said": said, "readings": [await _read(reader)]}


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def main(file: Path) -> None:
    """Write the recording; the card is put to work where PyTorch and CuPy are there to do it."""
    before_mb = _rss_mb()
    asyncio.run(_readings(1))
    library_mb = round(_rss_mb() - before_mb, 1)
    idle = _look(5)
    told: dict[str, object] = {
        "recorded_at": datetime.now(UTC).date().isoformat(),
        "driver": _plain(pynvml.nvmlSystemGetDriverVersion()),
        "nvml": _plain(pynvml.nvmlSystemGetNVMLVersion()),
        "python": platform.python_version(),
        "library_mb": library_mb,
        "idle": idle,
    }
    load = subprocess.Popen([sys.executable, "-c", _LOAD])
    time.sleep(_BUSY_AFTER_S)
    if load.poll() is None:
        told["busy"] = _look(5)
    load.wait()
    told["fault"] = asyncio.run(_fault())
    file.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
