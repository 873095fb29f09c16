"""What ops can filter by in the Temporal UI."""

from typing import Any, Final

from temporalio import workflow
from temporalio.common import SearchAttributeKey

KIND: Final = SearchAttributeKey.for_keyword("TidegateKind")
FEATURE: Final = SearchAttributeKey.for_keyword("TidegateFeature")
TIER: Final = SearchAttributeKey.for_keyword("TidegateTier")
STATE: Final = SearchAttributeKey.for_keyword("TidegateState")
WAITING_FOR: Final = SearchAttributeKey.for_keyword("TidegateWaitingFor")
OWNER: Final = SearchAttributeKey.for_keyword("TidegateOwner")


class Visible:
    """A workflow's search attributes; what changes often is written as often as events are told."""

    def __init__(self) -> None:
        self._wanted: dict[SearchAttributeKey[Any], str] = {}

    def show(
        self,
        *,
        kind: str,
        state: str,
        feature: str = "",
        tier: str = "",
        waiting_for: str = "nothing",
        owner: str = "",
    ) -> None:
        """Say what is to be seen from now on."""
        self._wanted = {
            KIND: kind,
            FEATURE: feature,
            TIER: tier,
            STATE: state,
            WAITING_FOR: waiting_for,
            OWNER: owner,
        }

    @property
    def is_behind(self) -> bool:
        """Whether something else is written than is to be seen."""
        return self._changed() != {}

    def write(self) -> None:
        """Write what has changed; each costs the server an event and a row."""
        changed = [key.value_set(value) for key, value in self._changed().items()]
        if changed:
            workflow.upsert_search_attributes(changed)

    def _changed(self) -> dict[SearchAttributeKey[Any], str]:
        held = workflow.info().typed_search_attributes
        return {key: value for key, value in self._wanted.items() if held.get(key) != value}
