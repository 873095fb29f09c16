"""A kill typed at a shell, a real Redis and a real gateway, with Temporal nowhere."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.embedded.until import until
from tests.gateway.running import RunningGateway, environment, running_gateway, version_now
from tests.real_redis import RealRedis, real_redis
from tests.tidegate.snapshots import feature, gate, intent
from tidegate.clients.client import follow
from tidegate.edges.redis import Redis
from tidegate.kills import sign_order
from tidegate.rules.outcome import Code
from tidegate.signing import Key, Keyring, load_keyring
from tidegate.snapshot import KillPart, Snapshot

pytestmark = pytest.mark.integration

PART = "kill/image"
NO_TEMPORAL = "127.0.0.1:1"


@dataclass
class House:
    """One gateway that holds the image feature open for all."""

    folder: Path
    server: RealRedis
    redis: Redis
    gateway: RunningGateway

    @property
    def keys(self) -> Keyring:
        return load_keyring(self.folder / "state" / "keys.json")

    async def types(self, *words: str, **settings: str) -> tuple[int, list[str]]:
        """Type a command; returns its exit code and all that it said."""
        env = {**environment(self.folder, self.server.server.url), **settings}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tidegate", *words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**env, "TIDEGATE_TEMPORAL": NO_TEMPORAL},
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode().splitlines()

    async def kills(self, *words: str) -> list[str]:
        code, lines = await self.types("kill", "image", "--reason", "hands", *words)
        assert code == 0, lines
        return lines

    async def publishes(self, *, at: float) -> None:
        await self.redis.publish(intent({"image": feature()}, version=version_now(), at=at))
        await self.redis.publish(gate(version=version_now(), at=at))

    async def is_open(self, tier: str = "pro") -> bool:
        return (await self.gateway.admit("ada", tier))[0] == 200

    async def is_closed(self, tier: str = "pro") -> bool:
        status, answer = await self.gateway.admit("ada", tier)
        return status == 403 and answer["code"] == "killed"

    def order(self, *, lasts_s: float = 600.0, version: int = 0) -> KillPart:
        now = time.time()
        return KillPart(
            feature="image",
            version=version or version_now(),
            issued_at=now,
            expires_at=now + lasts_s,
            kept_until=now + lasts_s,
            by="ada",
            reason="hands",
        )


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    async with (
        real_redis(folder) as (server, redis),
        running_gateway(folder, server.server.url, "--name", "one") as gateway,
    ):
        made = House(folder, server, redis, gateway)
        await made.publishes(at=time.time())
        await until(made.is_open)
        yield made


async def test_a_kill_typed_without_temporal_closes_the_gateway_and_its_clients_within_a_second(
    tmp_path: Path,
) -> None:
    keys = tmp_path / "state" / "keys.json"
    async with (
        house(tmp_path) as given,
        follow(given.server.server.url, tmp_path / "client", keys=keys) as client,
    ):
        assert client.may_use("image", "ada", "pro").allowed
        typed = asyncio.create_task(given.kills("--until", "2h", "--by", "lee"))

        async def is_published() -> bool:
            return bool((await given.redis.published()).kills)

        await until(is_published)
        published_s = time.monotonic()
        await until(given.is_closed)
        await until(lambda: client.may_use("image", "ada", "pro").code is Code.KILLED)
        assert time.monotonic() - published_s < 1.0
        said = await typed
        assert said[0].startswith("image is closed for all tiers until ")
        assert said[1:] == ["1 of 1 gateways have it"]
        _, answer = await given.gateway.admit("ada", "pro")
        assert answer["detail"] == "image was closed by lee: hands"


async def test_it_closes_for_the_tiers_named_and_nobody_else(tmp_path: Path) -> None:
    async with house(tmp_path) as given:
        await given.kills("--until", "2h", "--tier", "free", "--tier", "plus")
        await until(lambda: given.is_closed("free"))
        assert await given.is_closed("plus")
        assert await given.is_open("pro")
        await given.kills("--until", "3h")
        await until(given.is_closed)


async def test_only_a_lift_ends_it_early_and_nobody_can_repeat_what_was_lifted(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as given:
        await given.kills("--until", "2h")
        await until(given.is_closed)
        old = await given.server.raw.hget("tidegate:parts", PART)
        for words in (["--until", "1h"], ["--until", "3h", "--tier", "free"]):
            code, lines = await given.types("kill", "image", "--reason", "less", *words)
            assert (code, len(lines)) == (3, 1)
            assert "may only narrow" in lines[0]
        assert (await given.kills("--lift"))[0] == "image is no longer closed by order"
        await until(given.is_open)
        await given.server.raw.hset("tidegate:parts", PART, str(old))
        await given.publishes(at=time.time())

        async def is_lifted_again() -> bool:
            return await given.server.raw.hget("tidegate:parts", PART) != old

        await until(is_lifted_again)
        assert await given.is_open()


@pytest.mark.parametrize("forged", ["unsigned", "mis-signed", "expired", "of another feature"])
async def test_an_order_that_is_not_to_be_believed_changes_nothing_and_is_told_once(
    tmp_path: Path, forged: str
) -> None:
    async with house(tmp_path) as given:
        keys, order = given.keys, given.order()
        mis_signed = Keyring((Key("x", b"x" * 32),))
        written = {
            "unsigned": order.model_dump_json(),
            "mis-signed": sign_order(order, mis_signed).token,
            "expired": sign_order(given.order(lasts_s=-1.0), keys).token,
            "of another feature": sign_order(
                order.model_copy(update={"feature": "video"}), keys
            ).token,
        }[forged]
        await given.server.raw.hset("tidegate:parts", PART, f"{order.version} {written}")
        event = "kill.over" if forged == "expired" else "kill.refused"
        await given.gateway.until_logged(event)
        await given.publishes(at=time.time())
        later = version_now()
        await given.redis.publish(intent({"image": feature()}, version=later, at=time.time()))
        await given.gateway.until_holding("intent", later)
        assert await given.is_open()
        assert PART not in await given.gateway.versions()
        assert given.gateway.log.count(event) == 1
        await given.kills("--until", "2h")
        await until(given.is_closed)


async def test_an_emptied_redis_and_a_restart_lose_no_kill(tmp_path: Path) -> None:
    async with house(tmp_path) as given:
        await given.kills("--until", "2h")
        await until(given.is_closed)
        await given.server.flush()

        async def is_back() -> bool:
            return "image" in (await given.redis.published()).kills

        await until(is_back)
        assert await given.is_closed()
        await given.gateway.stop()
        async with running_gateway(tmp_path, "redis://127.0.0.1:1/0", "--name", "one") as again:
            assert (await again.admit("ada", "pro"))[1]["code"] == "killed"


async def test_at_its_end_the_feature_opens_by_itself_and_the_order_is_forgotten(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as given:
        order = sign_order(given.order(lasts_s=1.5), given.keys)
        await given.redis.publish_kill(order, over="")
        await until(given.is_closed)
        await until(given.is_open)
        assert time.time() >= order.expires_at
        await given.gateway.until_logged("kill.ended")
        assert PART not in await given.gateway.versions()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["imagf", "--until", "2h"], 'feature: got "imagf", expected one of image. Did you mean'),
        (["image", "--until", "2h", "--tier", "fre"], '--tier: got "fre", expected one of free,'),
        (["image"], '--until: got "", expected an end within 7 days. Write a duration such as'),
        (["image", "--until", "soon"], '--until: got "soon", expected an end within 7 days.'),
        (["image", "--until", "8d"], '--until: got "8d", expected an end within 7 days.'),
        (["image", "--until", "2001-01-01T00:00:00Z"], '--until: got "2001-01-01T00:00:00Z",'),
        (["image", "--lift", "--until", "2h"], "--lift: got --until or --tier as well."),
    ],
)
async def test_what_is_typed_wrong_is_one_line_and_closes_nothing(
    tmp_path: Path, words: list[str], said: str
) -> None:
    async with real_redis(tmp_path) as (server, redis):
        given = House(tmp_path, server, redis, None)  # type: ignore[arg-type]
        load_keyring(tmp_path / "state" / "keys.json")
        await given.publishes(at=time.time())
        code, lines = await given.types("kill", "--reason", "hands", *words)
        assert (code, len(lines)) == (2, 1)
        assert lines[0].startswith(said)
        assert (await redis.published()).kills == {}


async def test_without_the_gateways_keys_nothing_is_signed(tmp_path: Path) -> None:
    async with real_redis(tmp_path) as (server, redis):
        given = House(tmp_path, server, redis, None)  # type: ignore[arg-type]
        code, lines = await given.types("kill", "image", "--reason", "hands", "--until", "2h")
        assert code == 2
        assert lines[0].startswith(str(tmp_path / "state" / "keys.json"))
        assert not (tmp_path / "state" / "keys.json").exists()


async def test_an_emergency_does_not_wait_for_names_that_redis_has_lost(tmp_path: Path) -> None:
    async with house(tmp_path) as given:
        await given.server.flush()
        assert (await given.redis.snapshot()) == Snapshot()
        await given.kills("--until", "2h")
        await until(given.is_closed)
