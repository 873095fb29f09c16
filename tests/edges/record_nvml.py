"""What a real card answers to NVML, idle and at work: `python -m tests.edges.record_nvml FILE`.

What names the card, or the machine that it is in, is left out.
"""

import asyncio
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

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
)
_LOAD: Final = """
import time, torch
a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
end = time.time() + 20
while time.time() < end:
    for _ in range(50):
        a @ a
    torch.cuda.synchronize()
"""
_BUSY_AFTER_S: Final = 10.0


def _raw(card: object) -> dict[str, object]:
    """Ask everything that takes a card and nothing else; what it cannot say is its error's name."""
    answers: dict[str, object] = {}
    for name in sorted(dir(pynvml)):
        if not name.startswith("nvmlDeviceGet") or any(word in name for word in _PERSONAL):
            continue
        answers[name.removeprefix("nvmlDeviceGet")] = _answer(getattr(pynvml, name), card)
    return {name: answer for name, answer in answers.items() if answer is not None}


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
    if fields is None:
        return repr(type(value).__name__)
    return {name: _plain(getattr(value, name)) for name, *_ in fields if "pid" not in name.lower()}


async def _readings(times: int) -> list[object]:
    reader, found = NvmlReader(), list[object]()
    for _ in range(times):
        began = time.perf_counter()
        read = await reader.read()
        took_ms = round((time.perf_counter() - began) * 1000, 3)
        if isinstance(read, Absent):
            found.append({"absent": read.reason})
        else:
            plain = [gpu.model_dump(mode="json", exclude={"uuid"}) for gpu in read]
            found.append({"took_ms": took_ms, "gpus": plain})
        await asyncio.sleep(1.0)
    return found


def _look(times: int) -> dict[str, object]:
    pynvml.nvmlInit()
    cards = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    return {"raw": [_raw(card) for card in cards], "readings": asyncio.run(_readings(times))}


def main(file: Path) -> None:
    """Write the recording; the card is put to work where PyTorch is there to do it."""
    idle = _look(3)
    told: dict[str, object] = {
        "recorded_at": datetime.now(UTC).date().isoformat(),
        "driver": _plain(pynvml.nvmlSystemGetDriverVersion()),
        "nvml": _plain(pynvml.nvmlSystemGetNVMLVersion()),
        "python": platform.python_version(),
        "idle": idle,
    }
    load = subprocess.Popen([sys.executable, "-c", _LOAD])
    time.sleep(_BUSY_AFTER_S)
    if load.poll() is None:
        told["busy"] = _look(3)
    load.wait()
    file.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
