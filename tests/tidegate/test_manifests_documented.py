"""The manifest reference names every field of every kind, with its default and a true example."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tidegate.audience import AttributeTest, AudienceSpec, LayerSlice, Segment, VersionRange
from tidegate.catalogue import (
    ColdStart,
    FeatureSpec,
    ModelSpec,
    PoolSpec,
    ReopenSpec,
    SurgeSpec,
    TierSpec,
    WaitlistSpec,
)
from tidegate.checks import CheckSpec
from tidegate.documents import read_documents
from tidegate.edges.files import load_manifests
from tidegate.errors import PlanError
from tidegate.freezes import FreezeSpec
from tidegate.manifests import API_VERSION, Manifests, parse_manifests
from tidegate.plans import CodeRedSpec, PreviewSpec, RolloutSpec, StageSpec, StepsSpec, SupplySpec
from tidegate.quantities import AS_WRITTEN
from tidegate.retiring import CutOffSpec, RetirementSpec, UseLimitSpec, Window

DOCS: Final = Path(__file__).parents[2] / "docs"
REFERENCE: Final = (DOCS / "manifests.md").read_text(encoding="utf-8")
EXAMPLE: Final = DOCS / "examples" / "launch.yaml"
TARGETED: Final = DOCS / "examples" / "targeted.yaml"
LATER: Final = DOCS / "examples" / "later.yaml"
"""Applied after EXAMPLE."""
TABLES: Final[Mapping[str, type[BaseModel]]] = {
    "## Tier": TierSpec,
    "## Model": ModelSpec,
    "## Supply": SupplySpec,
    "## Pool": PoolSpec,
    "`spec.surge`; ": SurgeSpec,
    "Each of `spec.surge.reopen`, ": ReopenSpec,
    "`spec.coldStart`:": ColdStart,
    "## Feature": FeatureSpec,
    "`spec.audience`; ": AudienceSpec,
    "`spec.audience.appVersion`; ": VersionRange,
    "Each of `spec.audience.attributes`; ": AttributeTest,
    "`spec.layer`; ": LayerSlice,
    "`spec.waitlist`; ": WaitlistSpec,
    "## Rollout": RolloutSpec,
    "Each of `spec.freezes`, ": FreezeSpec,
    "Each of `spec.stages`:": StageSpec,
    "`spec.stages[].only`, ": Segment,
    "`spec.stages[].steps`; ": StepsSpec,
    "Each of `spec.stages[].checks`, ": CheckSpec,
    "## CodeRed": CodeRedSpec,
    "## Preview": PreviewSpec,
    "## Retirement": RetirementSpec,
    "Each of `spec.brownouts`:": Window,
    "Each of `spec.cutOffs`:": CutOffSpec,
    "`spec.useBelow`:": UseLimitSpec,
}
MODELS: Final = pytest.mark.parametrize(("heading", "model"), TABLES.items(), ids=str)


def rows(heading: str) -> Iterator[tuple[str, str, str]]:
    """Yield field, default and example of the table that follows this line."""
    after = REFERENCE.split(f"\n{heading}", 1)[1].split("| --- |", 1)[1]
    table = after.split("\n\n", 1)[0]
    for line in table.strip().split("\n")[1:]:
        field, _, default, _, example, meaning = line.strip("|").split("|")
        assert meaning.strip()
        yield field.strip("` "), default.strip("` "), example.strip("` ")


def default_of(field: FieldInfo, model: BaseModel, name: str) -> str:
    """Write a field's default as the reference does."""
    if field.is_required():
        return "required"
    if getattr(model, name) is None:
        return "none"
    written = model.model_dump(mode="json", by_alias=True)[field.alias or name]
    if isinstance(written, list):
        return f"[{', '.join(written)}]"
    return str(written).lower() if isinstance(written, bool) else str(written)


@MODELS
def test_every_field_is_in_the_reference(heading: str, model: type[BaseModel]) -> None:
    documented = [field for field, _, _ in rows(heading)]
    assert documented == [field.alias for field in model.model_fields.values()]


@MODELS
def test_every_example_is_taken(heading: str, model: type[BaseModel]) -> None:
    (written,) = read_documents(
        "\n".join(f"{field}: {example}" for field, _, example in rows(heading)), where=heading
    )
    model.model_validate(written, context=AS_WRITTEN)


@MODELS
def test_every_default_is_the_true_one(heading: str, model: type[BaseModel]) -> None:
    bare = model.model_construct()
    true = {
        field.alias: default_of(field, bare, name) for name, field in model.model_fields.items()
    }
    assert {field: default for field, default, _ in rows(heading)} == true


def test_the_complete_example_loads_and_every_name_in_it_is_declared() -> None:
    declared = load_manifests(EXAMPLE, before=Manifests())
    later = load_manifests(LATER, before=declared)
    others = load_manifests(TARGETED, before=Manifests())
    every = others.over(later.over(declared))
    assert all(getattr(every, field) for field in Manifests.model_fields)
    assert [stage.name for stage in declared.rollouts["image-launch"].stages] == [
        "pro",
        "paying",
        "free-first",
        "free",
    ]


def test_the_examples_show_every_field() -> None:
    written = "".join(e.read_text(encoding="utf-8") for e in (EXAMPLE, TARGETED, LATER))
    missing = [
        field.alias
        for model in TABLES.values()
        for field in model.model_fields.values()
        if not re.search(rf"\b{field.alias}:", written)
    ]
    assert missing == []


def test_every_plan_in_the_reference_loads() -> None:
    plans = re.findall(r"```yaml\n(.*?)```", REFERENCE, re.DOTALL)
    assert plans
    for plan in plans:
        parse_manifests(plan, where="manifests.md")


def test_the_messages_in_the_reference_are_the_ones_that_are_told() -> None:
    told = re.search(r"```\n(launch\.yaml.*?)```", REFERENCE, re.DOTALL)
    assert told is not None
    manifests = list(yaml.safe_load_all(EXAMPLE.read_text(encoding="utf-8")))
    assert manifests[8]["apiVersion"] == API_VERSION
    text = EXAMPLE.read_text(encoding="utf-8")
    for right, wrong in [
        ("exposure: 2.5%", "exposure: 120%"),
        ("reserve: 20", "reserv: 20"),
        ("feature: image", "feature: imgae"),
    ]:
        text = text.replace(right, wrong)
    with pytest.raises(PlanError) as refused:
        parse_manifests(text, where=EXAMPLE.name, before=Manifests())
    assert str(refused.value) + "\n" == told[1]
