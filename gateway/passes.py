"""Session passes: whoever was once let in stays in while the gate narrows, by a signed token."""

import hashlib
from dataclasses import dataclass
from typing import Final

from gateway.replies import Request
from tidegate.errors import Refused
from tidegate.rules.exposure import as_bytes
from tidegate.rules.outcome import Question
from tidegate.signing import Keyring

HEADER: Final = b"tidegate-pass"
LIVES_S: Final = 3600.0
"""How long a pass is good for; it is renewed by showing it when a session begins anew."""
SESSION_S: Final = 12 * 3600.0
"""How long a session lasts, however often its pass is renewed."""
_KIND: Final = "pass"


@dataclass(frozen=True, slots=True)
class Pass:
    """Until when a session stays in, and since when it is; seconds since the epoch."""

    token: str
    began_at: float
    until: float


class Passes:
    """Signs passes and believes its own; one is good for its user and feature alone."""

    def __init__(self, keys: Keyring) -> None:
        self._keys = keys

    def begin(self, question: Question, now: float, shown: Pass | None) -> Pass:
        """Sign a pass; the session of the one that was `shown` goes on, and is not made longer."""
        began_at = now if shown is None else shown.began_at
        until = min(now + LIVES_S, began_at + SESSION_S)
        claims = {
            "feature": question.feature,
            "user": hidden(question.user),
            "began": began_at,
            "until": until,
        }
        return Pass(self._keys.sign(_KIND, claims), began_at, until)

    def shown(self, request: Request, question: Question, now: float) -> Pass | None:
        """Return the pass that was shown, where it is good for this question; None otherwise.

        A bad one is no error: whoever shows it is answered like anybody without one.
        """
        token = request.header(HEADER)
        if token is None:
            return None
        try:
            claims = self._keys.verify(_KIND, token)
        except Refused:
            return None
        began_at, until = claims.get("began"), claims.get("until")
        if not isinstance(began_at, float) or not isinstance(until, float) or not now < until:
            return None
        if (claims.get("feature"), claims.get("user")) != (
            question.feature,
            hidden(question.user),
        ):
            return None
        return Pass(token, began_at, until)


def hidden(user: str) -> str:
    """Name a user in a token that others may come to see."""
    return hashlib.blake2b(as_bytes(user), digest_size=16).hexdigest()
