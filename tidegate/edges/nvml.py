"""NVIDIA's management library: what each GPU of this machine is doing."""

import asyncio
import ctypes
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pynvml

from tidegate.edges.hanging import Call, HangingCalls
from tidegate.readings import Absent, GpuReading, InstanceReading

_OPEN_WITHIN_S: Final = 1.0
_CALL_WITHIN_S: Final = 0.25
_NEXT_CARD_AFTER_S: Final = 0.02
_PARTITIONED_EVERY_S: Final = 10.0
"""MIG is asked after so seldom because a card's answer takes as long as all the others together."""
_MEMORY_V2: Final = 0x02000028
_POD_IN_CGROUP: Final = re.compile(r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})")

_NAMES: Final = {
    getattr(pynvml, name): name.removeprefix("NVML_ERROR_")
    for name in dir(pynvml)
    if name.startswith("NVML_ERROR_")
}
_FIGURE_MISSING: Final = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_NOT_FOUND,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_NO_DATA,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    }
)
"""Errors that say a card or its driver lacks one quantity, and nothing about its health."""
_DRIVER_MISSING: Final = frozenset(
    {
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    }
)
"""Errors of a driver that was unloaded or upgraded: it is opened anew at the next reading."""
_THROTTLED_BY: Final = {
    pynvml.nvmlClocksEventReasonSwPowerCap: "power_cap",
    pynvml.nvmlClocksEventReasonHwSlowdown: "hardware_slowdown",
    pynvml.nvmlClocksEventReasonSwThermalSlowdown: "thermal",
    pynvml.nvmlClocksEventReasonHwThermalSlowdown: "hardware_thermal",
    pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown: "power_brake",
    pynvml.nvmlClocksEventReasonSyncBoost: "sync_boost",
}
"""Idle and set clocks are reasons too, but nothing throttles the card then."""


_OF_CARD: Final = {
    "sm_utilisation": pynvml.NVML_GPM_METRIC_SM_UTIL,
    "memory_bandwidth_utilisation": pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL,
}
_OF_INSTANCE: Final = {"utilisation": pynvml.NVML_GPM_METRIC_GRAPHICS_UTIL, **_OF_CARD}
"""An instance has no duty cycle of NVML's: GPM tells the share in which any kernel ran."""


