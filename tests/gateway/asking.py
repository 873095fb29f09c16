"""Asking the application, without a server in between."""

import json
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.demand_meter import DemandMeter, DemandPublisher
from gateway.evaluate import Evaluator
from gateway.health import HealthHandler
from gateway.routes import build_app
from gateway.tally import Tally
from tests.tidegate.snapshots import NOW
from tidegate.edges.follower import Follower
from tidegate.edges.redis import Redis
from tidegate.edges.stored import SnapshotFile
from tidegate.holding import SnapshotHolder
from tidegate.snapshot import Snapshot

NOBODY = "redis://127.0.0.1:1/0"
"""Where nothing answers; requests must not care."""


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

    def __post_init__(self) -> None:
        if self.held is not None:
            self.holder.take(self.held)
        evaluator = Evaluator(self.holder, self.tally, lambda: self.now)
        redis = Redis(NOBODY)
        follower = Follower(redis, self.holder, SnapshotFile(Path("/nonexistent/gateway.json")))
        meter = DemandMeter("gateway", self.tally, taken_s=0.0)
        publisher = DemandPublisher(redis, self.holder, meter)
        health = HealthHandler(evaluator, follower, self.tally, publisher)
        self._app = build_app(evaluator, health)

    async def get(self, path: str, query: str = "", *, method: str = "GET") -> Answer:
        return await self.ask(method, path, b"", query=query)

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
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        given = {"content-length": str(len(body)), **(headers or {})}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        }
        await self._app(scope, receive, send)
        start, end = sent
        received = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], received, end["body"])
