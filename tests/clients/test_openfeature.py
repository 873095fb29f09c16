"""OpenFeature's own SDK with the provider in process, held against OFREP at a real gateway."""

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ErrorCode, ProviderFatalError
from openfeature.flag_evaluation import FlagEvaluationDetails, FlagValueType, Reason
from openfeature.hook import Hook, HookContext, HookHints
from openfeature.provider import ProviderStatus

from tests.gateway.asking import AS_A_SERVER
from tests.gateway.running import running_gateway
from tests.real_redis import real_redis
from tests.tidegate.snapshots import OPENS, feature, gate, intent, snapshot
from tidegate.audience import AudienceSpec
from tidegate.clients.openfeature import TidegateProvider
from tidegate.edges.stored import SnapshotFile
from tidegate.snapshot import Snapshot

NOBODY = "redis://127.0.0.1:1/0"
ADA = EvaluationContext("ada", {"tier": "pro"})
FEATURES = {
    "image": feature(),
    "half": feature(exposure={"pro": 1.0, "free": 0.5}, opens={"free": OPENS}),
    "beta": feature(audience=AudienceSpec(cohorts=("beta",))),
}


def held(*, version: int = 1, expires_in_s: float = 600.0, free: float = 0.5) -> Snapshot:
    now = time.time()
    part = intent(FEATURES, at=now, version=version, expires_at=now + expires_in_s)
    return snapshot(part, gate({"free": free}, at=now, version=version, expires_at=now + 600.0))


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    api.clear_providers()
    api.clear_hooks()


def saved(folder: Path, snapshot: Snapshot) -> Path:
    SnapshotFile(folder / "client.json").save(snapshot)
    return folder


def using(provider: TidegateProvider) -> OpenFeatureClient:
    api.set_provider_and_wait(provider)
    return api.get_client()


class Heard:
    """Which events the SDK handed out."""

    def __init__(self) -> None:
        self.events: list[tuple[ProviderEvent, list[str]]] = []
        self._came = threading.Condition()
        for event in ProviderEvent:
            api.add_handler(event, self._handler(event))

    def _handler(self, event: ProviderEvent) -> Any:  # noqa: ANN401 - a callback
        def handle(details: EventDetails) -> None:
            with self._came:
                self.events.append((event, sorted(details.flags_changed or [])))
                self._came.notify_all()

        return handle

    def until(self, event: ProviderEvent) -> list[str]:
        """Wait for an event; returns the flags that it names."""
        with self._came:
            assert self._came.wait_for(lambda: event in dict(self.events), 10.0), self.events
            return dict(self.events)[event]

    def stop(self) -> None:
        for event in ProviderEvent:
            api.remove_handler(event, self._handler(event))


def test_a_feature_is_a_boolean_with_a_reason(tmp_path: Path) -> None:
    client = using(TidegateProvider(NOBODY, saved(tmp_path, held())))
    found = client.get_boolean_details("image", False, ADA)
    assert (found.value, found.reason, found.variant) == (True, Reason.TARGETING_MATCH, "on")
    assert found.flag_metadata["code"] == "allowed"
    assert found.flag_metadata["tier"] == "pro"
    member = EvaluationContext("ada", {"tier": "pro", "cohorts": ["beta"]})
    assert not client.get_boolean_value("beta", True, ADA)
    assert client.get_boolean_value("beta", False, member)
    assert asyncio.run(client.get_boolean_value_async("image", False, ADA))


def test_who_names_no_tier_is_of_the_lowest(tmp_path: Path) -> None:
    client = using(TidegateProvider(NOBODY, saved(tmp_path, held(free=0.0))))
    found = client.get_boolean_details("image", True, EvaluationContext("ada"))
    assert (found.value, found.flag_metadata["code"]) == (False, "gate-shed")


@pytest.mark.parametrize(
    ("flag", "context", "error"),
    [
        ("nothing", ADA, ErrorCode.FLAG_NOT_FOUND),
        ("image", None, ErrorCode.TARGETING_KEY_MISSING),
        ("image", EvaluationContext(None, {"tier": "pro"}), ErrorCode.TARGETING_KEY_MISSING),
        ("image", EvaluationContext("", {}), ErrorCode.TARGETING_KEY_MISSING),
        ("image", EvaluationContext("ada", {"tier": 7}), ErrorCode.INVALID_CONTEXT),
        ("image", EvaluationContext("ada", {"surface": ""}), ErrorCode.INVALID_CONTEXT),
        ("image", EvaluationContext("ada", {"asks": "beg"}), ErrorCode.INVALID_CONTEXT),
    ],
)
def test_what_cannot_be_answered_is_an_error_and_the_default(
    tmp_path: Path, flag: str, context: EvaluationContext | None, error: ErrorCode
) -> None:
    client = using(TidegateProvider(NOBODY, saved(tmp_path, held())))
    found = client.get_boolean_details(flag, True, context)
    assert (found.value, found.reason, found.error_code) == (True, Reason.ERROR, error)


