"""The publisher between a real Temporal with the real workflows, and a real Redis."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from controllers.publisher import ASK_EVERY_S, LIVES_S, RENEW_EVERY_S, Publisher
from controllers.recorder import Recorder
from controllers.worker import make_worker
from tests.controllers.published import NOW, gateway
from tests.embedded.until import until
from tests.real_redis import RealRedis, real_redis
from tests.workflows.world import skipping_time
from tidegate.catalogue import BudgetSpec, FeatureSpec, TierSpec
from tidegate.edges.preview_keys import PreviewKeys
from tidegate.edges.record import Record
from tidegate.edges.redis import Redis
from tidegate.edges.temporal import ControlPlane
from tidegate.errors import Unavailable
from tidegate.kills import sign_order
from tidegate.manifests import parse_manifests
from tidegate.messages.budget import Observation
from tidegate.messages.catalogue import CatalogueState, Declaration
from tidegate.messages.feature import ExposeOrder, HoldOrder
from tidegate.signing import Key, Keyring
from tidegate.snapshot import INTENT, IntentPart, KillPart, TierPolicy

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

POOL = parse_manifests(
    """
apiVersion: tidegate.dev/v1
kind: Model
metadata: {name: image-2}
spec: {}
---
apiVersion: tidegate.dev/v1
kind: Budget
metadata: {name: h100}
spec: {}
---
apiVersion: tidegate.dev/v1
kind: Pool
metadata: {name: image}
spec:
  model: image-2
  gpuType: h100
  maxReplicas: 8
  capacityRps: 10
  queueWaitTarget: 2s
  coldStart: {p50: 1m, p90: 2m}
  readingLimit: 15s
  actuationLag: 10s
  scaleDownWindow: 5m
""",
    where="plan",
)
FEATURE = FeatureSpec(pool="image", surfaces=("chat",), on_stale="close")
TIERS = {"pro": TierSpec(rank=0, gated=False), "free": TierSpec(rank=1)}

KEYS = Keyring((Key("ours", b"o" * 32),))
ENDS = f"{datetime.fromtimestamp(NOW + 60.0, UTC):%F %H:%M:%S} UTC"

_numbers = itertools.count(1)


class Plane(ControlPlane):
    """The real one, which a test may have not answer."""

    is_away = False
    asked = 0

    async def catalogue(self) -> CatalogueState | None:
        self.asked += 1
        if self.is_away:
            raise Unavailable("temporal: no answer", code="temporal-unavailable")
        return await super().catalogue()

    async def declare_all(self, feature: str) -> None:
        declaration = Declaration(
            by="ada",
            tiers=TIERS,
            models=POOL.models,
            budgets=POOL.budgets,
            pools=POOL.pools,
            features={feature: FEATURE},
        )
        await self.declare(declaration)
        await self.declare_budget("h100", BudgetSpec())
        await self.declare_feature(feature, FEATURE)

    async def expose(self, feature: str, tier: str, share: float) -> None:
        order = ExposeOrder(
            order_id=f"{feature}/{tier}/{share}", stage="s", tiers=(tier,), share=share, reason="r"
        )
        await self.ask_feature(feature, "expose", order)

    async def is_quiet(self, feature: str) -> bool:
        """Say whether everything that was told of a declaration has been recorded."""
        catalogue, state = await self.catalogue(), await self.feature(feature)
        assert catalogue is not None
        assert state is not None
        return not catalogue.outbox.waiting and not state.outbox.waiting


PREVIEWS: Final = PreviewKeys(Path("no-previews"))


@dataclass
class House:
    """One publisher, a feature of the test's own, and what all tests share."""

    server: RealRedis
    redis: Redis
    plane: Plane
    feature: str = "none"

    def __post_init__(self) -> None:
        self.publisher = Publisher(self.redis, self.plane, PREVIEWS, KEYS)

    async def whats(self) -> list[str]:
        """Return what the feature remembers of itself."""
        state = await self.plane.feature(self.feature)
        assert state is not None
        return [entry.what for entry in state.history]

    async def intent(self) -> IntentPart:
        intent = (await self.redis.snapshot()).intent
        assert intent is not None
        return intent


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder = tmp_path_factory.mktemp("publisher")
    async with (
        skipping_time() as env,
        real_redis(folder) as (server, redis),
        Record(f"sqlite:///{folder / 'record.db'}") as record,
    ):
        recorder = Recorder(redis, record)

        async def acknowledge() -> None:
            while True:
                await recorder.tick(time.time())
                await asyncio.sleep(0.02)

        recording = asyncio.create_task(acknowledge())
        async with make_worker(ControlPlane(env.client, KEYS), redis, PREVIEWS):
            yield House(server, redis, Plane(env.client, KEYS))
        recording.cancel()


