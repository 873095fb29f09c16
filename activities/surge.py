"""Find what a pool serves, and steer sign-ups: what a surge asks for."""

from temporalio import activity

from activities.refusing import refusals_are_final
from tidegate.edges.temporal import ControlPlane
from tidegate.manifests import Manifests
from tidegate.messages.feature import SignupsVerb
from tidegate.messages.rollout import rollout_id
from tidegate.messages.surge import ServedBy, SignupsAct


class Surging:
    """Reads the catalogue, and asks features."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    @activity.defn(name="find_served")
    async def find_served(self, pool: str) -> ServedBy:
        """Return the features that a pool serves, and the rollouts of them that run."""
        catalogue = await self._plane.catalogue()
        declared = Manifests() if catalogue is None else catalogue.declared
        features = [name for name, spec in declared.features.items() if spec.pool == pool]
        rollouts = [
            rollout_id(name)
            for name, rollout in declared.rollouts.items()
            if rollout.feature in features and await self._plane.is_running(rollout_id(name))
        ]
        return ServedBy(features=tuple(features), rollouts=tuple(rollouts))

    @activity.defn(name="steer_signups")
    async def steer_signups(self, asked: SignupsAct) -> bool:
        """Suspend or reopen sign-ups; False where somebody else has suspended them before."""
        order, known = asked.order, await self._plane.feature(asked.feature)
        if order.verb is SignupsVerb.SUSPEND and known is not None:
            signups = known.signups
            if signups.state == "suspended" and signups.reason != order.reason:
                return False
        with refusals_are_final():
            await self._plane.set_signups(asked.feature, order)
        return True
