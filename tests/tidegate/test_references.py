"""What manifests say of one another: circles, parts that overlap, names that mean two."""

import re
from collections.abc import Mapping

import pytest
import yaml

from tests.tidegate.test_manifests import SHAPE
from tidegate.errors import PlanError
from tidegate.manifests import Manifests, parse_manifests

BASE = """
apiVersion: tidegate.dev/v1
kind: Budget
metadata: {name: h100}
spec: {}
---
apiVersion: tidegate.dev/v1
kind: Model
metadata: {name: base}
spec: {}
---
apiVersion: tidegate.dev/v1
kind: Pool
metadata: {name: pool}
spec:
  {model: base, gpuType: h100, maxReplicas: 4, capacityRps: 4, queueWaitTarget: 2s,
   coldStart: {p50: 90s, p90: 4m}, readingLimit: 15s, actuationLag: 10s, scaleDownWindow: 10m}
"""
GOING = {"announcedAt": "2026-03-01T00:00:00Z", "sunsetAt": "2026-09-01T00:00:00Z"}


def manifest(kind: str, name: str, spec: Mapping[str, object]) -> str:
    document = {"apiVersion": "tidegate.dev/v1", "kind": kind, "metadata": {"name": name}}
    return "---\n" + yaml.safe_dump({**document, "spec": spec})


def feature(name: str, **spec: object) -> str:
    return manifest("Feature", name, {"pool": "pool", **spec})


def model(name: str, **spec: object) -> str:
    return manifest("Model", name, spec)


def retirement(name: str, successor: str, **spec: object) -> str:
    going = {**GOING, "model": name, "owner": "mara", "successor": successor}
    return manifest("Retirement", name, {**going, **spec})


def told(*manifests: str) -> list[str]:
    mistakes: tuple[str, ...] = ()
    try:
        parse_manifests(BASE + "".join(manifests), where="plan.yaml", before=Manifests())
    except PlanError as refused:
        mistakes = tuple(refused.mistakes)
    assert [line for line in mistakes if not SHAPE.fullmatch(line)] == []
    return list(mistakes)


@pytest.mark.parametrize(
    "manifests",
    [
        (feature("a", requires=["b"]), feature("b", requires=["c"]), feature("c")),
        (
            feature("a", layer={"name": "labs", "start": "0%", "end": "50%"}),
            feature("b", layer={"name": "labs", "start": "50%", "end": "100%"}),
            feature("c", layer={"name": "other", "end": "100%"}),
        ),
        (
            model("old"),
            model("newer", aliases=["latest"]),
            retirement("old", "newer"),
            retirement("newer", "base"),
        ),
        (
            manifest("Tier", "pro", {"rank": 7, "notice": "20w"}),
            model("old"),
            retirement("old", "base"),
        ),
    ],
)
def test_what_fits_together_is_taken(manifests: tuple[str, ...]) -> None:
    assert told(*manifests) == []


@pytest.mark.parametrize(
    ("manifests", "message"),
    [
        (
            (
                feature("a", requires=["b"]),
                feature("b", requires=["c"]),
                feature("c", requires=["a"]),
            ),
            'Feature "a": spec.requires: got a circle (a → b → c → a)',
        ),
        ((feature("a", requires=["a"]),), 'Feature "a": spec.requires: got a circle (a → a)'),
        (
            (feature("a", requires=["b", "b"]), feature("b")),
            'Feature "a": spec.requires: got "b" 2 times, expected each feature once.',
        ),
        (
            (
                feature("a", layer={"name": "labs", "start": "0%", "end": "60%"}),
                feature("b", layer={"name": "labs", "start": "50%", "end": "100%"}),
            ),
            'Feature "b": spec.layer.start: got 50% of "labs", where "a" reaches to 60%',
        ),
        (
            (
                model("old"),
                model("newer"),
                retirement("old", "newer"),
                retirement("newer", "old"),
            ),
            'Retirement "old": spec.successor: got a circle (old → newer → old)',
        ),
        (
            (
                feature("a", surfaces=["attic"]),
                feature("b", surfaces=["api", "attic"]),
                manifest("Preview", "p", {"feature": "a", "owner": "ada", "lasts": "3d"}),
            ),
            'Preview "p": spec.feature: got "a", whose surface "attic" is "b"\'s as well',
        ),
        (
            (model("old"), retirement("old", "old")),
            'Retirement "old": spec.successor: got a circle (old → old)',
        ),
        (
            (model("old"), retirement("old", "bose")),
            'spec.successor: got "bose", expected the name of a Model. Did you mean',
        ),
        (
            (
                manifest("Tier", "pro", {"rank": 7, "notice": "52w"}),
                model("old"),
                retirement("old", "base"),
            ),
            'Retirement "old": spec.sunsetAt: got 2026-09-01T00:00:00+00:00 for pro, expected 364d',
        ),
        (
            (model("a", aliases=["latest"]), model("b", aliases=["latest"])),
            'Model "b": spec.aliases[0]: got "latest", which means "a"',
        ),
        ((model("a", aliases=["base"]),), 'Model "a": spec.aliases[0]: got "base", which means'),
        ((model("a", aliases=["x", "x"]),), 'Model "a": spec.aliases[1]: got "x", which means "a"'),
    ],
)
def test_what_does_not_fit_together_is_told_once(manifests: tuple[str, ...], message: str) -> None:
    lines = [re.sub(r"^plan\.yaml.*?: (?=\w+ \")", "", line) for line in told(*manifests)]
    assert len(lines) == 1
    assert message in lines[0]
