"""Measurements with their age: fresh, stale or absent, and never zero when absent."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import msgspec


class Freshness(StrEnum):
    """Whether a reading may be acted on."""

    FRESH = "fresh"
    STALE = "stale"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Absent:
    """No reading, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reading:
    """One quantity: its value, if there is one, and how old it is in seconds."""

    name: str
    value: float | None
    age_s: float | None
    limit_s: float

    @property
    def freshness(self) -> Freshness:
        """FRESH up to `limit_s`, STALE beyond it, ABSENT without a number and an age."""
        if self.value is None or self.age_s is None:
            return Freshness.ABSENT
        # NaN compares with nothing: as a pressure it would hide the others.
        if not math.isfinite(self.value) or math.isnan(self.age_s):
            return Freshness.ABSENT
        return Freshness.FRESH if self.age_s <= self.limit_s else Freshness.STALE

    @property
    def fresh_value(self) -> float | None:
        """The value, where it may be acted on."""
        return self.value if self.freshness is Freshness.FRESH else None

    def explain(self) -> str:
        """Say what is wrong with it, in the words that an operator reads."""
        match self.freshness:
            case Freshness.FRESH:
                return f"{self.name} is fresh"
            case Freshness.STALE:
                return f"{self.name} was read {self.age_s:.0f} s ago, limit {self.limit_s:.0f} s"
            case Freshness.ABSENT:
                return f"{self.name} is absent"


@dataclass(frozen=True, slots=True)
class UseOfModel:
    """What one tier used of a model over some days."""

    requests: int
    distinct_users: int
    """Estimated with HyperLogLog: standard error 0.81 %."""


class _Published(msgspec.Struct, frozen=True, omit_defaults=True):
    # Every tick reads those of a whole fleet, for which Pydantic takes six times as long. What a
    # newer release adds is passed over: its readings count all the same.
    pass


class InstanceReading(_Published, frozen=True):
    """One MIG instance of a card; a field is None where GPM does not tell it, or not yet.

    `utilisation` is GPM's, 0 to 1: the share of the time since the reading before in which any
    kernel ran. `sm_utilisation` and `memory_bandwidth_utilisation` are as of a card, and of what
    the instance has of it.
    """

    uuid: str
    utilisation: float | None = None
    sm_utilisation: float | None = None
    memory_bandwidth_utilisation: float | None = None
    pods: tuple[str, ...] | None = None
    """Those that have it, as the kubelet tells."""


class GpuReading(_Published, frozen=True):
    """One GPU at one moment; a field is None where the card does not report it.

    `utilisation` is NVML's duty cycle, 0 to 1: the share of the last sample in which any kernel
    ran. `sm_utilisation` and `memory_bandwidth_utilisation` are GPM's, 0 to 1: how busy the
    multiprocessors and the memory were since the reading before. `ecc_errors` are uncorrected ones
    since the driver was loaded, and so are `xids`, each named once. `fault` names the NVML error
    of a card that could not be read, `hung` the calls that have not come back.
    """

    index: int
    uuid: str | None = None
    name: str | None = None
    utilisation: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    ecc_errors: int | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    throttled_by: tuple[str, ...] | None = None
    remapped_rows: int | None = None
    is_row_remap_pending: bool | None = None
    has_row_remap_failed: bool | None = None
    is_partitioned: bool | None = None
    """By MIG: such a card has no duty cycle, its instances may."""
    instances: tuple[InstanceReading, ...] | None = None
    sm_utilisation: float | None = None
    memory_bandwidth_utilisation: float | None = None
    xids: tuple[int, ...] | None = None
    pids: tuple[int, ...] | None = None
    pods: tuple[str, ...] | None = None
    """Those that have it: names as the kubelet tells, else uids, found by the processes on it."""
    fault: str | None = None
    hung: tuple[str, ...] = ()


