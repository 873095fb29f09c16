"""Files of manifests: every mistake is told at once, in full, and nothing is half taken."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tidegate.edges.files import load_manifests
from tidegate.errors import PlanError
from tidegate.manifests import Manifests, parse_manifests

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "launch.yaml"
TEXT = EXAMPLE.read_text(encoding="utf-8")
DECLARED = parse_manifests(TEXT, where="launch.yaml")


SHAPE: Final = re.compile(r"plan\.yaml.*: got .+, expected .+(\. .+[.?]|\?)")
"""One line: where, what was found, what was expected, and (a sentence of its own) what to do."""


def mistakes_in(text: str) -> tuple[str, ...]:
    """Return the messages of a file, none where it is taken."""
    try:
        parse_manifests(text, where="plan.yaml", before=DECLARED)
    except PlanError as refused:
        return refused.mistakes
    return ()


def told(text: str, *, before: Manifests | None = None) -> list[str]:
    """Return the messages of a file that is refused, without its name."""
    with pytest.raises(PlanError) as refused:
        parse_manifests(text, where="plan.yaml", before=before)
    mistakes = refused.value.mistakes
    assert str(refused.value) == "\n".join(mistakes)
    assert [mistake for mistake in mistakes if not SHAPE.fullmatch(mistake)] == []
    return [mistake.removeprefix("plan.yaml").removeprefix(": ") for mistake in mistakes]


def example(changes: Mapping[str, str]) -> str:
    """Return the complete example with texts replaced."""
    text = TEXT
    for right, wrong in changes.items():
        assert right in text
        text = text.replace(right, wrong, 1)
    return text


def tier(spec: str, name: str = "free") -> str:
    head = f"apiVersion: tidegate.dev/v1\nkind: Tier\nmetadata: {{name: {name}}}\n"
    return f"{head}spec: {spec}\n"


def test_five_different_mistakes_give_five_messages_and_nothing_is_taken() -> None:
    wrong = {
        "targetUtilisation: 60%": "targetUtilisation: 120%",
        "bake: 30m": "bake: half an hour",
        "startsAt: 2026-03-05T09:00:00Z": "startsAt: 2026-03-03T09:00:00Z",
        "      reserve: 20": "      reserv: 20",
        "  feature: image": "  feature: imgae",
    }
    share, bake, field, start, feature = told(example(wrong), before=Manifests())
    assert share == (
        '[7]: Pool "image": spec.targetUtilisation: got "120%", expected 0% to 100%. '
        'Write the share reached, such as "2.5%".'
    )
    assert bake == (
        '[9]: Rollout "image-launch": spec.stages[0].bake: got "half an hour", expected a '
        'duration. Write a number and a unit, such as "90s", "36h" or "1h30m".'
    )
    assert field == (
        '[9]: Rollout "image-launch": spec.stages[3].reserv: got an unknown field, expected a '
        'known one. Did you mean "reserve"?'
    )
    assert start == (
        '[9]: Rollout "image-launch": spec.stages[2].startsAt: got 2026-03-03T09:00:00+00:00, '
        "expected no earlier than 2026-03-04T12:00:00+00:00. "
        "Put the stages in the order they open."
    )
    assert feature == (
        '[9]: Rollout "image-launch": spec.feature: got "imgae", expected the name of a Feature. '
        'Did you mean "image"?'
    )


def test_a_file_is_loaded_whole() -> None:
    assert load_manifests(EXAMPLE) == DECLARED
    assert [len(getattr(DECLARED, field)) for field in Manifests.model_fields] == [
        4, 1, 1, 1, 1, 1, 1, 0, 0, 0,
    ]  # fmt: skip
    assert DECLARED.tiers["free"].gated
    assert not DECLARED.tiers["pro"].gated
    assert DECLARED.rollouts["image-launch"].stages[2].exposure == 0.025


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("rank: 3", "rank: first", 'spec.rank: got "first", expected a whole number.'),
        ("rank: 3", "rank: 1.5", "spec.rank: got 1.5, expected a whole number."),
        ("rank: 3", "rank: -1", "spec.rank: got -1, expected at least 0. Raise it."),
        ("rank: 3", "gated: true", "spec.rank: got nothing, expected a value. Add it."),
        ("rank: 0, gated: false", "rank: 0, gated: maybe", "expected true or false."),
        ("engine: vllm", "engine: sglang", 'got "sglang", expected "vllm". Write it so.'),
        ("kind: Model", "kind: Modle", 'kind: got "Modle", expected one of Tier, Model,'),
        ("tidegate.dev/v1", "v1", 'apiVersion: got "v1", expected "tidegate.dev/v1".'),
        ("name: free}", "name: Free Users}", 'metadata.name: got "Free Users", expected lower-'),
        ("{name: free}", "free", 'metadata: got "free", expected a group of fields.'),
        ("name: free}", "nam: free}", "metadata.nam: got an unknown field, expected a known one"),
        ("spec: {rank: 3}", "spec:", "spec: got nothing, expected a group of fields."),
        ("gpus: 16", "gpus: 0", "spec.gpus: got 0, expected at least 1."),
        ("T18:00:00Z", "T18:00:00", 'got "2026-03-09T18:00:00", expected an instant with its'),
        (
            "latest: 2026-03-09", "latest: 2026-03-05",
            'spec.latest: got "2026-03-05T18:00:00Z", expected no earlier than "at",',
        ),
        ("capacityRps: 2.5", "capacityRps: 0", "expected more than 0. Raise it."),
        ("capacityRps: 2.5", "capacityRps: .inf", "got inf, expected a number."),
        ("capacityRps: 2.5", "capacityRps: fast", 'got "fast", expected a number.'),
        ("targetUtilisation: 60%", "targetUtilisation: 0%", "expected more than 0%."),
        ("safeShare: 20%", "safeShare: 0.2", "spec.safeShare: got 0.2, expected 0% to 100%."),
        ("queueWaitTarget: 2s", "queueWaitTarget: 0s", "expected more than 0s."),
        ("readingLimit: 15s", "readingLimit: 15", "spec.readingLimit: got 15, expected a durat"),
        ("p90: 4m", "p90: 30s", 'spec.coldStart.p90: got "30s", expected at least p50, which'),
        ("maxReplicas: 24", "maxReplicas: 1", "got 1, expected at least minReplicas, which is 2"),
        (
            "[queue_wait, demand]", "[queue_wait, tokens]",
            'spec.requiredReadings[1]: got "tokens", expected "queue_wait", "demand" or "gpu_util',
        ),
        ("[queue_wait, demand]", "demand", 'spec.requiredReadings: got "demand", expected a list.'),
        ("[web, mobile, api]", "[]", "spec.surfaces: got [], expected at least one item. Add it."),
        ("onStale: keep", "onStale: open", 'expected "keep" or "close". Choose one.'),
        ("model: image-2", "model: 2", "spec.model: got 2, expected text. Put it in quotes."),
        ("owner: mara@example.com", "owner: ''", 'spec.owner: got "", expected some text.'),
        ("tiers: [pro]", "tiers: pro", 'spec.stages[0].tiers: got "pro", expected a list.'),
        ("tiers: [team, plus]", "tiers: []", "spec.stages[1].tiers: got [], expected at least"),
        ("[{name: wait, queueWaitBelow: 2s}]", "3s", 'spec.stages[0].checks: got "3s", expected'),
        ("2026-03-04T09:00:00Z", "20260304", "spec.stages[0].startsAt: got 20260304, expected an"),
        ("2026-03-04T09:00:00Z", "2026-13-45", 'startsAt: got "2026-13-45", expected an instant'),
        ("exposure: 100%", "exposure: 2.5%", 'spec.stages[3].exposure: got "2.5%" for free, exp'),
        (
            "exposure: 100%", "steps: {shares: [1%], each: 1h}",
            'spec.stages[3].steps.shares[0]: got "1%" for free, expected more than the 2.5',
        ),
        ("[0.5%, 1%]", "[1%, 0.5%]", "expected each share above the one before, and all below the"),
        ("[0.5%, 1%]", "[0.5%, 5%]", "all below the exposure; 2.5% comes after 5%. Correct them."),
        ("name: free\n", "name: pro\n", 'spec.stages[3].name: got "pro" again, expected a name'),
    ],
)  # fmt: skip
def test_a_mistake_gives_one_message_with_its_place(right: str, wrong: str, message: str) -> None:
    (mistake,) = told(example({right: wrong}))
    assert message in mistake


def test_a_misspelt_field_is_one_mistake_and_its_name_is_guessed() -> None:
    (mistake,) = told(example({"gpuType: h100": "gpuTyp: h100"}))
    assert mistake == (
        '[7]: Pool "image": spec.gpuTyp: got an unknown field, expected a known one. '
        'Did you mean "gpuType"?'
    )


def test_an_unknown_field_like_no_other_lists_those_there_are() -> None:
    (mistake,) = told(tier("{rank: 3, x: 1}"))
    assert mistake == (
        '[1]: Tier "free": spec.x: got an unknown field, expected one of rank, gated, notice. '
        "Drop it, or correct its name."
    )


def test_a_manifest_declared_twice_is_told() -> None:
    assert told(f"{tier('{rank: 1}')}---\n{tier('{rank: 2}')}") == [
        '[2]: Tier "free": got it twice, expected it once. Drop one of the two.'
    ]


def test_a_faulty_manifest_is_not_told_as_undeclared_too() -> None:
    (mistake,) = told(example({"kind: Model": "kind: Modle"}), before=Manifests())
    assert 'Did you mean "Model"?' in mistake
    (mistake,) = told(example({"gpus: 16": "gpus: many"}), before=Manifests())
    assert "spec.gpus" in mistake


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("model: image-2", "model: image-3", 'Pool "image": spec.model: got "image-3", expected t'),
        ("gpuType: h100", "gpuType: h200", 'spec.gpuType: got "h200", expected the name of a Bud'),
        ("pool: image", "pool: chat", 'Feature "image": spec.pool: got "chat", expected the name'),
        ("feature: image", "feature: imag", 'expected the name of a Feature. Did you mean "image"'),
        ("[team, plus]", "[team, puls]", 'spec.stages[1].tiers[1]: got "puls", expected the name'),
        ("rank: 3", "rank: 2", 'Tier "free": spec.rank: got 2, which "plus" has, expected a rank'),
        (
            "reserve: 20", "reserve: 25",
            "spec.stages[3].reserve: got 25, with the stages before 49, expected at most 48 in all",
        ),
    ],
)  # fmt: skip
def test_manifests_that_do_not_fit_together_are_told(right: str, wrong: str, message: str) -> None:
    (mistake,) = told(example({right: wrong}), before=Manifests())
    assert message in mistake


def test_a_name_that_was_declared_before_need_not_be_declared_again() -> None:
    (rollout,) = (text for text in TEXT.split("---\n") if "kind: Rollout" in text)
    assert parse_manifests(rollout, where="plan.yaml", before=DECLARED).pools == {}
    assert any("Feature" in mistake for mistake in told(rollout, before=Manifests()))


def test_what_is_declared_anew_replaces_what_was_there_and_leaves_the_rest() -> None:
    narrower = parse_manifests(tier("{rank: 9}"), where="plan.yaml").over(DECLARED)
    assert narrower.tiers["free"].rank == 9
    assert narrower.pools == DECLARED.pools
    assert set(narrower.tiers) == set(DECLARED.tiers)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got no manifest, expected at least one. Write a kind and spec."),
        ("# only words\n---\n", "got no manifest, expected at least one. Write a kind and spec."),
        ("a: [", "line 1: got what is no YAML (expected the node content, but found '<stream end"),
        ("kind: Tier\n  spec: x", "line 2: got what is no YAML (mapping values are not allowed h"),
        ("a: 1\nb: 2\na: 3", 'line 3: got what is no YAML ("a" is written twice), expected YAML.'),
        ("\x00", "character 1: got what is no YAML (special characters are not allowed)"),
        ("!!python/name:os.system", "line 1: got what is no YAML (could not determine a construc"),
        ("- 5", "[1]: got [5], expected a manifest. Write apiVersion, kind, metadata and spec."),
        ("hello", '[1]: got "hello", expected a manifest. Write apiVersion, kind, metadata and'),
        ("{}", "[1]: kind: got nothing, expected one of Tier, Model, Budget, Pool, Feature, Supp"),
        ("kind: Deployment", '[1]: kind: got "Deployment", expected one of Tier, Model, Budget,'),
    ],
)
def test_what_is_no_manifest_at_all_gives_one_line(text: str, message: str) -> None:
    (mistake,) = told(text)
    assert mistake.startswith(message)


def test_a_file_that_cannot_be_read_gives_one_line(tmp_path: Path) -> None:
    missing, binary = tmp_path / "none.yaml", tmp_path / "image.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanError, match=r"none.yaml: cannot be read .No such file"):
        load_manifests(missing)
    with pytest.raises(PlanError, match=r"image.yaml: got bytes that are no text, expected UTF-8"):
        load_manifests(binary)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
values = st.recursive(
    scalars | st.sampled_from(["1h", "2.5%", "free", "2026-03-04T09:00:00Z"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "spec", "tiers", "stages", "p50"]), inner)
    ),
    max_leaves=6,
)
places = st.sampled_from(
    [
        (number, part, field)
        for number, document in enumerate(yaml.safe_load_all(TEXT))
        for part in ("kind", "metadata", "spec")
        for field in (None, *(document["spec"] if part == "spec" else ()))
    ]
)


@given(place=places, value=values)
def test_any_value_in_any_place_is_taken_or_told_and_never_breaks(
    place: tuple[int, str, str | None], value: object
) -> None:
    number, part, field = place
    document = yaml.safe_load(TEXT.split("---\n")[number])
    if field is None:
        document[part] = value
    else:
        document[part][field] = value
    for mistake in mistakes_in(yaml.safe_dump(document)):
        assert SHAPE.fullmatch(mistake), mistake
        assert not mistake.endswith("Change it."), "these are Pydantic's words, not ours"
