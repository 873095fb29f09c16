"""What objects of a cluster say, where a server need not be asked."""

from collections.abc import Mapping
from typing import Any

import pytest

from tidegate.edges.kubernetes.reading import Kept, kept_by

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
