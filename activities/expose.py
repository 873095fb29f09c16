"""Expose, note, hold and release: what a plan asks of a feature."""

from temporalio import activity

from activities.refusing import refusals_are_final
from tidegate.edges.temporal import ControlPlane
from tidegate.messages.feature import FeatureAct


class AskFeature:
    """Acts on a feature; the feature does each order only once."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    @activity.defn(name="ask_feature")
    async def ask_feature(self, asked: FeatureAct) -> dict[str, float]:
        """Do the one thing that is asked; an exposure answers what it was before."""
        name = asked.feature
        with refusals_are_final():
            if asked.expose is not None:
                return await self._plane.ask_feature(name, "expose", asked.expose) or {}
            if asked.note is not None:
                await self._plane.ask_feature(name, "note_waiting", asked.note)
            if asked.hold is not None:
                await self._plane.ask_feature(name, "hold", asked.hold)
            if asked.release is not None:
                await self._plane.ask_feature(name, "release", asked.release)
        return {}
