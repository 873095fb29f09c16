"""From the story to an ordinary plan: instants onto today's clock, shares onto GPUs."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from scenarios.scenario import FOLDER, Clock, ScenarioSpec
from tidegate.manifests import API_VERSION, Manifests, parse_manifests
from tidegate.quantities import parse_share
from tidegate.rules.sizing import gpus_for

_MAPPED = {"Rollout": "rollouts", "Budget": "budgets"}
"""Plans live on the story's clock; pools are real machines and keep their own times."""


def forecast_gpus(plan_text: str, pool: str, forecast_rps: float) -> Callable[[float], int]:
    """Return the rule that turns a share of the forecast into GPUs: ⌈share × need⌉, at least 1.

    The need is what `gpus_for` gives for the whole forecast at the pool's capacity and target.
    """
    documents = [d for d in yaml.safe_load_all(plan_text) if d and d.get("kind") == "Pool"]
    spec = next(d["spec"] for d in documents if d["metadata"]["name"] == pool)
    capacity_rps, target = spec["capacityRps"], parse_share(spec["targetUtilisation"])

    def gpus(share: float) -> int:
        return max(1, gpus_for(forecast_rps * share, capacity_rps, target))

    return gpus


def map_plan(scenario: ScenarioSpec, gpus: Callable[[float], int], started_at: datetime) -> str:
    """Return the plan as YAML, with real instants and durations and whole GPUs.

    Raises PlanError where the plan is wrong.
    """
    text = (FOLDER / scenario.plan).read_text(encoding="utf-8")
    documents = [d for d in yaml.safe_load_all(text) if d is not None]
    counted = [_with_gpus(document, gpus) for document in documents]
    told = parse_manifests(yaml.safe_dump_all(counted, sort_keys=False), where=scenario.plan)
    return yaml.safe_dump_all(
        [_mapped(d, told, scenario.clock, started_at) for d in counted], sort_keys=False
    )


def plan_text(scenario: ScenarioSpec) -> str:
    """Return the plan as it is written."""
    return Path(FOLDER / scenario.plan).read_text(encoding="utf-8")


def _with_gpus(value: Any, gpus: Callable[[float], int]) -> Any:  # noqa: ANN401 - any YAML
    if isinstance(value, dict):
        if set(value) == {"forecast"}:
            return gpus(float(str(value["forecast"]).removesuffix("%")) / 100.0)
        return {key: _with_gpus(inner, gpus) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_gpus(inner, gpus) for inner in value]
    return value


def _mapped(
    document: dict[str, Any], told: Manifests, clock: Clock, started_at: datetime
) -> dict[str, Any]:
    field = _MAPPED.get(document["kind"])
    if field is None:
        return document
    spec = getattr(told, field)[document["metadata"]["name"]]

    def real(value: object) -> object:
        match value:
            case datetime():
                return started_at + timedelta(seconds=clock.real_s(value))
            case timedelta():
                return value / clock.speed
            case dict():
                return {key: real(inner) for key, inner in value.items()}
            case list() | tuple():
                return [real(inner) for inner in value]
            case _:
                return value

    moved = type(spec).model_validate(real(spec.model_dump()))
    return {
        "apiVersion": API_VERSION,
        "kind": document["kind"],
        "metadata": document["metadata"],
        "spec": moved.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
