"""What the page, the terminal view and the picture show, worked out once for all three."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final

from console.measures import demand_of, fresh_nodes, gpu_use
from console.series import Series
from tidegate.events import Event
from tidegate.readings import Absent, DemandReading, NodeReading
from tidegate.rules.measures import queue_wait
from tidegate.snapshot import Snapshot

KEEP_S: Final = 1800.0
"""Half an hour at one point a second."""

READING_LIMIT_S: Final = 5.0
"""How old a reading may be where its pool does not say."""

_EVENTS_KEPT: Final = 2000
_IDS_KEPT: Final = 20_000


class Quantity(StrEnum):
    """What a series tells; shares go from 0 to 1, and tiers are named only where said."""

    EXPOSURE = "exposure"
    """Of a feature, by tier: the share that is in."""
    CEILING = "ceiling"
    """Of a pool, by gated tier: the share that its gate lets in."""
    NEEDED_GPUS = "needed_gpus"
    READY_GPUS = "ready_gpus"
    LOADING_GPUS = "loading_gpus"
    BOOKED_GPUS = "booked_gpus"
    INSTALLED_GPUS = "installed_gpus"
    QUEUE_WAIT_S = "queue_wait_s"
    ADMITTED_RPS = "admitted_rps"
    REFUSED_BY_GATE_RPS = "refused_by_gate_rps"
    NOT_EXPOSED_RPS = "not_exposed_rps"
    GPU_USE = "gpu_use"
    """Of the whole fleet, under the name "": the mean duty cycle."""


GPU_QUANTITIES: Final = (
    Quantity.NEEDED_GPUS,
    Quantity.READY_GPUS,
    Quantity.LOADING_GPUS,
    Quantity.BOOKED_GPUS,
    Quantity.INSTALLED_GPUS,
)

DEMAND_QUANTITIES: Final = (
    Quantity.ADMITTED_RPS,
    Quantity.REFUSED_BY_GATE_RPS,
    Quantity.NOT_EXPOSED_RPS,
)

_Key = tuple[Quantity, str, str]

COUNTED: Final = "admission.counted"
"""Gateways count this way; it is no decision, and the demand is drawn from readings."""


class History:
    """The last half hour, heard once a second; it keeps what was last known when Redis is away."""

    def __init__(self, *, keep_s: float = KEEP_S) -> None:
        self._keep_s = keep_s
        self._series: dict[_Key, Series] = {}
        self._sizes: dict[str, Event] = {}
        self._ids: dict[str, None] = {}
        self._events: deque[Event] = deque(maxlen=_EVENTS_KEPT)
        self.snapshot = Snapshot()
        self.nodes: tuple[NodeReading, ...] = ()
        self.gateways: tuple[DemandReading, ...] = ()
        self.heard_at: float | None = None
        self.now: float = 0.0
        self.silent_because: str | None = None
        self.events_heard = 0
        self.changes = 0

    def hear(
        self,
        now: float,
        snapshot: Snapshot,
        nodes: Sequence[NodeReading],
        gateways: Sequence[DemandReading],
        events: Iterable[Event],
    ) -> None:
        """Take in one second: the snapshot, the readings and the events that are new."""
        self.now = now
        self.heard_at = now
        self.silent_because = None
        self.snapshot = snapshot
        self.nodes = fresh_nodes(nodes, now, READING_LIMIT_S)
        self.gateways = tuple(g for g in gateways if now - g.at <= READING_LIMIT_S)
        for event in events:
            self._hear_event(event)
        self._note_exposure(now)
        self._note_gates(now)
        for pool in self.pools():
            self._note_waits_and_sizes(now, pool, nodes)
            self._note_demand(now, pool, gateways)
        use = gpu_use(self.nodes)
        share = None if isinstance(use, Absent) else use.share
        self._sample(now, (Quantity.GPU_USE, "", ""), share)

    def miss(self, now: float, because: str) -> None:
        """Take in one second in which nothing was heard: every series gets a hole."""
        self.now = now
        self.silent_because = because
        for key in self._series:
            self._level(now, key, None)

    @property
    def events(self) -> Sequence[Event]:
        """The events heard, oldest first."""
        return self._events

    def events_since(self, heard: int) -> Sequence[Event]:
        """Return the events heard after the first `heard` ones, oldest first."""
        fresh = min(self.events_heard - heard, len(self._events))
        return tuple(self._events)[len(self._events) - fresh :]

    def series(self, quantity: Quantity, of: str, tier: str = "") -> Series:
        """Return what is kept of a feature's, pool's or tier's quantity; empty if unheard."""
        return self._series.get((quantity, of, tier)) or Series(self._keep_s)

    def pools(self) -> tuple[str, ...]:
        """Name every pool heard of, in the order of the intent."""
        intent = self.snapshot.intent
        named = dict.fromkeys(intent.pools if intent else ())
        named |= dict.fromkeys(sorted(self.snapshot.gates)) | dict.fromkeys(sorted(self._sizes))
        return tuple(named)

    def tiers(self) -> tuple[str, ...]:
        """Name the tiers, the one served first at the front."""
        intent = self.snapshot.intent
        ranks = {} if intent is None else intent.tiers
        return tuple(sorted(ranks, key=lambda tier: (ranks[tier].rank, tier)))

    def began_at(self) -> float:
        """When the oldest point kept was, seconds since the epoch."""
        firsts = [series.points[0][0] for series in self._series.values() if series.points]
        return max(min(firsts, default=self.now), self.now - self._keep_s)

    def sizing(self, pool: str) -> Event | None:
        """Return the capacity controller's last word on a pool."""
        return self._sizes.get(pool)

    def _sample(self, at: float, key: _Key, value: float | None) -> None:
        series = self._series.setdefault(key, Series(self._keep_s))
        self.changes += series.sample(at, value)

    def _level(self, at: float, key: _Key, value: float | None) -> None:
        series = self._series.setdefault(key, Series(self._keep_s))
        self.changes += series.level(at, value)

    def _reading_limit_s(self, pool: str) -> float:
        intent = self.snapshot.intent
        known = intent.pools.get(pool) if intent else None
        return known.reading_limit_s if known else READING_LIMIT_S

    def _hear_event(self, event: Event) -> None:
        if event.type == COUNTED or event.id in self._ids:
            return
        self._ids[event.id] = None
        if len(self._ids) > _IDS_KEPT:
            del self._ids[next(iter(self._ids))]
        self._events.append(event)
        self.events_heard += 1
        self.changes += 1
        if event.type == "pool.sized":
            pool = event.subject.partition("/")[2]
            self._sizes[pool] = event
            self._note_sizes(event.at.timestamp(), pool, event)

    def _note_sizes(self, at: float, pool: str, event: Event) -> None:
        for quantity in GPU_QUANTITIES:
            self._level(at, (quantity, pool, ""), number(event.data, quantity.value))

    def _note_exposure(self, now: float) -> None:
        intent = self.snapshot.intent
        features = {} if intent is None else intent.features
        tiers = () if intent is None else tuple(intent.tiers)
        self._note_levels(
            now,
            Quantity.EXPOSURE,
            {
                (name, tier): feature.exposure.get(tier, 0.0)
                for name, feature in features.items()
                for tier in tiers
            },
        )

    def _note_gates(self, now: float) -> None:
        self._note_levels(
            now,
            Quantity.CEILING,
            {
                (pool, tier): ceiling
                for pool, gate in self.snapshot.gates.items()
                for tier, ceiling in gate.ceilings.items()
            },
        )

    def _note_levels(
        self, now: float, quantity: Quantity, known: Mapping[tuple[str, str], float]
    ) -> None:
        for of, tier in known:
            self._level(now, (quantity, of, tier), known[of, tier])
        for kind, of, tier in self._series:
            if kind is quantity and (of, tier) not in known:
                self._level(now, (kind, of, tier), None)

    def _note_waits_and_sizes(self, now: float, pool: str, nodes: Sequence[NodeReading]) -> None:
        limit_s = self._reading_limit_s(pool)
        wait = queue_wait(nodes, pool, now=now, limit_s=limit_s)
        self._sample(now, (Quantity.QUEUE_WAIT_S, pool, ""), wait.fresh_value)
        if (event := self._sizes.get(pool)) is not None:
            self._note_sizes(now, pool, event)

    def _note_demand(self, now: float, pool: str, gateways: Sequence[DemandReading]) -> None:
        limit_s = self._reading_limit_s(pool)
        for tier in self.tiers():
            demand = demand_of(gateways, pool, tier, now=now, limit_s=limit_s)
            for quantity in DEMAND_QUANTITIES:
                rps = None if demand is None else getattr(demand, quantity.value)
                self._sample(now, (quantity, pool, tier), rps)


def number(data: Mapping[str, object], field: str) -> float | None:
    """Return an event's figure; None where it is not given, or is no number."""
    value = data.get(field)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
