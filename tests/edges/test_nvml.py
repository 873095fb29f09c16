import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from embedded.gpu_state import GpuState, write_count, write_gpu
from embedded.nvml.build import STATE_SETTING, build
from tests.edges.conftest import BUSY
from tests.embedded.until import until
from tests.house.checkout import ROOT
from tidegate.edges.nvml import NvmlReader, pods_of
from tidegate.readings import Absent, GpuReading, InstanceReading

XID_OF_A_GPU_OFF_THE_BUS = 79


def add(gpus: Path, index: int, words: str) -> None:
    card = gpus / f"gpu-{index}"
    card.write_text(f"{card.read_text().strip()} {words}\n")


async def read(library: Path) -> tuple[GpuReading, ...]:
    reading = await NvmlReader(library).read()
    assert not isinstance(reading, Absent), reading
    return reading


@pytest.mark.usefixtures("gpus")
async def test_the_real_binding_reads_every_card(library: Path) -> None:
    first, second = await read(library)
    assert first == GpuReading(
        index=0,
        uuid="GPU-00000000-0000-0000-0000-000000000000",
        name="Tidegate stand-in GPU",
        utilisation=0.75,
        memory_used_bytes=40 * 1024**3,
        memory_total_bytes=80 * 1024**3,
        power_w=542.5,
        temperature_c=66.0,
        xids=(),
        pids=(42,),
        pods=(),
    )
    assert second.index == 1
    assert second.uuid != first.uuid


async def test_a_card_is_read_anew_each_time(library: Path, gpus: Path) -> None:
    reader = NvmlReader(library)
    await reader.read()
    write_gpu(gpus, 0, GpuState.under(0.1, memory_share=0.0, pid=42))
    write_count(gpus, 1)
    reading = await reader.read()
    assert isinstance(reading, tuple)
    assert [card.utilisation for card in reading] == [0.1]


async def test_a_card_that_falls_off_the_bus_is_still_known(library: Path, gpus: Path) -> None:
    reader = NvmlReader(library)
    before, _ = await read_with(reader)
    add(gpus, 0, "error=15")
    lost, other = await read_with(reader)
    assert (lost.uuid, lost.fault, lost.utilisation) == (before.uuid, "GPU_IS_LOST", None)
    assert other.utilisation == 0.75


async def test_what_a_card_lacks_is_none_and_never_zero(library: Path, gpus: Path) -> None:
    (gpus / "gpu-0").write_text("utilisation_pct=0 ecc_errors=3\n")
    card, _ = await read(library)
    assert (card.utilisation, card.ecc_errors, card.fault) == (0.0, 3, None)
    assert (card.memory_used_bytes, card.memory_total_bytes) == (None, None)
    assert (card.power_w, card.temperature_c) == (None, None)


async def test_a_partitioned_card_has_no_duty_cycle(library: Path, gpus: Path) -> None:
    add(gpus, 1, "mig=1")
    _, card = await read(library)
    assert card.utilisation is None
    assert card.memory_used_bytes == 40 * 1024**3


async def test_a_driver_that_goes_and_comes_back_is_absent_meanwhile(
    library: Path, gpus: Path
) -> None:
    reader = NvmlReader(library)
    assert isinstance(await reader.read(), tuple)
    (gpus / "gpu-count").unlink()
    assert await reader.read() == Absent("nvml: Driver Not Loaded (DRIVER_NOT_LOADED)")
    write_count(gpus, 2)
    assert isinstance(await reader.read(), tuple)


def hang_driver(gpus: Path, ms: int) -> None:
    (gpus / "gpu-count").write_text(f"2 hang_ms={ms}\n")


async def test_a_driver_that_hangs_is_absent_after_a_second_and_read_again_when_it_answers(
    library: Path, gpus: Path
) -> None:
    reader = NvmlReader(library)
    hang_driver(gpus, 1200)
    hung = Absent("nvml did not answer in 1 s")
    assert await reader.read() == hung
    write_count(gpus, 2)

    async def answers() -> bool:
        return await reader.read() != hung

    await until(answers)
    assert isinstance(await reader.read(), tuple)


async def test_a_call_that_hangs_is_absent_alone_until_it_comes_back(
    library: Path, gpus: Path
) -> None:
    reader = NvmlReader(library)
    add(gpus, 0, "hang_ms=900 hang_only=power_mw")
    one, other = await read_with(reader)
    assert (one.power_w, one.hung, one.fault) == (None, ("power_w",), None)
    assert (one.utilisation, one.temperature_c) == (0.75, 66.0), "before it and after it"
    assert (other.power_w, other.hung) == (542.5, ())
    write_gpu(gpus, 0, BUSY)

    async def answers() -> bool:
        return (await read_with(reader))[0].power_w is not None

    await until(answers)