def test_a_flag_is_of_no_other_type(tmp_path: Path) -> None:
    client = using(TidegateProvider(NOBODY, saved(tmp_path, held())))
    details: list[FlagEvaluationDetails[Any]] = [
        client.get_string_details("image", "x", ADA),
        client.get_integer_details("image", 7, ADA),
        client.get_float_details("image", 7.5, ADA),
        client.get_object_details("image", {"a": 1}, ADA),
    ]
    assert [found.error_code for found in details] == [ErrorCode.TYPE_MISMATCH] * 4
    assert [found.value for found in details] == ["x", 7, 7.5, {"a": 1}]


def test_nothing_heard_does_not_hold_the_start_up(tmp_path: Path) -> None:
    provider = TidegateProvider(NOBODY, tmp_path, ready_within_s=0.1)
    began = time.monotonic()
    api.set_provider(provider)
    client = api.get_client()
    assert time.monotonic() - began < 2.0
    found = client.get_boolean_details("image", True, ADA)
    assert (found.value, found.error_code) == (True, ErrorCode.PROVIDER_NOT_READY)


def test_a_stale_snapshot_is_served_and_said_to_be_stale(tmp_path: Path) -> None:
    heard = Heard()
    client = using(TidegateProvider(NOBODY, saved(tmp_path, held(expires_in_s=-1.0))))
    found = client.get_boolean_details("image", False, ADA)
    assert (found.value, found.reason) == (True, Reason.STALE)
    heard.until(ProviderEvent.PROVIDER_STALE)
    assert client.get_provider_status() is ProviderStatus.STALE


@pytest.mark.integration
async def test_it_is_told_when_it_is_ready_and_what_has_changed(tmp_path: Path) -> None:
    async with real_redis(tmp_path) as (server, redis):
        heard = Heard()
        api.set_provider(TidegateProvider(server.server.url, tmp_path / "c", ready_within_s=0.1))
        await asyncio.to_thread(heard.until, ProviderEvent.PROVIDER_ERROR)
        heard.events.clear()  # the SDK's own provider, which stood here before, was ready
        first = held()
        assert first.intent is not None
        await redis.publish(first.gates["image"])
        await redis.publish(first.intent)
        await asyncio.to_thread(heard.until, ProviderEvent.PROVIDER_READY)
        features = {**FEATURES, "half": feature(exposure={})}
        changed = first.intent.model_copy(update={"version": 2, "features": features})
        await redis.publish(changed)
        event = ProviderEvent.PROVIDER_CONFIGURATION_CHANGED
        assert await asyncio.to_thread(heard.until, event) == ["half"]
        assert not api.get_client().get_boolean_value("half", True, ADA)


class Counting(Hook):
    def __init__(self) -> None:
        self.codes: list[object] = []

    def after(
        self,
        hook_context: HookContext,
        details: FlagEvaluationDetails[FlagValueType],
        hints: HookHints,
    ) -> None:
        del hook_context, hints
        self.codes.append(details.flag_metadata["code"])


def test_hooks_and_tracking_get_what_happened(tmp_path: Path) -> None:
    tracked: list[str] = []
    provider = TidegateProvider(
        NOBODY, saved(tmp_path, held()), on_track=lambda name, *_: tracked.append(name)
    )
    client = using(provider)
    hook = Counting()
    client.add_hooks([hook])
    client.get_boolean_value("image", False, ADA)
    client.track("picture-drawn", ADA)
    assert (hook.codes, tracked) == (["allowed"], ["picture-drawn"])


@pytest.mark.integration
async def test_it_answers_as_a_gateway_does_over_ofrep(tmp_path: Path) -> None:
    snapshot = held()
    (tmp_path / "state").mkdir()
    SnapshotFile(tmp_path / "state" / "gateway-one.json").save(snapshot)
    contexts: list[Mapping[str, Any]] = [
        {"tier": tier, **more}
        for tier in ("pro", "plus", "free", "gold")
        for more in ({}, {"surface": "web"}, {"surface": "phone"}, {"cohorts": ["beta"]})
    ]
    async with running_gateway(tmp_path, NOBODY, "--name", "one") as gateway:
        remote = OFREPProvider(gateway.url, headers_factory=lambda: AS_A_SERVER)
        local = TidegateProvider(NOBODY, saved(tmp_path / "d", snapshot))
        await asyncio.to_thread(using, local)

        def compare() -> None:
            for number in range(8):
                for attributes in contexts:
                    context = EvaluationContext(f"user-{number}", dict(attributes))
                    for flag in FEATURES:
                        here = local.resolve_boolean_details(flag, False, context)
                        there = remote.resolve_boolean_details(flag, False, context)
                        assert (here.value, here.reason, here.variant, here.flag_metadata) == (
                            there.value,
                            there.reason,
                            there.variant,
                            there.flag_metadata,
                        )

        await asyncio.to_thread(compare)


def test_a_wrong_address_is_fatal_and_told(tmp_path: Path) -> None:
    with pytest.raises(ProviderFatalError, match=r'address: got "127\.0\.0\.1:8080", expected'):
        using(TidegateProvider("127.0.0.1:8080", tmp_path))
    assert api.get_client().get_provider_status() is ProviderStatus.FATAL
