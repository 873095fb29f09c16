"""From the story to an ordinary plan: instants onto today's clock, shares onto GPUs."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import yaml

from scenarios.scenario import FOLDER, Clock, ScenarioSpec, parse_forecast_share
from tidegate.documents import read_documents
from tidegate.errors import PlanError
from tidegate.manifests import API_VERSION, Manifests, parse_manifests
from tidegate.mistakes import shown
from tidegate.rules.sizing import gpus_for

_MAPPED = {
    "Tier": "tiers",
    "Rollout": "rollouts",
    "Supply": "supplies",
    "CodeRed": "code_reds",
    "Retirement": "retirements",
    "Preview": "previews",
}
"""Plans live on the story's clock; pools are real machines and keep their own times."""


def forecast_gpus(scenario: ScenarioSpec, forecast_rps: float) -> Callable[[float], int]:
    """Return the rule that turns a share of the forecast into GPUs: ⌈share × need⌉, at least 1.

    The need is what `gpus_for` gives for the whole forecast at the pool's capacity and target.
    Raises PlanError where the plan is wrong, or lacks what the scenario plays.
    """
    _, told = _read_plan(scenario, scenario.plan, lambda _: 1)
    pool = told.pools[told.features[scenario.feature].pool]

    def gpus(share: float) -> int:
        return max(1, gpus_for(forecast_rps * share, pool.capacity_rps, pool.target_utilisation))

    return gpus


def map_plans(
    scenario: ScenarioSpec, gpus: Callable[[float], int], started_at: datetime
) -> dict[str, str]:
    """Return each file as YAML, with real instants and durations and whole GPUs; the plan first.

    Raises PlanError where one is wrong, or the plan lacks what the scenario plays.
    """
    mapped: dict[str, str] = {}
    for where in scenario.plans:
        counted, told = _read_plan(scenario, where, gpus)
        documents = [_mapped(d, told, scenario.clock, started_at) for d in counted]
        mapped[where] = yaml.safe_dump_all(documents, sort_keys=False)
    return mapped


def _read_plan(
    scenario: ScenarioSpec, where: str, gpus: Callable[[float], int]
) -> tuple[list[Any], Manifests]:
    try:
        text = (FOLDER / where).read_text(encoding="utf-8")
    except OSError as error:
        message = f"{where}: cannot be read ({error.strerror}). Mend the scenario's spec.plan."
        raise PlanError(message, code="scenario") from error
    mistakes: list[str] = []
    counted: list[Any] = []
    for number, document in enumerate(read_documents(text, where=where), start=1):
        found: list[str] = []
        counted.append(_with_gpus(document, gpus, "", found))
        mistakes += [f"{where}[{number}]: {line.removeprefix('.')}" for line in found]
    if mistakes:
        raise PlanError("\n".join(mistakes), code="scenario", mistakes=mistakes)
    whole = yaml.safe_dump_all(counted, sort_keys=False)
    if where != scenario.plan:
        _, before = _read_plan(scenario, scenario.plan, gpus)
        return counted, parse_manifests(whole, where=where, before=before)
    # On top of nothing: a story's plan stands by itself, so what it names must be in it.
    told = parse_manifests(whole, where=where, before=Manifests())
    for kind, name, known in (
        ("Feature", scenario.feature, told.features),
        *(("Pool", pool.name, told.pools) for pool in scenario.pools),
    ):
        if name not in known:
            mistakes.append(f'{where}: got no {kind} "{name}", which the scenario plays. Add it.')
    if mistakes:
        raise PlanError("\n".join(mistakes), code="scenario", mistakes=mistakes)
    return counted, told


def _with_gpus(
    value: Any,  # noqa: ANN401 - any YAML
    gpus: Callable[[float], int],
    path: str,
    mistakes: list[str],
) -> Any:  # noqa: ANN401 - any YAML
    match value:
        case {"forecast": share} if len(value) == 1:
            try:
                return gpus(parse_forecast_share(share))
            except ValueError as error:
                mistakes.append(f"{path}.forecast: got {shown(share)}, {error}.")
                return 1
        case dict():
            return {k: _with_gpus(v, gpus, f"{path}.{k}", mistakes) for k, v in value.items()}
        case list():
            return [_with_gpus(v, gpus, f"{path}[{i}]", mistakes) for i, v in enumerate(value)]
        case _:
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
