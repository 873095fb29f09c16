"""A simulated pool's replicas: pending without GPUs, loading through a cold start, ready, gone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Final

from rehearsal.fluid import IDLE, Flow, Span, flow
from tidegate.catalogue import ColdStart, PoolSpec
from tidegate.cluster import Pod, PodPhase, PoolStatus
from tidegate.readings import EngineReading

_NORMAL_P90: Final = 1.2815515655446004
"""The standard normal distribution's 90th percentile."""

_FIRST_TO_LEAVE: Final = (PodPhase.PENDING, PodPhase.LOADING, PodPhase.READY)


@dataclass(slots=True, eq=False)
class Replica:
    """One replica; instants are seconds since the epoch, None until they are known."""

    name: str
    number: int
    created_at: float
    phase: PodPhase = PodPhase.PENDING
    gpus: tuple[int, ...] = ()
    serves_from: float | None = None
    requests_total: float = 0.0


@dataclass(slots=True)
class SimulatedPool:
    """One pool: what is wanted, the replicas that exist, and the queue before them."""

    name: str
    spec: PoolSpec
    draw: Random
    wanted: int = 0
    created: int = 0
    """Replicas ever made: a name is never used twice."""
    replicas: list[Replica] = field(default_factory=list)
    flow: Flow = IDLE
    """What went through in the last step."""

    def those(self, phase: PodPhase) -> list[Replica]:
        """Return the replicas in a phase, the oldest first."""
        return [replica for replica in self.replicas if replica.phase is phase]

    def settle(self, now: float) -> None:
        """Make replicas that are wanted, and let go those that are not: the youngest first."""
        staying = [each for each in self.replicas if each.phase is not PodPhase.DRAINING]
        for _ in range(self.wanted - len(staying)):
            self.created += 1
            name = f"{self.name}-{self.created}"
            self.replicas.append(Replica(name, self.created, created_at=now))
        for replica in _leaving(staying, len(staying) - self.wanted):
            if replica.phase is PodPhase.READY:
                replica.phase = PodPhase.DRAINING
            else:
                self.replicas.remove(replica)

    def load(self, replica: Replica, gpus: tuple[int, ...], now: float) -> None:
        """Give a pending replica its GPUs, and begin its cold start."""
        replica.gpus = gpus
        replica.phase = PodPhase.LOADING
        replica.serves_from = now + draw_cold_start_s(self.spec.cold_start, self.draw)

    def advance(self, from_at: float, until_at: float, arrival_rps: float) -> None:
        """Serve for a while; replicas serve from the instant that they are loaded."""
        spans = list(self._spans(from_at, until_at))
        self.flow = flow(self.flow.backlog, arrival_rps, spans)
        for replica in self.those(PodPhase.LOADING):
            if replica.serves_from is not None and replica.serves_from <= until_at:
                replica.phase = PodPhase.READY
        self.replicas = [each for each in self.replicas if each.phase is not PodPhase.DRAINING]
        ready = self.those(PodPhase.READY)
        for replica in ready:
            replica.requests_total += self.flow.served / len(ready)

    def _spans(self, from_at: float, until_at: float) -> list[Span]:
        ready = len(self.those(PodPhase.READY))
        loaded_at = sorted(
            replica.serves_from
            for replica in self.those(PodPhase.LOADING)
            if replica.serves_from is not None and replica.serves_from < until_at
        )
        cuts = [from_at, *(max(from_at, at) for at in loaded_at), until_at]
        return [
            Span(later - earlier, (ready + loaded) * self.spec.capacity_rps)
            for loaded, (earlier, later) in enumerate(pairwise(cuts))
        ]

    def status(self) -> PoolStatus:
        """Return the pool as its cluster reports it."""
        return PoolStatus(
            name=self.name,
            replicas=self.wanted,
            gpus_per_replica=self.spec.gpus_per_replica,
            pods=tuple(_as_pod(replica) for replica in self.replicas),
        )

    def engines(self, step_s: float) -> tuple[EngineReading, ...]:
        """Read every ready replica's engine, each with its even part of what goes through.

        Tokens and KV-cache use are not simulated, and so absent.
        """
        ready = self.those(PodPhase.READY)
        return tuple(
            EngineReading(
                pool=self.name,
                replica=replica.name,
                gpu=replica.gpus[0],
                running=self.flow.served / step_s / len(ready),
                waiting=self.flow.backlog / len(ready),
                requests_total=replica.requests_total,
                queue_wait_s=self.flow.wait_s,
            )
            for replica in ready
        )


def draw_cold_start_s(cold_start: ColdStart, draw: Random) -> float:
    """Draw a cold start: log-normal through its p50 and p90, which may be equal."""
    p50_s, p90_s = cold_start.p50.total_seconds(), cold_start.p90.total_seconds()
    if p50_s <= 0.0:
        return 0.0
    return p50_s * math.exp(math.log(p90_s / p50_s) / _NORMAL_P90 * draw.gauss(0.0, 1.0))


def _leaving(staying: Sequence[Replica], count: int) -> list[Replica]:
    if count <= 0:
        return []
    ordered = sorted(staying, key=lambda r: (_FIRST_TO_LEAVE.index(r.phase), -r.number))
    return ordered[:count]


def _as_pod(replica: Replica) -> Pod:
    is_up = replica.phase in {PodPhase.READY, PodPhase.DRAINING}
    return Pod(
        name=replica.name,
        phase=replica.phase,
        address=None,
        created_at=replica.created_at,
        ready_at=replica.serves_from if is_up else None,
        gpu=replica.gpus[0] if replica.gpus else None,
    )
