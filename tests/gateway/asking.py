"""Asking the application, without a server in between."""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.demand_meter import DemandMeter, DemandPublisher
from gateway.desk import Desk
from gateway.entrance import Entrance
from gateway.evaluate import Evaluator
from gateway.health import HealthHandler
from gateway.identity import Identity
from gateway.passes import Passes
from gateway.quotas import Quotas
from gateway.replies import Reply, Request
from gateway.routes import build_app
from gateway.streams import Streams
from gateway.tally import Tally
from gateway.tickets import Tickets
from tests.tidegate.snapshots import NOW
from tidegate.callers import ApiKeySpec, CallersSpec
from tidegate.edges.follower import Follower
from tidegate.edges.redis import Redis
from tidegate.edges.redis_numbers import NumberBook
from tidegate.edges.redis_quotas import QuotaBook
from tidegate.edges.stored import SnapshotFile
from tidegate.holding import SnapshotHolder
from tidegate.signing import Key, Keyring
from tidegate.snapshot import Snapshot

WITHIN_S = 10.0
KEY = "a-key-for-tests"
CALLERS = CallersSpec(
    api_keys=(ApiKeySpec(name="tests", sha256=hashlib.sha256(KEY.encode()).hexdigest()),)
)
AS_A_SERVER = {"Authorization": f"Bearer {KEY}"}
"""What a service shows that vouches for its users' tiers, as most questions here do."""

NOBODY = "redis://127.0.0.1:1/0"
"""Where nothing answers; requests must not care."""

KEYS = Keyring((Key("test", b"k" * 32),))


def entrance(keys: Keyring = KEYS, redis: Redis | None = None) -> Entrance:
    """Make what lets in whom the gate would turn away."""
    desk = Desk(NumberBook(redis or Redis(NOBODY)), time.monotonic)
    return Entrance(Passes(keys), Tickets(keys), desk)


def quotas_alone(clock: Callable[[], float] = time.time) -> Quotas[Reply]:
    """Quotas of a gateway that reaches no Redis, and no other gateway."""
    return Quotas[Reply](QuotaBook(Redis(NOBODY)), clock, "tests")


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever was answered
        return json.loads(self.body)


@dataclass
class Asked:
    """A gateway's application at a settable time."""

    held: Snapshot | None = None
    now: float = NOW
    holder: SnapshotHolder = field(default_factory=SnapshotHolder)
    tally: Tally = field(default_factory=Tally)
    redis: Redis = field(default_factory=lambda: Redis(NOBODY))
    quotas: Quotas[Reply] | None = None
    callers: CallersSpec = CALLERS

    def __post_init__(self) -> None:
        if self.held is not None:
            self.holder.take(self.held)
        shown = entrance(redis=self.redis)
        self.desk = shown.desk
        redis = self.redis
        quotas = self.quotas or quotas_alone(lambda: self.now)
        identity = Identity(self.callers)
        evaluator = Evaluator(self.holder, self.tally, lambda: self.now, identity, shown, quotas)
        follower = Follower(redis, self.holder, SnapshotFile(Path("/nonexistent/gateway.json")))
        meter = DemandMeter("gateway", self.tally, self.desk, taken_s=0.0)
        publisher = DemandPublisher(redis, self.holder, meter)
        health = HealthHandler(evaluator, follower, self.tally, publisher)
        self.app = build_app(evaluator, health, Streams(self.holder), identity)

    async def get(
        self,
        path: str,
        query: str = "",
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        return await self.ask(method, path, b"", query=query, headers=headers)

    async def post(
        self, path: str, document: object, headers: Mapping[str, str] | None = None
    ) -> Answer:
        return await self.ask("POST", path, json.dumps(document).encode(), headers=headers)

    async def admit(self, user: str = "ada", tier: str = "free", **more: object) -> Answer:
        return await self.post(
            "/v1/admit", {"feature": "image", "user": user, "tier": tier, **more}
        )

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        target = f"{path}?{query}" if query else path
        given = [
            (name.encode(), value.encode())
            for name, value in {**AS_A_SERVER, **(headers or {})}.items()
        ]
        reply = self.app.answer(
            Request(method.encode(), target.encode(errors="surrogatepass"), given, body)
        )
        if isinstance(reply, asyncio.Future):
            reply = await reply
        assert isinstance(reply, Reply)
        received = {name.decode(): value.decode() for name, value in reply.headers}
        return Answer(reply.status, received, reply.body)
