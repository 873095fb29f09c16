"""A receiver is told of events in order, signed, again until it takes them, and nobody waits."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook, WebhookVerificationError

from controllers.notifier import GIVES_UP_S, Notifier
from tests.real_redis import real_redis
from tidegate.edges.redis import Redis
from tidegate.errors import PlanError
from tidegate.events import Event
from tidegate.webhooks import ReceiverSpec, load_receivers

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
pytestmark = [pytest.mark.integration, pytest.mark.asyncio]


@dataclass
class Receiver:
    """A real server that notes what it is posted, and answers as it is told."""

    answers: int = 204
    posted: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.posted.append((headers, await request.read()))
        return web.Response(status=self.answers)

    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.posted]


@dataclass
class House:
    """Redis, a receiver, and whoever tells them."""

    redis: Redis
    receiver: Receiver
    url: str
    folder: Path
    told: int = 0

    def notifier(self, *types: str, url: str = "") -> Notifier:
        spec = ReceiverSpec(name="notes", url=url or self.url, secret=SECRET, types=types)
        return Notifier(spec, self.redis, self.folder)

    async def tells(self, *types: str) -> None:
        for event_type in types:
            self.told += 1
            event = Event(
                source="/tests",
                sequence=self.told,
                type=event_type,
                at=datetime.now(UTC),
                subject="rollout/image",
                data={"reason": "so"},
            )
            await self.redis.append([event])


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hooks", receiver.take)
    async with real_redis(tmp_path) as (_, redis), TestServer(app) as server:
        yield House(redis, receiver, str(server.make_url("/hooks")), tmp_path / "state")


def now() -> float:
    return datetime.now(UTC).timestamp()


async def test_events_are_posted_in_order_as_cloud_events_that_are_signed(house: House) -> None:
    notifier = house.notifier()
    await house.tells("rollout.finished")
    await notifier.tick(now())
    assert house.receiver.posted == [], "it hears of what happens from now on"
    await house.tells("stage.due", "stage.advanced")
    await notifier.tick(now())
    assert house.receiver.ids() == ["/tests/2", "/tests/3"]
    headers, body = house.receiver.posted[0]
    taken = Webhook(SECRET).verify(body, headers)
    assert taken["type"] == "dev.tidegate.stage.due"
    assert taken["id"] == "/tests/2"
    assert headers["content-type"] == "application/cloudevents+json"
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body.replace(b"due", b"duo"), headers)


async def test_a_receiver_hears_only_of_the_types_that_it_wants(house: House) -> None:
    notifier = house.notifier("retirement.", "rollout.finished")
    await notifier.tick(now())
    await house.tells("stage.due", "retirement.notice", "rollout.aborted", "rollout.finished")
    await notifier.tick(now())
    assert house.receiver.ids() == ["/tests/2", "/tests/4"]


async def test_what_is_not_taken_is_posted_again_later_each_time_and_nothing_overtakes_it(
    house: House,
) -> None:
    notifier, at = house.notifier(), now()
    await notifier.tick(at)
    await house.tells("a", "b")
    house.receiver.answers = 503
    for after in (0.0, 0.5, 1.1, 2.0, 3.2, 7.0):
        await notifier.tick(at + after)
    assert house.receiver.ids() == ["/tests/1"] * 3
    house.receiver.answers = 200
    await notifier.tick(at + 7.3)
    assert house.receiver.ids() == ["/tests/1"] * 4 + ["/tests/2"]


async def test_one_that_is_started_anew_goes_on_where_it_was(house: House) -> None:
    first, at = house.notifier(), now()
    await first.tick(at)
    await house.tells("a", "b")
    await first.tick(at)
    await house.tells("c")
    await house.notifier().tick(at)
    assert house.receiver.ids() == ["/tests/1", "/tests/2", "/tests/3"]


async def test_a_receiver_that_is_gone_is_passed_over_after_three_days(house: House) -> None:
    gone, at = house.notifier(url="http://127.0.0.1:9/hooks"), now()
    await gone.tick(at)
    await house.tells("a")
    await gone.tick(at)
    await gone.tick(at + GIVES_UP_S)
    heard = (house.folder / "notes.webhook").read_text()
    assert heard == await house.redis.last_stream_id()


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("receivers: [{name: a, url: x, secret: S}]", 'url: got "x", expected a URL'),
        ("receivers: [{name: a, url: 'http://x', secret: short}]", 'expected "whsec_" and 24'),
        (
            "receivers: [{name: a, url: http://x, secret: S}, {name: a, url: http://y, secret: S}]",
            "expected each name once",
        ),
    ],
)
async def test_a_mistake_in_the_file_is_told(tmp_path: Path, written: str, told: str) -> None:
    file = tmp_path / "webhooks.yaml"
    file.write_text(written.replace("S}", f"{SECRET}}}"))
    with pytest.raises(PlanError) as mistake:
        load_receivers(file)
    assert told in str(mistake.value)


async def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot be read"):
        load_receivers(tmp_path / "nothing.yaml")
