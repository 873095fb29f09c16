"""What ops can filter by in the Temporal UI."""

from typing import Final

from temporalio import workflow
from temporalio.common import SearchAttributeKey

KIND: Final = SearchAttributeKey.for_keyword("TidegateKind")
FEATURE: Final = SearchAttributeKey.for_keyword("TidegateFeature")
STATE: Final = SearchAttributeKey.for_keyword("TidegateState")
WAITING_FOR: Final = SearchAttributeKey.for_keyword("TidegateWaitingFor")
OWNER: Final = SearchAttributeKey.for_keyword("TidegateOwner")


def show(
    *, kind: str, state: str, feature: str = "", waiting_for: str = "nothing", owner: str = ""
) -> None:
    """Update the search attributes, where one of them has changed."""
    wanted = {KIND: kind, STATE: state, FEATURE: feature, WAITING_FOR: waiting_for, OWNER: owner}
    held = workflow.info().typed_search_attributes
    changed = [key.value_set(value) for key, value in wanted.items() if held.get(key) != value]
    if changed:
        workflow.upsert_search_attributes(changed)