@pytest_asyncio.fixture(loop_scope="module")
async def house(shared: House) -> House:
    house = House(
        shared.server, shared.redis, Plane(shared.plane.client, KEYS), f"f{next(_numbers)}"
    )
    await house.plane.declare_all(house.feature)
    await until(lambda: house.plane.is_quiet(house.feature))
    await house.server.flush()
    house.plane.asked = 0
    return house


async def test_it_publishes_what_the_entities_hold(house: House) -> None:
    await house.plane.expose(house.feature, "pro", 1.0)
    hold = HoldOrder(by="lee", role="legal", reason="a review")
    await house.plane.ask_feature(house.feature, "hold", hold)
    await house.plane.declare(Declaration(by="ada", features={"nobody-made-it": FEATURE}))
    await house.publisher.tick(NOW)
    intent = await house.intent()
    feature = intent.features[house.feature]
    assert (feature.pool, feature.surfaces, feature.on_stale) == ("image", ("chat",), "close")
    assert (feature.exposure, feature.held_because) == ({"pro": 1.0}, "legal: a review")
    assert "nobody-made-it" not in intent.features
    assert intent.tiers["pro"] == TierPolicy(rank=0, gated=False)
    assert intent.pools["image"].capacity_rps == 10.0
    assert (intent.issued_at, intent.expires_at) == (NOW, NOW + LIVES_S)


async def test_a_budget_that_has_counted_lets_its_pool_grow(house: House) -> None:
    seen = Observation(installed_gpus=6, ready_gpus={"image": 1}, needed_gpus={"image": 1})
    await house.plane.observe("h100", seen)
    await house.publisher.tick(NOW)
    assert (await house.intent()).pools["image"].ceiling_gpus == 6


async def test_what_did_not_change_is_renewed_long_before_it_expires(house: House) -> None:
    await house.publisher.tick(NOW)
    first = await house.intent()
    for second in range(1, int(RENEW_EVERY_S)):
        await house.publisher.tick(NOW + second)
    assert await house.intent() == first
    await house.publisher.tick(NOW + RENEW_EVERY_S)
    renewed = await house.intent()
    assert renewed.expires_at == first.expires_at + RENEW_EVERY_S
    assert renewed.version > first.version


async def test_nobody_is_asked_more_often_than_the_period_without_an_event(house: House) -> None:
    await house.publisher.tick(NOW)
    for second in range(1, int(ASK_EVERY_S)):
        await house.publisher.tick(NOW + second)
    assert house.plane.asked == 1
    await house.publisher.tick(NOW + ASK_EVERY_S)
    assert house.plane.asked == 2


async def test_a_clock_that_was_set_back_stops_nothing(house: House) -> None:
    await house.publisher.tick(NOW)
    first = await house.intent()
    await house.publisher.tick(NOW - 3600.0)
    again = await house.intent()
    assert again.issued_at == NOW - 3600.0
    assert again.version == first.version + 1


async def test_after_flushall_it_is_back_at_once_above_every_version_seen(house: House) -> None:
    await house.publisher.tick(NOW)
    first = await house.intent()
    await house.server.flush()
    await house.publisher.tick(NOW + 1.0)
    assert (await house.intent()).version > first.version
    ahead = int(NOW * 1000) + 90_000
    await house.server.flush()
    await house.redis.publish_reading(gateway(NOW, seen={INTENT: ahead}))
    await house.publisher.tick(NOW + 2.0)
    assert (await house.intent()).version == ahead + 1
    await house.server.flush()
    await house.publisher.tick(NOW - 3600.0)
    assert (await house.intent()).version > ahead + 1, "though its clock was set back"


async def test_a_new_publisher_goes_on_above_the_one_before(house: House) -> None:
    await house.publisher.tick(NOW)
    first = await house.intent()
    await Publisher(house.redis, house.plane, PREVIEWS).tick(NOW)
    assert (await house.intent()).version == first.version + 1


async def test_an_event_leads_to_a_publication_without_waiting_for_the_period(
    house: House,
) -> None:
    await house.publisher.tick(NOW)
    waking = asyncio.create_task(house.publisher.wake(1.4))
    began_at = time.monotonic()
    await house.plane.expose(house.feature, "free", 0.25)
    await waking
    assert time.monotonic() - began_at < 1.0, "it was woken, and did not wait for the backstop"
    await house.publisher.tick(NOW + 0.1)
    assert (await house.intent()).features[house.feature].exposure == {"free": 0.25}