async def test_a_card_that_hangs_is_absent_alone_and_piles_up_no_threads(
    library: Path, gpus: Path
) -> None:
    before = set(threading.enumerate())
    add(gpus, 0, "hang_ms=60000")
    reader = NvmlReader(library)
    for _ in range(4):
        one, other = await read_with(reader)
        assert (one.utilisation, one.hung) == (None, ("identity", "utilisation"))
        assert other.utilisation == 0.75
        mine = [each for each in threading.enumerate() if each.name == "nvml-0"]
        assert len(set(mine) - before) == 2


async def read_with(reader: NvmlReader) -> tuple[GpuReading, ...]:
    reading = await reader.read()
    assert not isinstance(reading, Absent), reading
    return reading


async def test_every_figure_that_a_card_has_is_read(library: Path, gpus: Path) -> None:
    add(gpus, 0, "mig=0 sm_clock_mhz=1980 memory_clock_mhz=3201 throttle_reasons=69 ecc_errors=2")
    add(gpus, 0, "remapped_rows=3 remap_failed=1 gpm_sm_pct=40 gpm_memory_pct=25 xid=48")
    reader = NvmlReader(library)
    first, _ = await read_with(reader)
    assert (first.sm_clock_mhz, first.memory_clock_mhz) == (1980, 3201)
    assert first.throttled_by == ("power_cap", "hardware_thermal"), "idle is not throttled"
    assert (first.ecc_errors, first.remapped_rows, first.has_row_remap_failed) == (2, 3, True)
    assert (first.is_row_remap_pending, first.is_partitioned) == (False, False)
    assert first.xids == (48,)
    assert first.sm_utilisation is None, "GPM needs two samples"
    second, _ = await read_with(reader)
    assert (second.sm_utilisation, second.memory_bandwidth_utilisation) == (0.4, 0.25)
    assert second.xids == (48,), "until the driver is loaded anew"


def uuid_of(part: int) -> str:
    return f"MIG-00000000-0000-0000-{part:04}-{0:012}"


async def test_a_mig_instance_has_a_utilisation_where_the_card_has_gpm(
    library: Path, gpus: Path
) -> None:
    for index, gpm in enumerate(("gpm=1", "")):
        add(gpus, index, f"mig=1 instance_0=3 instance_2=5 {gpm}")
        add(gpus, index, "gpm_graphics_pct_3=90 gpm_sm_pct_3=40 gpm_memory_pct_3=25")
        add(gpus, index, "gpm_graphics_pct_5=0 gpm_sm_pct_5=0 gpm_memory_pct_5=0")
    reader = NvmlReader(library)
    await read_with(reader)
    before, _ = await read_with(reader)
    one_sample = (InstanceReading(uuid=uuid_of(0)), InstanceReading(uuid=uuid_of(2)))
    assert before.instances == one_sample
    card, without = await read_with(reader)
    busy, idle = card.instances or ()
    assert (busy.uuid, busy.utilisation, busy.sm_utilisation) == (uuid_of(0), 0.9, 0.4)
    assert busy.memory_bandwidth_utilisation == 0.25
    assert (idle.uuid, idle.utilisation, idle.sm_utilisation) == (uuid_of(2), 0.0, 0.0)
    assert (card.utilisation, card.fault, card.hung) == (None, None, ())
    assert [part.utilisation for part in without.instances or ()] == [None, None], "never zero"


@pytest.mark.parametrize("code", [2, 3, 999])
async def test_an_instance_that_cannot_be_read_is_absent_alone_and_no_fault_of_its_card(
    library: Path, gpus: Path, code: int
) -> None:
    add(gpus, 0, f"mig=1 gpm=1 instance_0=3 instance_1=5 gpm_error_3={code}")
    add(gpus, 0, "gpm_sm_pct_5=40 gpm_graphics_pct_5=50")
    reader = NvmlReader(library)
    for _ in range(3):
        card, _ = await read_with(reader)
    assert [part.utilisation for part in card.instances or ()] == [None, 0.5]
    assert (card.fault, card.hung) == (None, ())


