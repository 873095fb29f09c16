"""What must hold while a stage bakes, and how often it is looked at."""

from typing import Final, Self

from pydantic import Field, model_validator

from tidegate.quantities import PositiveDuration, Share
from tidegate.spec import Name, Spec

TIER: Final = "$tier"
"""Stands in a query for each tier of the stage in turn."""


class CheckSpec(Spec):
    """One thing that must hold: a queue wait, a query, or a person's word.

    Missing data is inconclusive, never a pass, and what flaps is inconclusive too.
    """

    name: Name
    queue_wait_below: PositiveDuration | None = Field(
        default=None, description="Mean queue wait of the pool."
    )
    query: str | None = Field(
        default=None, min_length=1, description="What Prometheus is asked; one number."
    )
    below: float | None = Field(default=None, description="The query's value is below this.")
    above: float | None = Field(default=None, description="The query's value is above this.")
    baseline: str | None = Field(
        default=None, min_length=1, description="A query for those whom the stage has not touched."
    )
    worse_by: Share | None = Field(
        default=None, description="How far above the baseline the query's value may be, of it."
    )
    answer: Name | None = Field(default=None, description="The role that says pass or fail.")
    fails_after: int = Field(
        default=3, ge=1, description="So many looks in a row must fail for it to fail."
    )
    dry_run: bool = Field(default=False, description="It is told of, and decides nothing.")

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        kinds = {
            "queueWaitBelow": self.queue_wait_below,
            "query": self.query,
            "answer": self.answer,
        }
        given = [name for name, value in kinds.items() if value is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise ValueError(
                f"got {got}, expected one of {', '.join(kinds)}. Write a check of its own for each."
            )
        limits = [limit for limit in (self.below, self.above, self.baseline) if limit is not None]
        if len(limits) != (self.query is not None):
            raise ValueError(
                "expected one of below, above and baseline beside a query, and none without. "
                "Correct it."
            )
        if (self.baseline is None) != (self.worse_by is None):
            raise ValueError('expected "baseline" and "worseBy" together. Add the other.')
        return self