class NvmlReader:
    """Reads every GPU through the library given, else through the system's.

    NVML may block for ever on a broken card, so each card's calls run in a thread of their own,
    each with a deadline of 0.25 s.
    """

    def __init__(
        self, library: Path | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._library = library
        self._clock = clock
        self._is_open = False
        self._driver = HangingCalls("nvml", deadline_s=_OPEN_WITHIN_S)
        self._cards: list[_Card] = []

    async def read(self) -> tuple[GpuReading, ...] | Absent:
        """Read all GPUs; a figure is None where a card lacks it, or where its call hangs.

        A card that fails has a `fault`. Absent where there is no library or driver, or when the
        driver does not answer within 1 s.
        """
        count = (await self._driver.make({"count": self._count})).get("count")
        match count:
            case int():
                pass
            case pynvml.NVMLError():
                return self._absent(count)
            case Exception():
                return Absent(f"nvml: {count}")
            case _:
                return Absent(f"nvml did not answer in {_OPEN_WITHIN_S:g} s")
        while len(self._cards) < count:
            self._cards.append(_Card(len(self._cards), self._clock))
        read = await self._read_cards(count)
        for each in read:
            if isinstance(each, pynvml.NVMLError):
                return self._absent(each)
        return tuple(each for each in read if isinstance(each, GpuReading))

    async def _read_cards(self, count: int) -> list[GpuReading | pynvml.NVMLError]:
        """Read one card after the other, which is cheaper; none waits long for a slow one."""
        reading: list[asyncio.Task[GpuReading | pynvml.NVMLError]] = []
        for card in self._cards[:count]:
            reading.append(asyncio.create_task(card.read()))
            await asyncio.wait(reading[-1:], timeout=_NEXT_CARD_AFTER_S)
        return await asyncio.gather(*reading)

    def _absent(self, error: pynvml.NVMLError) -> Absent:
        self._is_open = False
        return Absent(f"nvml: {error} ({_name_of(error)})")

    def _count(self) -> int:
        if not self._is_open:
            if self._library is not None:
                # The binding then finds this one under its soname, already loaded.
                ctypes.CDLL(str(self._library), mode=ctypes.RTLD_GLOBAL)
            pynvml.nvmlInit()
            self._is_open = True
            # What another driver handed out is worth nothing to this one, nor is what a call that
            # hung in it will write.
            self._cards = [card.anew() for card in self._cards]
        count: int = pynvml.nvmlDeviceGetCount()
        return count


class _Card:
    """One GPU: its handle, its calls, and what it told since the driver was opened."""

    def __init__(
        self, index: int, clock: Callable[[], float], calls: HangingCalls | None = None
    ) -> None:
        self._index = index
        self._clock = clock
        self._calls = calls or HangingCalls(f"nvml-{index}", deadline_s=_CALL_WITHIN_S)
        self._card: object | None = None
        self._named: dict[str, str] = {}
        self._placed: tuple[tuple[int, ...], tuple[str, ...]] | None = None
        self._events: object | None = None
        self._partitioned: tuple[float, bool] | None = None
        self._samples = _Samples(_OF_CARD)
        self._instances: tuple[_Instance, ...] = ()
        self._xids: set[int] = set()
        self._figures: Mapping[str, Call] = {
            "identity": self._identity,
            "utilisation": lambda: pynvml.nvmlDeviceGetUtilizationRates(self._handle()).gpu / 100,
            "memory": self._memory,
            "power_w": lambda: pynvml.nvmlDeviceGetPowerUsage(self._handle()) / 1000,
            "temperature_c": lambda: float(
                pynvml.nvmlDeviceGetTemperature(self._handle(), pynvml.NVML_TEMPERATURE_GPU)
            ),
            "ecc_errors": lambda: pynvml.nvmlDeviceGetTotalEccErrors(
                self._handle(), pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
            ),
            "sm_clock_mhz": lambda: self._clock_mhz(pynvml.NVML_CLOCK_SM),
            "memory_clock_mhz": lambda: self._clock_mhz(pynvml.NVML_CLOCK_MEM),
            "throttled_by": self._throttled_by,
            "remapped_rows": lambda: pynvml.nvmlDeviceGetRemappedRows(self._handle()),
            "is_partitioned": self._is_partitioned,
            "gpm": lambda: self._gpm(
                self._samples, lambda sample: pynvml.nvmlGpmSampleGet(self._handle(), sample)
            ),
            "xids": self._newest_xids,
            "processes": self._processes,
        }

    def anew(self) -> "_Card":
        """Return the card as one that has told nothing yet: a reset one must not stay sick.

        Calls that hang go on to be counted, and to be waited for by nobody.
        """
        return _Card(self._index, self._clock, self._calls)

    async def read(self) -> GpuReading | pynvml.NVMLError:
        """Read what answers in time; an error only where the driver itself is gone."""
        instances = {f"instance-{each.uuid}": each for each in self._instances}
        calls = {name: partial(self._gpm_of, each) for name, each in instances.items()}
        answers = await self._calls.make({**self._figures, **calls})
        # Also where its call hangs or fails: an instance that is gone is no fault of its card.
        parts = {name: answers.pop(name, None) for name in instances}
        figures: dict[str, Any] = {}
        faults: list[str] = []
        for name, answer in answers.items():
            match answer:
                case pynvml.NVMLError() if answer.value in _DRIVER_MISSING:
                    return answer
                case pynvml.NVMLError() if answer.value in _FIGURE_MISSING:
                    pass
                case pynvml.NVMLError():
                    faults.append(_name_of(answer))
                case Exception():
                    raise answer
                case dict():
                    figures |= answer
                case _:
                    figures[name] = answer
        if "remapped_rows" in figures:
            corrected, uncorrected, pending, failed = figures["remapped_rows"]
            figures["remapped_rows"] = corrected + uncorrected
            figures["is_row_remap_pending"] = pending != 0
            figures["has_row_remap_failed"] = failed != 0
        if figures.get("is_partitioned"):
            figures["instances"] = tuple(
                InstanceReading(uuid=each.uuid, **_figures_of(parts[name]))
                for name, each in instances.items()
            )
        return GpuReading(
            index=self._index,
            fault=faults[0] if faults else None,
            hung=tuple(sorted(self._calls.hung)),
            **figures,
        )

    def _handle(self) -> object:
        if self._card is None:
            self._card = pynvml.nvmlDeviceGetHandleByIndex(self._index)
        return self._card

    def _identity(self) -> dict[str, str]:
        """Say which card it is: once, so that one that is lost is still known by its uuid."""
        if not self._named:
            self._named = {
                "uuid": pynvml.nvmlDeviceGetUUID(self._handle()),
                "name": pynvml.nvmlDeviceGetName(self._handle()),
            }
        return self._named

    def _memory(self) -> dict[str, int]:
        try:
            memory = pynvml.nvmlDeviceGetMemoryInfo(self._handle(), version=_MEMORY_V2)
        except pynvml.NVMLError as error:
            if error.value not in _FIGURE_MISSING:
                raise
            memory = pynvml.nvmlDeviceGetMemoryInfo(self._handle())
        return {"memory_used_bytes": memory.used, "memory_total_bytes": memory.total}

    def _clock_mhz(self, which: int) -> int:
        clock_mhz: int = pynvml.nvmlDeviceGetClockInfo(self._handle(), which)
        return clock_mhz

    def _throttled_by(self) -> tuple[str, ...]:
        reasons = pynvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle())
        return tuple(name for bit, name in _THROTTLED_BY.items() if reasons & bit)

    def _is_partitioned(self) -> bool:
        now = self._clock()
        if self._partitioned is None or now >= self._partitioned[0] + _PARTITIONED_EVERY_S:
            is_partitioned = pynvml.nvmlDeviceGetMigMode(self._handle())[0] == 1
            self._instances = self._find_instances() if is_partitioned else ()
            self._partitioned = (now, is_partitioned)
        return self._partitioned[1]

    def _processes(self) -> dict[str, tuple[int, ...] | tuple[str, ...]]:
        running = pynvml.nvmlDeviceGetComputeRunningProcesses_v3(self._handle())
        pids = tuple(sorted(process.pid for process in running))
        if self._placed is None or self._placed[0] != pids:
            self._placed = (pids, pods_of(pids))
        return {"pids": pids, "pods": self._placed[1]}

    def _newest_xids(self) -> tuple[int, ...]:
        if self._events is None:
            events = pynvml.nvmlEventSetCreate()
            pynvml.nvmlDeviceRegisterEvents(
                self._handle(), pynvml.nvmlEventTypeXidCriticalError, events
            )
            self._events = events
        try:
            while True:
                event = pynvml.nvmlEventSetWait_v2(self._events, 0)
                self._xids.add(event.eventData)
        except pynvml.NVMLError as error:
            if error.value != pynvml.NVML_ERROR_TIMEOUT:
                raise
        return tuple(sorted(self._xids))

    def _find_instances(self) -> tuple["_Instance", ...]:
        """Return the MIG instances; one that was known goes on with the sample it has."""
        known = {each.uuid: each for each in self._instances}
        found: list[_Instance] = []
        for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(self._handle())):
            try:
                part = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(self._handle(), index)
            except pynvml.NVMLError as error:
                if error.value not in _FIGURE_MISSING:
                    raise
                continue  # there may be gaps
            uuid: str = pynvml.nvmlDeviceGetUUID(part)
            gpu_instance: int = pynvml.nvmlDeviceGetGpuInstanceId(part)
            found.append(known.get(uuid) or _Instance(uuid, gpu_instance, _Samples(_OF_INSTANCE)))
        return tuple(found)

    def _gpm_of(self, part: "_Instance") -> dict[str, float]:
        return self._gpm(
            part.samples,
            lambda sample: pynvml.nvmlGpmMigSampleGet(self._handle(), part.gpu_instance, sample),
        )

    def _gpm(self, samples: "_Samples", take: Callable[[Any], object]) -> dict[str, float]:
        """Say how busy something was since the reading before; nothing where GPM is not."""
        is_there = pynvml.nvmlGpmQueryDeviceSupport(self._handle()).isSupportedDevice
        return samples.compare(take) if is_there else {}


