"""Who takes part, each with the grid that its best point is looked for on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.replay.fluid import Gate, Sizer
from benchmarks.replay.ours import (
    SETTINGS,
    STRICT_FREE,
    STRICT_SETTINGS,
    TidegateGate,
    TidegateSizer,
    pool_of,
)
from benchmarks.replay.rivals import (
    Dynamo,
    Fixed,
    Hpa,
    Keda,
    Kpa,
    Pool,
    RayServe,
    Setting,
    Wva,
)

_OF_ALLOWANCE: Final = 0.9
_SHARES: Final = (0.65, 0.75, 0.85, 0.9, 0.95, 1.0)


@dataclass(frozen=True, slots=True)
class Contestant:
    """A way of sizing, and the settings that are tried of it."""

    name: str
    make: Callable[[Pool, Setting], Sizer]
    grid: tuple[Setting, ...]


RIVALS: Final = (
    Contestant(
        "fixed", Fixed, tuple({"share_of_peak": s} for s in (0.8, 0.85, 0.9, 0.95, 1.0, 1.1))
    ),
    Contestant("hpa", Hpa, tuple({"utilisation": s} for s in _SHARES)),
    Contestant("hpa_queue", Hpa, tuple({"utilisation": s, "waiting_each": 1.0} for s in _SHARES)),
    Contestant("kpa", Kpa, tuple({"share_of_slots": s} for s in _SHARES)),
    Contestant("keda", Keda, tuple({"share_of_capacity": s} for s in _SHARES)),
    Contestant(
        "wva",
        Wva,
        tuple({"spare_kv": kv, "period_s": s} for kv in (0.1, 0.02) for s in (5.0, 15.0, 30.0)),
    ),
    Contestant("dynamo", Dynamo, tuple({"share_of_capacity": s} for s in _SHARES)),
    Contestant(
        "ray_serve", RayServe, tuple({"ongoing": s} for s in (2.0, 32.0, 40.0, 48.0, 56.0, 62.0))
    ),
)


def tidegate(kind: str, free: float) -> Contestant:
    """Return ours, with its one setting for a set of cold starts and for what Free must attain.

    A tenth of what may be missed is kept back: some whom the gate lets in start too late.
    """
    settings = SETTINGS if free < STRICT_FREE else STRICT_SETTINGS
    setting = replace(settings[kind], gated_objective=1.0 - _OF_ALLOWANCE * (1.0 - free))

    def make(pool: Pool, _: Setting) -> Sizer:
        return TidegateSizer(pool_of(setting, pool))

    return Contestant("tidegate", make, (setting.told(),))


def tidegate_gate(kind: str, pool: Pool) -> Gate:
    """Return Tidegate's gate, the same in front of everybody."""
    return TidegateGate(pool_of(SETTINGS[kind], pool))