class EngineReading(_Published, frozen=True):
    """One version of a model in one replica's engine; counters count since the engine's start."""

    pool: str
    replica: str
    gpu: int | None = None
    instance: str | None = None
    """The uuid of the MIG instance that it is on; None where it has a whole card."""
    model: str | None = None
    version: str | None = None
    running: float | None = None
    waiting: float | None = None
    kv_cache_use: float | None = None
    requests_total: float | None = None
    tokens_total: float | None = None
    queue_wait_s: float | None = None
    """Mean wait of the requests started since the last scrape; None when none was."""


class SickGpu(_Published, frozen=True):
    """A GPU that cannot be counted on, and why."""

    index: int
    reason: str
    uuid: str | None = None


class NodeReading(_Published, frozen=True):
    """What one node's agent saw, once a second."""

    node: str
    at: float
    gpu_type: str | None = None
    """Of its budget; None from an agent that was not told."""
    gpus: tuple[GpuReading, ...] | None = None
    gpus_absent_because: str | None = None
    engines: tuple[EngineReading, ...] = ()
    sick_gpus: tuple[SickGpu, ...] = ()
    well_gpus: tuple[int, ...] = ()
    """Where the cards are kept apart: which of them are sick, and which say that they are well."""

    @property
    def levels(self) -> Mapping[str, int]:
        """By pool: the longest queue wait, on a scale of doublings.

        Where one moves, whoever acts on readings should look at once.
        """
        worst: dict[str, float] = {}
        for engine in self.engines:
            worst[engine.pool] = max(worst.get(engine.pool, 0.0), engine.queue_wait_s or 0.0)
        return {pool: _doublings(wait_s) for pool, wait_s in worst.items()}


class TierDemand(_Published, frozen=True):
    """Requests a second of one tier on one pool, over the gateway's last window."""

    admitted_rps: float
    refused_by_gate_rps: float
    not_exposed_rps: float
    let_in: float | None = None
    """Share of the tier's users that the gate in force let in, as the mean over the window; None
    from whoever does not say."""
    spared: float | None = None
    """Share of the tier's users of whom none was refused by the gate as long ago as somebody
    refused may come back, as the mean over the window; None where that is all of them."""
    spared_rps: float | None = None
    """What those asked for, admitted or refused by the gate; None where `spared` is."""


class ModelUse(_Published, frozen=True):
    """What one tier uses of a model now, over the gateway's last window."""

    rps: float


class LaneUse(_Published, frozen=True):
    """What one gateway did for one lane of a waitlist since it began."""

    leased_below: int = 0
    """No number that it was ever granted is at or above this."""
    came: int = 0
    """How many whose number was called came."""


class DemandReading(_Published, frozen=True):
    """What one gateway admitted and refused, and the snapshot it holds."""

    gateway: str
    at: float
    demand: Mapping[str, Mapping[str, TierDemand]] = msgspec.field(default_factory=dict)
    """By pool, then tier."""
    seen: Mapping[str, int] = msgspec.field(default_factory=dict)
    """The highest version held of each snapshot part."""
    gates: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Each pool's gate part as held, as JSON, for a writer that starts anew."""
    use: Mapping[str, Mapping[str, ModelUse]] | None = None
    """By model, then tier: what was admitted; None from a release that does not say."""
    began_at: float = 0.0
    """When the gateway's process began, in seconds since the epoch."""
    lanes: Mapping[str, Mapping[str, LaneUse]] = msgspec.field(default_factory=dict)
    """By feature, then tier."""
    waitlists: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Each feature's waitlist part as held, as JSON, for a writer that starts anew."""

    @property
    def levels(self) -> Mapping[str, int]:
        """By pool: the requests admitted a second, on a scale of doublings."""
        return {
            pool: _doublings(sum(tier.admitted_rps for tier in tiers.values()))
            for pool, tiers in self.demand.items()
        }


def _doublings(value: float) -> int:
    """Say how often a quarter was doubled to come to a value; 0 for less, and for no number."""
    return max(0, math.frexp(4.0 * value)[1]) if math.isfinite(value) else 0
