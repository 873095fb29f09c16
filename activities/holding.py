"""Find features and note holds: what a hold asks of the catalogue."""

from collections.abc import Mapping

from temporalio import activity

from activities.refusing import refusals_are_final
from tidegate.catalogue import PoolSpec
from tidegate.edges.temporal import ControlPlane
from tidegate.messages.catalogue import HoldNote
from tidegate.messages.hold import EVERYTHING


class Holding:
    """Reads the catalogue, and has it know which holds stand."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    @activity.defn(name="find_features")
    async def find_features(self, scope: str) -> list[str]:
        """Return the names of the features in a scope, sorted."""
        catalogue = await self._plane.catalogue()
        if catalogue is None:
            return []
        declared = catalogue.declared
        kind, _, name = scope.partition("/")
        return sorted(
            feature
            for feature, spec in declared.features.items()
            if scope == EVERYTHING
            or (kind == "feature" and feature == name)
            or (kind == "model" and _model_of(spec.pool, declared.pools) == name)
        )

    @activity.defn(name="note_hold")
    async def note_hold(self, note: HoldNote) -> None:
        """Have the catalogue know of a hold, or forget it."""
        with refusals_are_final():
            await self._plane.note_hold(note)


def _model_of(pool: str, pools: Mapping[str, PoolSpec]) -> str | None:
    known = pools.get(pool)
    return None if known is None else known.model