async def test_what_an_event_told_while_temporal_was_away_is_asked_once_it_is_back(
    house: House,
) -> None:
    await house.publisher.tick(NOW)
    await house.plane.expose(house.feature, "free", 0.5)
    house.plane.is_away = True

    async def is_heard() -> bool:
        try:
            await house.publisher.tick(NOW + 0.1)
        except Unavailable:
            return True
        return False

    await until(is_heard)
    house.plane.is_away = False
    await house.publisher.tick(NOW + 0.2)
    assert (await house.intent()).features[house.feature].exposure == {"free": 0.5}


async def test_with_temporal_away_the_last_intent_stays_to_its_end_and_is_not_renewed(
    house: House,
) -> None:
    await house.publisher.tick(NOW)
    first = await house.intent()
    house.plane.is_away = True
    for at in (NOW + 6.0, NOW + 100.0):
        with pytest.raises(Unavailable):
            await house.publisher.tick(at)
        assert await house.intent() == first
    house.plane.is_away = False
    await house.publisher.tick(NOW + 101.0)
    assert (await house.intent()).expires_at == NOW + 101.0 + LIVES_S


async def test_a_part_that_redis_lost_is_back_with_temporal_away_and_lives_no_longer_for_it(
    house: House,
) -> None:
    await house.publisher.tick(NOW)
    first = await house.intent()
    await house.server.flush()
    house.plane.is_away = True
    with pytest.raises(Unavailable):
        await house.publisher.tick(NOW + 50.0)
    again = await house.intent()
    assert again.version > first.version
    unstamped = {"version": first.version}
    assert again.model_copy(update=unstamped) == first


async def test_without_a_worker_a_lost_part_is_back_within_seconds_all_the_same(
    tmp_path: Path,
) -> None:
    async with skipping_time() as env, real_redis(tmp_path) as (server, redis):
        house = House(server, redis, Plane(env.client, KEYS))
        await house.publisher.tick(NOW)
        assert (await redis.snapshot()).intent is None, "nothing was declared, so there is nothing"
        async with make_worker(house.plane, redis, PREVIEWS):
            await house.plane.declare_all("image")
            await house.publisher.tick(NOW + ASK_EVERY_S)
        began_at = time.monotonic()
        await server.flush()
        with pytest.raises(Unavailable, match=r"temporal: no answer in 3 s\. Check that"):
            await house.publisher.tick(NOW + 11.0)
        assert time.monotonic() - began_at < 4.5
        assert (await house.intent()).issued_at == NOW + ASK_EVERY_S


async def test_a_redis_that_is_away_is_unavailable_and_nobody_is_asked(
    house: House, tmp_path: Path
) -> None:
    async with real_redis(tmp_path) as (server, redis):
        publisher = Publisher(redis, house.plane, PREVIEWS)
        await server.stop()
        with pytest.raises(Unavailable):
            await publisher.tick(NOW)
    assert house.plane.asked == 0


def order(feature: str, *, version: int = 7, lasts_s: float = 60.0) -> KillPart:
    part = KillPart(
        feature=feature,
        version=version,
        issued_at=NOW,
        expires_at=NOW + lasts_s,
        kept_until=NOW + lasts_s,
        by="lee",
        reason="hands",
    )
    return sign_order(part, KEYS)


async def test_an_order_that_closed_a_feature_is_told_to_its_entity_once_temporal_is_back(
    house: House,
) -> None:
    await house.publisher.tick(NOW)
    await house.redis.publish_kill(order(house.feature), over="")
    await house.redis.publish_kill(order("nobody-made-it"), over="")
    house.plane.is_away = True
    with pytest.raises(Unavailable):
        await house.publisher.tick(NOW + 6.0)
    house.plane.is_away = False
    for at in (6.0, 7.0, 8.0):
        await house.publisher.tick(NOW + at)
    await Publisher(house.redis, house.plane, PREVIEWS, KEYS).tick(NOW + 9.0)
    assert await house.whats() == ["declared", f"closed for all tiers until {ENDS} by lee"]
    assert set((await house.redis.published()).kills) == {house.feature, "nobody-made-it"}


async def test_an_order_that_is_over_is_told_all_the_same_and_then_dropped(house: House) -> None:
    await house.redis.publish_kill(order(house.feature), over="")
    await house.publisher.tick(NOW + 60.0)
    assert (await house.whats())[1:] == [f"closed for all tiers until {ENDS} by lee"]
    assert (await house.redis.published()).kills == {}


async def test_an_order_that_is_not_signed_is_told_to_nobody(house: House) -> None:
    forged = order(house.feature).model_copy(update={"token": "forged"})
    await house.redis.publish_kill(forged, over="")
    await house.publisher.tick(NOW)
    assert await house.whats() == ["declared"]