async def test_an_instance_whose_call_hangs_is_absent_alone(library: Path, gpus: Path) -> None:
    add(gpus, 0, "mig=1 gpm=1 instance_0=3 instance_1=5 gpm_sm_pct_3=40")
    add(gpus, 0, "gpm_sm_pct_5=40 gpm_graphics_pct_5=50")
    reader = NvmlReader(library)
    for _ in range(3):
        await read_with(reader)
    add(gpus, 0, "hang_ms=900 hang_only=gpm_sm_pct_3")
    card, _ = await read_with(reader)
    assert [part.utilisation for part in card.instances or ()] == [None, 0.5]
    assert (card.power_w, card.hung) == (542.5, (f"instance-{uuid_of(0)}",))


async def test_a_card_that_is_whole_again_has_no_instances(library: Path, gpus: Path) -> None:
    clock = [100.0]
    reader = NvmlReader(library, lambda: clock[-1])
    whole = (gpus / "gpu-0").read_text().strip()
    add(gpus, 0, "mig=1 gpm=1 instance_0=3 gpm_sm_pct_3=40")
    await read_with(reader)
    assert len((await read_with(reader))[0].instances or ()) == 1
    (gpus / "gpu-0").write_text(f"{whole} mig=0\n")
    clock.append(110.0)
    assert (await read_with(reader))[0].instances is None


async def test_a_sample_that_could_not_be_taken_is_compared_with_none(
    library: Path, gpus: Path
) -> None:
    reader = NvmlReader(library)
    whole = (gpus / "gpu-0").read_text().strip() + " gpm_sm_pct=40 gpm_memory_pct=25"
    seen = []
    for words in ("", " gpm_error=3", "", "", " gpm_error=999", "", ""):
        (gpus / "gpu-0").write_text(f"{whole}{words}\n")
        card, _ = await read_with(reader)
        seen.append((card.sm_utilisation, card.fault))
    absent, there = (None, None), (0.4, None)
    assert seen == [absent, absent, absent, there, (None, "UNKNOWN"), absent, there]


async def test_whether_a_card_is_partitioned_is_asked_every_ten_seconds(
    library: Path, gpus: Path
) -> None:
    clock = [100.0]
    reader = NvmlReader(library, lambda: clock[-1])
    add(gpus, 0, "mig=0")
    seen = []
    for now in (100.0, 109.9, 110.0):
        clock.append(now)
        seen.append((await read_with(reader))[0].is_partitioned)
        (gpus / "gpu-0").write_text((gpus / "gpu-0").read_text().replace("mig=0", "mig=1"))
    assert seen == [False, False, True]


async def test_a_driver_that_is_loaded_anew_has_told_no_xid(library: Path, gpus: Path) -> None:
    reader = NvmlReader(library)
    add(gpus, 0, f"xid={XID_OF_A_GPU_OFF_THE_BUS}")
    assert (await read_with(reader))[0].xids == (XID_OF_A_GPU_OFF_THE_BUS,)
    (gpus / "gpu-count").unlink()
    assert isinstance(await reader.read(), Absent)
    write_gpu(gpus, 0, BUSY)
    write_count(gpus, 2)
    assert (await read_with(reader))[0].xids == ()


async def test_what_a_call_of_another_driver_brings_late_is_nobodys(
    library: Path, gpus: Path
) -> None:
    reader = NvmlReader(library)
    add(gpus, 0, f"xid={XID_OF_A_GPU_OFF_THE_BUS} hang_ms=900 hang_only=xid")
    assert (await read_with(reader))[0].hung == ("xids",)
    (gpus / "gpu-count").unlink()
    assert isinstance(await reader.read(), Absent)
    write_gpu(gpus, 0, BUSY)
    write_count(gpus, 2)

    async def has_come_back() -> bool:
        return (await read_with(reader))[0].hung == ()

    await until(has_come_back)
    assert (await read_with(reader))[0].xids == ()


@pytest.mark.parametrize("code", [3, 6, 13])
async def test_an_error_that_says_a_figure_is_missing_is_no_fault(
    library: Path, gpus: Path, code: int
) -> None:
    add(gpus, 0, f"error={code}")
    card, other = await read(library)
    assert card == GpuReading(index=0)
    assert other.utilisation == 0.75


@pytest.mark.parametrize(
    ("code", "fault"), [(15, "GPU_IS_LOST"), (16, "RESET_REQUIRED"), (999, "UNKNOWN")]
)
async def test_an_error_of_the_card_is_its_fault(
    library: Path, gpus: Path, code: int, fault: str
) -> None:
    add(gpus, 0, f"error={code}")
    card, other = await read(library)
    assert card == GpuReading(index=0, fault=fault)
    assert other.utilisation == 0.75


