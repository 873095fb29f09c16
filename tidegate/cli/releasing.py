"""`tidegate release`: lifts a hold from a rollout, or from the feature where it outlived one."""

from tidegate.edges.temporal import ControlPlane
from tidegate.messages.feature import HoldOrder
from tidegate.messages.rollout import RolloutPhase


async def release_hold(plane: ControlPlane, rollout: str, order: HoldOrder) -> None:
    """Lift a hold; raises Refused where there is none, or where another role placed it.

    A hold stays on the feature when its rollout is aborted, and then stops the next one too.
    """
    known = await plane.rollout_order(rollout)
    if known is not None:
        is_running = known.state.phase is RolloutPhase.RUNNING
        holds_itself = is_running and known.state.hold is not None
        feature = await plane.feature(known.spec.feature)
        if not holds_itself and feature is not None and feature.hold is not None:
            await plane.ask_feature(feature.name, "release", order)
            return
    await plane.steer(rollout, "release", order)
