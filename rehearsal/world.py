"""What a rehearsal is made of: servers that are real, and a world below and above that is not."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from rehearsal.pools import SimulatedPools
from rehearsal.traffic import SimulatedGateway
from tidegate.edges.redis import Redis
from tidegate.edges.temporal import ControlPlane


class SkippedTime(Protocol):
    """Temporal's time-skipping test environment, as far as a rehearsal needs it.

    It must not skip by itself, whenever somebody waits for a result.
    """

    async def get_current_time(self) -> datetime:
        """Return the server's time, the same for every workflow."""
        ...

    async def sleep(self, duration: float) -> None:
        """Skip so many seconds; timers that are due meanwhile fire."""
        ...


@dataclass(frozen=True, slots=True)
class Servers:
    """What is real: Temporal in skipped time, and an empty Redis."""

    time: SkippedTime
    plane: ControlPlane
    redis: Redis


@dataclass(frozen=True, slots=True)
class Delivery:
    """GPUs that come, whatever the plan says; `at` in seconds since the epoch."""

    at: float
    gpu_type: str
    gpus: int


@dataclass(frozen=True, slots=True)
class World:
    """What is simulated: everything below the control plane, and those who ask above it."""

    pools: SimulatedPools
    gateway: SimulatedGateway
    deliveries: tuple[Delivery, ...] = ()

    def pass_time(self, now: float, step_s: float) -> None:
        """Let the step that ends at `now` (seconds since the epoch) have passed."""
        for delivery in self.deliveries:
            if now - step_s < delivery.at <= now:
                self.pools.install(delivery.gpu_type, delivery.gpus)
        self.pools.advance(now, self.gateway.flow(now, step_s), step_s)
