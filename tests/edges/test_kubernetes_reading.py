"""What objects of a cluster say, where a server need not be asked."""

from collections.abc import Mapping
from typing import Any

import pytest

from tidegate.cluster import NodeGpus
from tidegate.edges.kubernetes.reading import Kept, gpus_by_type, kept_by, read_nodes

LABELS = {"tidegate.dev/pool": "chat", "team": "core"}


def budget(name: str, wanted: int | None, **selector: Any) -> Mapping[str, Any]:  # noqa: ANN401
    status = {} if wanted is None else {"desiredHealthy": wanted, "disruptionsAllowed": 9}
    return {"metadata": {"name": name}, "spec": {"selector": selector}, "status": status}


IN_ANOTHER = {"key": "team", "operator": "In", "values": ["side"]}
HAS_A_TEAM = {"key": "team", "operator": "Exists"}
OTHERS = budget("others", 7, matchLabels={"tidegate.dev/pool": "image"})


@pytest.mark.parametrize(
    ("budgets", "kept"),
    [
        ([], None),
        ([OTHERS], None),
        ([OTHERS, budget("all", 2)], Kept("all", 2)),
        ([budget("all", 2), budget("few", 3, matchLabels={"team": "core"})], Kept("few", 3)),
        ([budget("all", 2), budget("new", None)], Kept("new", None)),
        (
            [
                budget(
                    "in", 4, matchExpressions=[{"key": "team", "operator": "In", "values": ["x"]}]
                )
            ],
            None,
        ),
        (
            [budget("has", 4, matchExpressions=[{"key": "team", "operator": "Exists"}])],
            Kept("has", 4),
        ),
    ],
)
def test_the_budget_that_has_most_stay_counts_and_one_that_says_nothing_most_of_all(
    budgets: list[Mapping[str, Any]], kept: Kept | None
) -> None:
    assert kept_by(budgets, LABELS) == kept


def a_node(name: str, usable: int, *, ready: str = "True", **spec: bool) -> Mapping[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"tidegate.dev/gpu-type": "h100"}},
        "spec": spec,
        "status": {
            "capacity": {"nvidia.com/gpu": "8"},
            "allocatable": {"nvidia.com/gpu": str(usable)},
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


def test_gpus_count_where_pods_are_taken_and_no_device_plugin_has_withdrawn_them() -> None:
    found = [
        a_node("whole", 8),
        a_node("in-part", 7),
        a_node("cordoned", 8, unschedulable=True),
        a_node("away", 8, ready="Unknown"),
        {"metadata": {"name": "without"}},
    ]
    nodes = read_nodes(found)
    assert nodes == {
        "whole": NodeGpus("h100", usable=8),
        "in-part": NodeGpus("h100", usable=7, withdrawn=1),
        "cordoned": NodeGpus("h100", usable=8, takes_pods=False),
        "away": NodeGpus("h100", usable=8, takes_pods=False),
        "without": NodeGpus(None, usable=0, takes_pods=False),
    }
    assert gpus_by_type(nodes.values()) == {"h100": 15}
