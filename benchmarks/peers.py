"""The peers' own in-process clients, deciding what `benchmarks.deciding` describes."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

Decide = Callable[[str, str], bool]
"""Says whether a user of a tier is in."""

_FREE: Final = {"condition": {"tier": "free"}}
_PERCENT: Final = 20


def growthbook(_: Path) -> Decide:
    """GrowthBook's client, with the attributes of each user set before it is asked."""
    from growthbook import GrowthBook  # noqa: PLC0415 - each peer is imported where it is asked

    rules = [
        {**_FREE, "force": True, "coverage": _PERCENT / 100, "hashAttribute": "id"},
        {**_FREE, "force": False},
    ]
    client = GrowthBook(features={"image": {"defaultValue": True, "rules": rules}})

    def decide(user: str, tier: str) -> bool:
        client.set_attributes({"id": user, "tier": tier})
        return bool(client.is_on("image"))

    return decide


def launchdarkly(folder: Path) -> Decide:
    """LaunchDarkly's client on its source of test data from files, sending nothing."""
    from ldclient import Config, Context, LDClient  # noqa: PLC0415
    from ldclient.integrations import Files  # noqa: PLC0415

    shares = [{"variation": 0, "weight": 20_000}, {"variation": 1, "weight": 80_000}]
    clause = {"attribute": "tier", "op": "in", "values": ["free"]}
    flag = {
        "key": "image",
        "on": True,
        "version": 1,
        "salt": "image",
        "variations": [True, False],
        "fallthrough": {"variation": 0},
        "offVariation": 1,
        "rules": [{"id": "free", "clauses": [clause], "rollout": {"variations": shares}}],
    }
    path = folder / "launchdarkly.json"
    path.write_text(json.dumps({"flags": {"image": flag}}))
    source = Files.new_data_source(paths=[str(path)])
    client = LDClient(Config("none", update_processor_class=source, send_events=False))

    def decide(user: str, tier: str) -> bool:
        context = Context.builder(user).set("tier", tier).build()
        return bool(client.variation("image", context, default=False))

    return decide


def unleash(folder: Path) -> Decide:
    """Unleash's client, bootstrapped and offline."""
    from UnleashClient import UnleashClient  # noqa: PLC0415
    from UnleashClient.cache import FileCache  # noqa: PLC0415

    def strategy(operator: str, percent: int) -> dict[str, object]:
        return {
            "name": "flexibleRollout",
            "parameters": {"rollout": str(percent), "stickiness": "userId", "groupId": "image"},
            "constraints": [{"contextName": "tier", "operator": operator, "values": ["free"]}],
        }

    strategies = [strategy("NOT_IN", 100), strategy("IN", _PERCENT)]
    cache = FileCache("benchmark", directory=str(folder))
    flag = {"name": "image", "enabled": True, "strategies": strategies}
    cache.bootstrap_from_dict({"version": 2, "features": [flag]})
    client = UnleashClient(
        "http://127.0.0.1:1",
        "benchmark",
        cache=cache,
        disable_metrics=True,
        disable_registration=True,
    )
    client.initialize_client(fetch_toggles=False)

    def decide(user: str, tier: str) -> bool:
        return bool(client.is_enabled("image", {"userId": user, "properties": {"tier": tier}}))

    return decide


def flagd(folder: Path) -> Decide:
    """OpenFeature's client with flagd's engine in process."""
    from openfeature import api  # noqa: PLC0415
    from openfeature.contrib.provider.flagd import FlagdProvider  # noqa: PLC0415
    from openfeature.contrib.provider.flagd.config import ResolverType  # noqa: PLC0415
    from openfeature.evaluation_context import EvaluationContext  # noqa: PLC0415

    split = {"fractional": [["on", _PERCENT], ["off", 100 - _PERCENT]]}
    flag = {
        "state": "ENABLED",
        "variants": {"on": True, "off": False},
        "defaultVariant": "on",
        "targeting": {"if": [{"==": [{"var": "tier"}, "free"]}, split, "on"]},
    }
    path = folder / "flagd.json"
    path.write_text(json.dumps({"flags": {"image": flag}}))
    provider = FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=str(path))
    api.set_provider(provider)
    client = api.get_client()

    def decide(user: str, tier: str) -> bool:
        context = EvaluationContext(user, {"tier": tier})
        return client.get_boolean_value("image", default_value=False, evaluation_context=context)

    return decide


PEERS: Final = {
    "growthbook": growthbook,
    "launchdarkly": launchdarkly,
    "unleash": unleash,
    "flagd": flagd,
}


def leave() -> None:
    """End now: some peers keep threads that would end in their own time."""
    os._exit(0)
