"""NVIDIA's management library: what each GPU of this machine is doing."""

import asyncio
import ctypes
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Final, TypeVar

import pynvml

from tidegate.readings import Absent, GpuReading

_DEADLINE_S: Final = 1.0
_MEMORY_V2: Final = 0x02000028

_NAMES: Final = {
    getattr(pynvml, name): name.removeprefix("NVML_ERROR_")
    for name in dir(pynvml)
    if name.startswith("NVML_ERROR_")
}
_FIELD_MISSING: Final = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_NOT_FOUND,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    }
)
"""Errors that say a card or its driver lacks one quantity, and nothing about its health."""

_Value = TypeVar("_Value")
_Answer = tuple[GpuReading, ...] | Absent


class NvmlReader:
    """Reads every GPU through the library given, else through the system's.

    NVML may block for ever on a broken card, so its calls run in a thread of their own that
    neither this program's end nor the next reading waits for.
    """

    def __init__(self, library: Path | None = None) -> None:
        self._library = library
        self._is_initialised = False
        self._asked: queue.SimpleQueue[Future[_Answer]] = queue.SimpleQueue()
        self._pending: Future[_Answer] | None = None
        self._thread: threading.Thread | None = None

    async def read(self) -> tuple[GpuReading, ...] | Absent:
        """Read all GPUs; a field is None where a card lacks it, a card that fails has a `fault`.

        Absent where there is no library or driver, or when it does not answer within 1 s.
        """
        late = Absent(f"nvml did not answer in {_DEADLINE_S:g} s")
        if self._pending is not None and not self._pending.done():
            return late
        self._pending = self._ask()
        try:
            return await asyncio.wait_for(
                asyncio.shield(asyncio.wrap_future(self._pending)), _DEADLINE_S
            )
        except TimeoutError:
            return late

    def _ask(self) -> Future[_Answer]:
        if self._thread is None:
            self._thread = threading.Thread(target=self._answer_for_ever, name="nvml", daemon=True)
            self._thread.start()
        future: Future[_Answer] = Future()
        self._asked.put(future)
        return future

    def _answer_for_ever(self) -> None:
        while True:
            future = self._asked.get()
            try:
                future.set_result(self._read_all())
            except pynvml.NVMLError as error:
                # The driver may have been unloaded or upgraded: begin anew at the next reading.
                self._is_initialised = False
                future.set_result(Absent(f"nvml: {error} ({_name_of(error)})"))
            except OSError as error:
                future.set_result(Absent(f"nvml: {error}"))
            except BaseException as error:
                future.set_exception(error)
                raise

    def _read_all(self) -> tuple[GpuReading, ...]:
        if not self._is_initialised:
            if self._library is not None:
                # The binding then finds this one under its soname, already loaded.
                ctypes.CDLL(str(self._library), mode=ctypes.RTLD_GLOBAL)
            pynvml.nvmlInit()
            self._is_initialised = True
        return tuple(_read_gpu(index) for index in range(pynvml.nvmlDeviceGetCount()))


def _read_gpu(index: int) -> GpuReading:
    try:
        card = pynvml.nvmlDeviceGetHandleByIndex(index)
        duty = _optional(lambda: pynvml.nvmlDeviceGetUtilizationRates(card).gpu / 100)
        memory = _optional(lambda: pynvml.nvmlDeviceGetMemoryInfo(card, version=_MEMORY_V2))
        if memory is None:
            memory = _optional(lambda: pynvml.nvmlDeviceGetMemoryInfo(card))
        return GpuReading(
            index=index,
            uuid=_optional(lambda: pynvml.nvmlDeviceGetUUID(card)),
            name=_optional(lambda: pynvml.nvmlDeviceGetName(card)),
            utilisation=duty,
            memory_used_bytes=None if memory is None else memory.used,
            memory_total_bytes=None if memory is None else memory.total,
            power_w=_optional(lambda: pynvml.nvmlDeviceGetPowerUsage(card) / 1000),
            temperature_c=_optional(
                lambda: pynvml.nvmlDeviceGetTemperature(card, pynvml.NVML_TEMPERATURE_GPU)
            ),
            ecc_errors=_optional(lambda: _uncorrected_ecc_errors(card)),
        )
    except pynvml.NVMLError as error:
        return GpuReading(index=index, fault=_name_of(error))


def _uncorrected_ecc_errors(card: object) -> int:
    count: int = pynvml.nvmlDeviceGetTotalEccErrors(
        card, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
    )
    return count


def _optional(read: Callable[[], _Value]) -> _Value | None:
    try:
        return read()
    except pynvml.NVMLError as error:
        if error.value in _FIELD_MISSING:
            return None
        raise


def _name_of(error: pynvml.NVMLError) -> str:
    return _NAMES.get(error.value, f"NVML_{error.value}")
