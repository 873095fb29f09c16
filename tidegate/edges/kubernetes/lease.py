"""Who leads, by a Kubernetes Lease: at most one at a time, and nobody longer than it renews."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog

from tidegate.edges.kubernetes.api import Json, KubernetesApi
from tidegate.errors import Refused, Unavailable

log = structlog.get_logger()

LASTS_S: Final = 10.0
"""How long a leader that says nothing still leads, in the eyes of the others."""
_GIVES_UP_AFTER_S: Final = 7.0
"""How long it leads in its own eyes: it stops before another may begin."""
_RENEWS_EVERY_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Held:
    """Who held it when it was looked at, and since when that has been so, by this clock."""

    holder: str
    renewed: str
    since_s: float


class Lease:
    """One Lease, as one that would lead sees it; `identity` is the name of the pod that it runs in.

    An old leader whose write was long on its way is refused by the API server itself, where the
    chart's admission policy stands: it compares the holder with the pod that a token belongs to.
    """

    def __init__(self, api: KubernetesApi, namespace: str, name: str, identity: str) -> None:
        self._api = api
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{name}"
        self._meta = {"name": name, "namespace": namespace}
        self._identity = identity
        self._seen: _Held | None = None

    @asynccontextmanager
    async def led(self, stopping: asyncio.Event) -> AsyncIterator[None]:
        """Wait until this leads; sets `stopping` once it does no longer, and lets go at the end.

        Enters too when `stopping` is set before: look at it first.
        """
        while not stopping.is_set() and not await self._tries():
            await _either(stopping, _RENEWS_EVERY_S)
        if stopping.is_set():
            yield
            return
        log.info("lease.taken", lease=self._meta["name"], holder=self._identity)
        keeping = asyncio.create_task(self._keep(stopping), name="keep the lease")
        try:
            yield
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping
            await self._let_go()

    async def _keep(self, stopping: asyncio.Event) -> None:
        """Renew it until that fails for too long, or somebody else holds it; then say stop."""
        try:
            await self._renew_until_lost()
            log.warning("lease.lost", lease=self._meta["name"], holder=self._identity)
        finally:
            stopping.set()

    async def _renew_until_lost(self) -> None:
        renewed_at = time.monotonic()
        while not self._is_of_another:
            await asyncio.sleep(_RENEWS_EVERY_S)
            asked_at = time.monotonic()
            try:
                async with asyncio.timeout(renewed_at + _GIVES_UP_AFTER_S - asked_at):
                    if await self._tries():
                        renewed_at = asked_at
            except TimeoutError:
                return

    async def _tries(self) -> bool:
        """Take it or renew it; returns whether this holds it. What goes wrong is tried again."""
        try:
            return await self._takes()
        except (Refused, Unavailable) as error:  # a conflict: somebody was faster
            log.info("lease.not_taken", lease=self._meta["name"], reason=str(error))
            return False

    async def _takes(self) -> bool:
        try:
            found: Json | None = await self._api.get(self._path)
        except Refused as refusal:
            if refusal.code != "not-found":
                raise
            found = None
        if found is not None and not self._may_take(found["spec"]):
            return False
        written = self._written(found)
        if found is None:
            await self._api.post(self._collection, written)
        else:
            await self._api.put(self._path, written)
        self._seen = _Held(self._identity, written["spec"]["renewTime"], time.monotonic())
        return True

    def _may_take(self, spec: Json) -> bool:
        """Say whether it is ours, nobody's, or of one that has said nothing for as long as it said.

        Its age is told by this clock, from when it was first seen so: clocks of machines differ.
        """
        holder, renewed = spec.get("holderIdentity") or "", str(spec.get("renewTime"))
        if self._seen is None or (self._seen.holder, self._seen.renewed) != (holder, renewed):
            self._seen = _Held(holder, renewed, time.monotonic())
        if holder in {"", self._identity}:
            return True
        lasts_s = float(spec.get("leaseDurationSeconds", LASTS_S))
        return time.monotonic() > self._seen.since_s + lasts_s

    @property
    def _is_of_another(self) -> bool:
        return self._seen is not None and self._seen.holder not in {"", self._identity}

    def _written(self, found: Json | None) -> Json:
        """Return it as held by this from now on."""
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        before: Json = {} if found is None else found["spec"]
        is_ours = before.get("holderIdentity") == self._identity
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": self._meta if found is None else found["metadata"],
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": int(LASTS_S),
                "acquireTime": before["acquireTime"] if is_ours else now,
                "renewTime": now,
                "leaseTransitions": int(before.get("leaseTransitions", 0)) + (not is_ours),
            },
        }

    async def _let_go(self) -> None:
        """Have the next one begin at once; where that fails it waits, and nothing is lost."""
        with suppress(Refused, Unavailable):
            found = await self._api.get(self._path)
            if found["spec"].get("holderIdentity") == self._identity:
                spec = {**found["spec"], "holderIdentity": ""}
                await self._api.put(self._path, {**found, "spec": spec})


async def _either(stopping: asyncio.Event, within_s: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), within_s)
