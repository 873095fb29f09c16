"""Files of manifests, loaded whole: every mistake is told at once, and nothing is half taken."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Generic, Literal, TypeVar, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from tidegate.catalogue import BudgetSpec, FeatureSpec, ModelSpec, Name, PoolSpec, Spec, TierSpec
from tidegate.errors import PlanError
from tidegate.plans import RolloutSpec

API_VERSION: Final = "tidegate.dev/v1"


class Metadata(BaseModel):
    """A manifest's name; labels are kept for tools and mean nothing here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    labels: Mapping[str, str] = Field(default_factory=dict)


S = TypeVar("S", bound=Spec)


class Manifest(BaseModel, Generic[S]):
    """One Kubernetes-shaped document."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_version: Literal["tidegate.dev/v1"] = Field(alias="apiVersion")
    kind: str
    metadata: Metadata
    spec: S


class Manifests(BaseModel):
    """Everything a file declares, by kind and name."""

    model_config = ConfigDict(frozen=True)

    tiers: Mapping[str, TierSpec] = Field(default_factory=dict)
    models: Mapping[str, ModelSpec] = Field(default_factory=dict)
    budgets: Mapping[str, BudgetSpec] = Field(default_factory=dict)
    pools: Mapping[str, PoolSpec] = Field(default_factory=dict)
    features: Mapping[str, FeatureSpec] = Field(default_factory=dict)
    rollouts: Mapping[str, RolloutSpec] = Field(default_factory=dict)

    def over(self, before: "Manifests") -> "Manifests":
        """Return these on top of what was declared before."""
        merged = {
            field: {**getattr(before, field), **getattr(self, field)}
            for field in Manifests.model_fields
        }
        return Manifests.model_validate(merged)


_KINDS: Final[Mapping[str, tuple[str, type[Spec]]]] = {
    "Tier": ("tiers", TierSpec),
    "Model": ("models", ModelSpec),
    "Budget": ("budgets", BudgetSpec),
    "Pool": ("pools", PoolSpec),
    "Feature": ("features", FeatureSpec),
    "Rollout": ("rollouts", RolloutSpec),
}


def load_manifests(path: Path) -> Manifests:
    """Read a YAML file of manifests; raises PlanError with every mistake found."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror}). Check the path."
        raise PlanError(message, code="file") from error
    return parse_manifests(text, where=path.name)


def parse_manifests(text: str, *, where: str) -> Manifests:
    """Read manifests from YAML text; `where` names it in messages. Raises PlanError."""
    try:
        documents = [d for d in yaml.safe_load_all(text) if d is not None]
    except yaml.YAMLError as error:
        message = f"{where}: not YAML: {error}. Mend the syntax."
        raise PlanError(message, code="yaml") from error
    found: dict[str, dict[str, Spec]] = {field: {} for field, _ in _KINDS.values()}
    mistakes: list[str] = []
    if not documents:
        mistakes.append(f"{where}: got no manifest, expected at least one. Write a kind and spec.")
    for number, document in enumerate(documents, start=1):
        mistakes.extend(_take(document, f"{where}[{number}]", found))
    if mistakes:
        raise PlanError("\n".join(mistakes), code="manifest", mistakes=mistakes)
    return Manifests.model_validate(found)


def check_references(declared: Manifests, *, where: str) -> None:
    """Raise PlanError for each name that nothing declares."""
    mistakes = [
        f'{where}: {path}: got "{name}", no {kind} has that name. {_nearest(name, known)}'
        for path, kind, name, known in _references(declared)
        if name not in known
    ]
    if mistakes:
        raise PlanError("\n".join(mistakes), code="reference", mistakes=mistakes)


def _take(document: object, where: str, found: dict[str, dict[str, Spec]]) -> Iterator[str]:
    if not isinstance(document, dict):
        yield f"{where}: got {document!r}, expected a manifest with apiVersion, kind and spec."
        return
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        known = ", ".join(_KINDS)
        yield f'{where}: kind: got "{kind}", expected one of {known}. {_nearest(kind, _KINDS)}'
        return
    field, spec_type = _KINDS[kind]
    metadata = document.get("metadata")
    name = metadata.get("name", "?") if isinstance(metadata, dict) else "?"
    title = f'{where}: {kind} "{name}"'
    try:
        manifest = Manifest[spec_type].model_validate(document)  # type: ignore[valid-type]
    except ValidationError as error:
        for details in error.errors():
            yield from (f"{title}: {mistake}" for mistake in _mistakes(details, spec_type))
        return
    if manifest.metadata.name in found[field]:
        yield f"{title}: declared twice, expected once. Drop one of the two."
    found[field][manifest.metadata.name] = manifest.spec


def _mistakes(details: ErrorDetails, spec_type: type[Spec]) -> Iterable[str]:
    path = _path(details["loc"])
    match details["type"]:
        case "value_error":
            message = str(details["ctx"]["error"])
            if message.startswith("stages["):
                return [f"{path}.{line}" for line in message.split("\n")]
            return [f"{path}: got {_shown(details['input'])}, {message}."]
        case "too_short" if details["input"]:
            return []  # its items are wrong, and each of them says so itself
        case "missing":
            return [f"{path}: missing, expected a value. Add it."]
        case "extra_forbidden":
            near = _nearest(str(details["loc"][-1]), _field_names(spec_type))
            return [f"{path}: no such field. {near}"]
        case _:
            expected = details["msg"].removeprefix("Input should be ")
            return [f"{path}: got {_shown(details['input'])}, expected {expected}. Change it."]


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")


def _shown(value: object) -> str:
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 - one line


def _nearest(name: object, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f'Did you mean "{near[0]}"?' if near else "Declare it, or correct the name."


def _field_names(spec_type: type[BaseModel]) -> set[str]:
    names: set[str] = set()
    for field in spec_type.model_fields.values():
        names.add(cast("str", field.alias))
        for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, Spec):
                names |= _field_names(inner)
    return names


def _references(m: Manifests) -> Iterator[tuple[str, str, str, Iterable[str]]]:
    for name, pool in m.pools.items():
        yield f'Pool "{name}": spec.model', "Model", pool.model, m.models
        yield f'Pool "{name}": spec.gpuType', "Budget", pool.gpu_type, m.budgets
    for name, feature in m.features.items():
        yield f'Feature "{name}": spec.pool', "Pool", feature.pool, m.pools
    for name, rollout in m.rollouts.items():
        yield f'Rollout "{name}": spec.feature', "Feature", rollout.feature, m.features
        for i, stage in enumerate(rollout.stages):
            for tier in stage.tiers:
                yield f'Rollout "{name}": spec.stages[{i}].tiers', "Tier", tier, m.tiers