class _Samples:
    """Two samples of GPM, which compares the one before with the one now."""

    def __init__(self, metrics: Mapping[str, int]) -> None:
        self._metrics = metrics
        self._held: list[Any] = []
        self._is_taken = False

    def compare(self, take: Callable[[Any], object]) -> dict[str, float]:
        """Take a sample; returns the shares since the one before: nothing at the first one."""
        while len(self._held) < 2:  # noqa: PLR2004 - one before, one now
            self._held.append(pynvml.nvmlGpmSampleAlloc())
        was_taken, self._is_taken = self._is_taken, False
        self._held.reverse()
        before, now = self._held
        take(now)
        self._is_taken = True
        if not was_taken:
            return {}  # a sample that was never taken is an invalid argument, and no fault
        asked = pynvml.c_nvmlGpmMetricsGet_t()
        asked.version = pynvml.NVML_GPM_METRICS_GET_VERSION
        asked.numMetrics = len(self._metrics)
        asked.sample1, asked.sample2 = before, now
        for metric, metric_id in zip(asked.metrics, self._metrics.values(), strict=False):
            metric.metricId = metric_id
        pynvml.nvmlGpmMetricsGet(asked)
        told = zip(self._metrics, asked.metrics, strict=False)
        return {name: metric.value / 100 for name, metric in told if metric.nvmlReturn == 0}


@dataclass(frozen=True, slots=True)
class _Instance:
    """A MIG instance, as it is named and as GPM is asked for it."""

    uuid: str
    gpu_instance: int
    samples: _Samples


def _figures_of(answer: object) -> dict[str, Any]:
    """Return what GPM told of an instance; nothing where it did not answer, or with an error."""
    match answer:
        case dict():
            return answer
        case None | pynvml.NVMLError():
            return {}
        case Exception():
            raise answer
        case _:
            raise TypeError(answer)


def _name_of(error: pynvml.NVMLError) -> str:
    return _NAMES.get(error.value, f"NVML_{error.value}")


def pods_of(pids: Iterable[int], proc: Path = Path("/proc")) -> tuple[str, ...]:
    """Return the uids of the pods that these processes run in, by their control groups.

    A process that has ended, or is in no pod, is left out.
    """
    found: set[str] = set()
    for pid in pids:
        try:
            groups = (proc / str(pid) / "cgroup").read_text(encoding="utf-8")
        except OSError:
            continue
        # The systemd driver writes an uid with underscores.
        found |= {uid.replace("_", "-") for uid in _POD_IN_CGROUP.findall(groups)}
    return tuple(sorted(found))