@pytest.mark.parametrize(
    ("code", "name"), [(9, "DRIVER_NOT_LOADED"), (12, "LIBRARY_NOT_FOUND"), (1, "UNINITIALIZED")]
)
async def test_an_error_of_the_driver_is_an_absent_reading_and_it_is_opened_anew(
    library: Path, gpus: Path, code: int, name: str
) -> None:
    reader = NvmlReader(library)
    add(gpus, 0, f"error={code}")
    absent = await reader.read()
    assert isinstance(absent, Absent)
    assert absent.reason.endswith(f"({name})")
    write_gpu(gpus, 0, BUSY)
    assert len(await read_with(reader)) == 2


def test_a_process_s_pod_is_known_by_its_control_group(tmp_path: Path) -> None:
    uid = "0a1b2c3d-1111-2222-3333-444455556666"
    groups = {
        1: f"0::/kubepods/burstable/pod{uid}/5f0c",
        2: f"0::/kubepods.slice/kubepods-pod{uid.replace('-', '_')}.slice/cri-5f0c.scope",
        3: "0::/user.slice",
    }
    for pid, text in groups.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cgroup").write_text(text + "\n")
    assert pods_of([1, 2], tmp_path) == (uid,)
    assert pods_of([3, 4], tmp_path) == (), "in no pod, and ended"


def test_an_xid_is_told_once_as_an_event(library: Path, gpus: Path) -> None:
    program = f"""
import ctypes, pynvml
ctypes.CDLL({str(library)!r}, mode=ctypes.RTLD_GLOBAL)
pynvml.nvmlInit()
events = pynvml.nvmlEventSetCreate()
card = pynvml.nvmlDeviceGetHandleByIndex(1)
pynvml.nvmlDeviceRegisterEvents(card, pynvml.nvmlEventTypeXidCriticalError, events)
event = pynvml.nvmlEventSetWait_v2(events, 100)
address = lambda pointer: ctypes.cast(pointer, ctypes.c_void_p).value
print(event.eventData, address(event.device) == address(card))
try:
    pynvml.nvmlEventSetWait_v2(events, 20)
except pynvml.NVMLError_Timeout:
    print("once")
pynvml.nvmlEventSetFree(events)
print(pynvml.nvmlDeviceGetMigMode(card), pynvml.nvmlDeviceGetRemappedRows(card))
print(pynvml.nvmlSystemGetDriverVersion())
pynvml.nvmlShutdown()
"""
    add(gpus, 1, f"xid={XID_OF_A_GPU_OFF_THE_BUS} mig=0 remapped_rows=2")
    told = run(program, **{STATE_SETTING: str(gpus)})
    assert told.splitlines() == ["79 True", "once", "[0, 0] (0, 2, 0, 0)", "0.0-stand-in"]


def test_without_a_library_there_is_no_reading_and_a_reason(tmp_path: Path) -> None:
    program = f"""
import asyncio, pathlib
from tidegate.edges.nvml import NvmlReader
print(asyncio.run(NvmlReader(pathlib.Path({str(tmp_path / "none.so")!r})).read()))
"""
    told = run(program)
    assert told.startswith("Absent(reason='nvml: ")
    assert "none.so: cannot open shared object file" in told


@pytest.mark.skipif(
    any(Path("/dev").glob("nvidia[0-9]*")), reason="this machine has an NVIDIA card"
)
def test_a_machine_without_a_card_has_no_reading_and_a_reason() -> None:
    program = "import asyncio; from tidegate.edges.nvml import NvmlReader; "
    told = run(program + "print(asyncio.run(NvmlReader().read()))")
    assert told.startswith("Absent(reason='nvml: ")


def test_a_program_ends_though_the_driver_hangs(library: Path, gpus: Path) -> None:
    hang_driver(gpus, 60000)
    program = f"""
import asyncio, pathlib
from tidegate.edges.nvml import NvmlReader
print(asyncio.run(NvmlReader(pathlib.Path({str(library)!r})).read()))
"""
    assert "did not answer" in run(program, **{STATE_SETTING: str(gpus)})


def test_the_stand_in_is_built_once(library: Path) -> None:
    built_at = library.stat().st_mtime_ns
    assert build(library.parents[2]) == library
    assert library.stat().st_mtime_ns == built_at


def test_without_a_compiler_the_stand_in_is_absent_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    built = build(tmp_path)
    assert isinstance(built, Absent)
    assert "Debian package: gcc" in built.reason


def run(program: str, **environment: str) -> str:
    """Run a program of its own: a process can load but one NVML."""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    return ended.stdout.strip()
