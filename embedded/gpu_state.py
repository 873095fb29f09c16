"""What a local GPU shows to the NVML stand-in: one small file a GPU, read again on each call.

`DIR/gpu-count` holds how many GPUs there are; `DIR/gpu-N` one line of `key=value` words, the keys
those of `GpuState`.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MEMORY_BYTES: Final = 80 * 1024**3
IDLE_POWER_W: Final = 70.0
FULL_POWER_W: Final = 700.0
_IDLE_TEMPERATURE_C: Final = 32.0
_FULL_TEMPERATURE_C: Final = 78.0


@dataclass(frozen=True, slots=True)
class GpuState:
    """One GPU at one moment, in the units of NVML: per cent, bytes, milliwatts, degrees Celsius."""

    utilisation_pct: int
    memory_used_bytes: int
    power_mw: int
    temperature_c: int
    pid: int
    memory_total_bytes: int = MEMORY_BYTES

    @classmethod
    def under(cls, duty: float, *, memory_share: float, pid: int) -> "GpuState":
        """Derive a state from the share of the time that a kernel ran, 0 to 1.

        Power and temperature follow the duty cycle in a straight line, without inertia.
        """
        return cls(
            utilisation_pct=round(duty * 100),
            memory_used_bytes=int(MEMORY_BYTES * memory_share),
            power_mw=round((IDLE_POWER_W + duty * (FULL_POWER_W - IDLE_POWER_W)) * 1000),
            temperature_c=round(
                _IDLE_TEMPERATURE_C + duty * (_FULL_TEMPERATURE_C - _IDLE_TEMPERATURE_C)
            ),
            pid=pid,
        )


IDLE: Final = GpuState.under(0.0, memory_share=0.0, pid=0)


def write_gpu(folder: Path, index: int, state: GpuState) -> None:
    """Replace one GPU's file in one step, so that a reader never sees half a line."""
    words = (
        f"utilisation_pct={state.utilisation_pct}",
        f"memory_used_bytes={state.memory_used_bytes}",
        f"memory_total_bytes={state.memory_total_bytes}",
        f"power_mw={state.power_mw}",
        f"temperature_c={state.temperature_c}",
        f"pid={state.pid}",
    )
    _replace(folder / f"gpu-{index}", " ".join(words))


def write_count(folder: Path, installed: int) -> None:
    """Say how many GPUs are installed; their files come first."""
    _replace(folder / "gpu-count", str(installed))


def _replace(target: Path, line: str) -> None:
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.write_text(line + "\n")
    partial.replace(target)
