"""Telling what the simulated gateway admitted and refused, as real gateways do, only less often."""

from datetime import UTC, datetime
from typing import Final

from rehearsal.traffic import Counted, SimulatedGateway
from tidegate.edges.outbox import Outbox

EVERY_S: Final = 600.0


class AdmissionTeller:
    """Tells whole requests, one event for each pool and tier; what is left over counts later."""

    def __init__(
        self, gateway: SimulatedGateway, outbox: Outbox, *, every_s: float = EVERY_S
    ) -> None:
        self._every_s = every_s
        self._gateway = gateway
        self._outbox = outbox
        self._told: dict[tuple[str, str], Counted] = {}
        self._told_at = 0.0

    async def tick(self, now: float, *, at_once: bool = False) -> int:
        """Tell what is due, or all there is `at_once`; returns how many events wait for the record.

        `now` is in seconds since the epoch.
        """
        at = datetime.fromtimestamp(now, UTC)
        if at_once or now - self._told_at >= self._every_s:
            self._told_at = now
            for key, counted in sorted(self._gateway.counted.items()):
                await self._tell(key, counted.whole(), at)
        return await self._outbox.tick(at)

    async def _tell(self, key: tuple[str, str], counted: Counted, at: datetime) -> None:
        pool, tier = key
        before = self._told.get(key, Counted())
        if counted == before:
            return
        self._told[key] = counted
        await self._outbox.tell(
            "admission.counted",
            subject=f"pool/{pool}",
            at=at,
            gateway=self._gateway.name,
            pool=pool,
            tier=tier,
            admitted=int(counted.admitted - before.admitted),
            refused_by_gate=int(counted.refused_by_gate - before.refused_by_gate),
            not_exposed=int(counted.not_exposed - before.not_exposed),
        )
