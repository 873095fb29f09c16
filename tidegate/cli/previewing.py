"""`tidegate invite` and `tidegate feedback`: what is personal is sealed before it leaves here."""

import json

from tidegate.edges.preview_keys import PreviewKeys
from tidegate.edges.record import Record
from tidegate.edges.temporal import ControlPlane
from tidegate.messages.preview import Feedback, InviteOrder, PreviewOrder
from tidegate.settings import Settings


async def invite(
    plane: ControlPlane, settings: Settings, preview: str, users: tuple[str, ...], by: str
) -> list[str]:
    """Invite users to a preview; raises Refused where its key is not here, or it is over."""
    keys = PreviewKeys(settings.previews_folder)
    sealed = tuple(keys.seal(preview, user) for user in users)
    await plane.steer(_id(preview), "invite", InviteOrder(by=by, sealed=sealed))
    return [f"{preview}: {len(users)} invited"]


async def give_feedback(
    plane: ControlPlane, settings: Settings, preview: str, user: str, text: str
) -> list[str]:
    """Keep what a user said of a preview; raises Refused as inviting does."""
    keys = PreviewKeys(settings.previews_folder)
    words = json.dumps({"user": user, "text": text})
    said_id = keys.mark(preview, words)
    said = Feedback(by="preview", sealed=keys.seal(preview, words), said_id=said_id)
    await plane.steer(_id(preview), "feedback", said)
    return [f"{preview}: kept"]


async def read_feedback(settings: Settings, preview: str) -> list[str]:
    """Return what was said, a line each, oldest first; what nobody can open is left out."""
    keys = PreviewKeys(settings.previews_folder)
    async with Record(settings.record) as record:
        events = await record.events(types=["preview.feedback"])
    opened = [
        keys.open(preview, str(event.data["sealed"]))
        for event in events
        if event.subject == _id(preview)
    ]
    said = [json.loads(text) for text in opened if text is not None]
    return [f"{each['user']}: {each['text']}" for each in said] or [f"{preview}: nothing was said"]


def _id(preview: str) -> str:
    return f"{PreviewOrder.kind}/{preview}"
