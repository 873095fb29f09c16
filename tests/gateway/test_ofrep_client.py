"""OpenFeature's own OFREP provider against a running gateway."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import (
    FlagNotFoundError,
    GeneralError,
    InvalidContextError,
    OpenFeatureError,
    TargetingKeyMissingError,
    TypeMismatchError,
)
from openfeature.flag_evaluation import FlagResolutionDetails, Reason

from tests.gateway.asking import AS_A_SERVER
from tests.gateway.running import running_gateway
from tests.tidegate.snapshots import OPENS, feature, gate, intent, snapshot

pytestmark = pytest.mark.integration

FAR = 4e9
"""Long after any test, in seconds since the epoch: nothing expires."""

HELD = snapshot(
    intent(
        {
            "image": feature(),
            "video": feature(exposure={"pro": 0.5}, opens={"free": OPENS}),
        },
        expires_at=FAR,
    ),
    gate({"free": 0.0}, expires_at=FAR),
)


class Client:
    """The provider, which blocks, on a thread of its own."""

    def __init__(self, url: str) -> None:
        self.provider = OFREPProvider(url, headers_factory=lambda: AS_A_SERVER)

    async def evaluate(
        self, flag: str, tier: str | None = "pro", key: str | None = "ada"
    ) -> FlagResolutionDetails[bool]:
        context = EvaluationContext(key, {} if tier is None else {"tier": tier})
        return await asyncio.to_thread(self.provider.resolve_boolean_details, flag, False, context)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    saved = tmp_path / "state" / "gateway-one.json"
    saved.parent.mkdir()
    saved.write_text(HELD.model_dump_json())
    async with running_gateway(tmp_path, "redis://127.0.0.1:1/0", "--name", "one") as gateway:
        client = Client(gateway.url)
        yield client
        client.provider.session.close()


async def test_an_allowed_user_is_on(client: Client) -> None:
    resolved = await client.evaluate("image")
    assert (resolved.value, resolved.variant) == (True, "on")
    assert resolved.reason is Reason.TARGETING_MATCH
    assert resolved.flag_metadata["code"] == "allowed"
    assert resolved.flag_metadata["version"] == 11


async def test_a_refused_user_is_off_without_an_error(client: Client) -> None:
    shed = await client.evaluate("image", "free")
    assert (shed.value, shed.variant, shed.error_code) == (False, "off", None)
    assert shed.flag_metadata["code"] == "gate-shed"
    assert isinstance(shed.flag_metadata["retryAfterS"], int)
    waiting = await client.evaluate("video", "free")
    assert waiting.flag_metadata["opensP90"] == "2026-03-06T18:00:00Z"


async def test_a_partial_share_is_a_split(client: Client) -> None:
    assert (await client.evaluate("video")).reason is Reason.SPLIT


async def test_refusals_do_not_pause_the_provider(client: Client) -> None:
    """A 429 would make it refuse every later question, of paying users too."""
    for _ in range(5):
        await client.evaluate("image", "free")
    assert (await client.evaluate("image", "pro")).value is True


@pytest.mark.parametrize(
    ("flag", "tier", "key", "error"),
    [
        ("music", "pro", "ada", FlagNotFoundError),
        ("image", "pro", None, TargetingKeyMissingError),
        ("image", "", "ada", InvalidContextError),
    ],
)
async def test_each_error_reaches_the_service_as_its_own(
    client: Client, flag: str, tier: str | None, key: str | None, error: type[OpenFeatureError]
) -> None:
    with pytest.raises(error) as raised:
        await client.evaluate(flag, tier, key)
    assert raised.value.error_message


async def test_a_flag_asked_for_as_another_type_is_a_mismatch(client: Client) -> None:
    context = EvaluationContext("ada", {"tier": "pro"})
    with pytest.raises(TypeMismatchError):
        await asyncio.to_thread(client.provider.resolve_string_details, "image", "off", context)


async def test_a_gateway_without_a_snapshot_leaves_the_default_to_the_service(
    tmp_path: Path,
) -> None:
    async with running_gateway(tmp_path) as gateway:
        client = Client(gateway.url)
        with pytest.raises((GeneralError, OpenFeatureError), match="PROVIDER_NOT_READY"):
            await client.evaluate("image")
        client.provider.session.close()
