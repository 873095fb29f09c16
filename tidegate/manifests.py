"""Files of manifests, loaded whole: every mistake is told at once, and nothing is half taken."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tidegate.catalogue import BudgetSpec, FeatureSpec, ModelSpec, PoolSpec, TierSpec
from tidegate.documents import read_documents
from tidegate.errors import PlanError
from tidegate.mistakes import describe, nearest, shown
from tidegate.plans import (
    CodeRedSpec,
    PreviewSpec,
    RolloutSpec,
    StageSpec,
    SupplySpec,
    stage_mistakes,
)
from tidegate.quantities import AS_WRITTEN
from tidegate.references import (
    Written,
    circular_requirements,
    circular_successors,
    dangling_names,
    overlapping_layers,
    repeated_requirements,
    shared_aliases,
    shared_ranks,
    shared_surfaces,
    short_notices,
    surfaces_not_offered,
    unreachable_reserves,
)
from tidegate.retiring import RetirementSpec
from tidegate.spec import Name, Spec

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
    supplies: Mapping[str, SupplySpec] = Field(default_factory=dict)
    rollouts: Mapping[str, RolloutSpec] = Field(default_factory=dict)
    code_reds: Mapping[str, CodeRedSpec] = Field(default_factory=dict)
    retirements: Mapping[str, RetirementSpec] = Field(default_factory=dict)
    previews: Mapping[str, PreviewSpec] = Field(default_factory=dict)

    def plans(self) -> Iterator[tuple[str, str]]:
        """Yield the kind, as in its workflow id, and the name of each plan."""
        for name in self.supplies:
            yield "supply", name
        for name in self.rollouts:
            yield "rollout", name
        for name in self.code_reds:
            yield "code-red", name
        for name in self.retirements:
            yield "retirement", name
        for name in self.previews:
            yield "preview", name

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
    "Supply": ("supplies", SupplySpec),
    "Rollout": ("rollouts", RolloutSpec),
    "CodeRed": ("code_reds", CodeRedSpec),
    "Retirement": ("retirements", RetirementSpec),
    "Preview": ("previews", PreviewSpec),
}


def parse_manifests(text: str, *, where: str, before: Manifests | None = None) -> Manifests:
    """Read manifests from YAML text; `where` names it in messages.

    Given what was declared `before`, names that neither declares are mistakes too. Raises
    PlanError with every mistake found, and then nothing is taken.
    """
    documents = read_documents(text, where=where)
    mistakes: list[str] = []
    drafts: list[_Draft] = []
    if not documents:
        mistakes.append(f"{where}: got no manifest, expected at least one. Write a kind and spec.")
    for number, document in enumerate(documents, start=1):
        drafts.append(_read(document, f"{where}[{number}]"))
        mistakes.extend(drafts[-1].mistakes)
    mistakes.extend(_declared_twice(drafts))
    found: dict[str, dict[str, Spec]] = {field: {} for field, _ in _KINDS.values()}
    for draft in drafts:
        if draft.taken is not None:
            found[_KINDS[draft.written.kind][0]][draft.written.name] = draft.taken
    declared = Manifests.model_validate(found)
    if before is not None:
        written = [draft.written for draft in drafts]
        mistakes.extend(_crossed(declared.over(before), written, where))
    if mistakes:
        raise PlanError("\n".join(mistakes), code="manifest", mistakes=mistakes)
    return declared


@dataclass(frozen=True, slots=True)
class _Draft:
    """A manifest as written, and what could be taken of it."""

    written: Written
    taken: Spec | None
    mistakes: tuple[str, ...]


def _read(document: object, where: str) -> _Draft:
    if not isinstance(document, dict):
        expected = "expected a manifest. Write apiVersion, kind, metadata and spec."
        mistake = f"{where}: got {shown(document)}, {expected}"
        return _Draft(Written(where, "", "", None), None, (mistake,))
    kind = document.get("kind")
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        meant = nearest(kind, _KINDS)
        hint = f'Did you mean "{meant}"?' if meant else "Write one of them."
        mistake = f"{where}: kind: got {shown(kind)}, expected one of {', '.join(_KINDS)}. {hint}"
        # Its name counts as declared, so that one misspelt kind is one mistake.
        return _Draft(Written(where, meant or "", str(name or ""), None), None, (mistake,))
    title = f'{where}: {kind} "{name or "?"}"'
    written = Written(title, kind, str(name or ""), document.get("spec"))
    _, spec_type = _KINDS[kind]
    model = Manifest[spec_type]  # type: ignore[valid-type]
    try:
        manifest = model.model_validate(document, context=AS_WRITTEN)
    except ValidationError as error:
        found = [*describe(error, model), *_between_stages(written)]
        return _Draft(written, None, tuple(f"{title}: {line}" for line in dict.fromkeys(found)))
    return _Draft(written, manifest.spec, ())


def _between_stages(written: Written) -> Iterator[str]:
    """Say what is wrong between those stages of a faulty plan that are right in themselves."""
    if written.kind != "Rollout" or not isinstance(written.spec, dict):
        return
    stages: list[tuple[int, StageSpec]] = []
    listed = written.spec.get("stages")
    for i, stage in enumerate(listed if isinstance(listed, list) else ()):
        try:
            stages.append((i, StageSpec.model_validate(stage, context=AS_WRITTEN)))
        except ValidationError:
            continue  # told already
    for line in stage_mistakes(stages):
        yield f"spec.{line}"


def _declared_twice(drafts: Iterable[_Draft]) -> Iterator[str]:
    seen: set[tuple[str, str]] = set()
    for written in (draft.written for draft in drafts):
        if written.name and (written.kind, written.name) in seen:
            yield f"{written.title}: got it twice, expected it once. Drop one of the two."
        seen.add((written.kind, written.name))


def _crossed(declared: Manifests, written: Iterable[Written], where: str) -> list[str]:
    """Say what is wrong between manifests; a faulty one's name still counts as declared."""
    manifests = list(written)
    known = {
        kind: {*getattr(declared, field), *(w.name for w in manifests if w.kind == kind)}
        for kind, (field, _) in _KINDS.items()
    }
    # What was announced before kept to what was promised then.
    named = {w.name for w in manifests if w.kind == "Retirement"}
    announced = {name: s for name, s in declared.retirements.items() if name in named}
    fits = [
        *shared_ranks(declared.tiers),
        *circular_requirements(declared.features),
        *repeated_requirements(declared.features),
        *overlapping_layers(declared.features),
        *circular_successors(declared.retirements),
        *shared_aliases(declared.models),
        *shared_surfaces(declared.previews, declared.features),
        *short_notices(announced, declared.tiers),
        *surfaces_not_offered(declared.rollouts, declared.features),
        *unreachable_reserves(declared.rollouts, declared.features, declared.pools),
    ]
    return [*dangling_names(manifests, known), *(f"{where}: {line}" for line in fits)]
