"""Tickets: a place in a lane of a waitlist, as a signed token that its owner keeps."""

from dataclasses import dataclass
from typing import Final

from gateway.passes import hidden
from gateway.replies import Request
from tidegate.errors import Refused
from tidegate.rules.outcome import Question
from tidegate.rules.waiting import Place, Standing, place_of
from tidegate.signing import Keyring
from tidegate.snapshot import Snapshot

HEADER: Final = b"tidegate-ticket"
_KIND: Final = "ticket"


@dataclass(frozen=True, slots=True)
class Ticket:
    """One user's number in one tier's lane."""

    token: str
    tier: str
    number: int


class Tickets:
    """Signs tickets and believes its own; one is good for its user and feature alone."""

    def __init__(self, keys: Keyring) -> None:
        self._keys = keys

    def sign(self, question: Question, number: int) -> Ticket:
        """Give a number to whoever asked, in the lane of their tier."""
        claims = {
            "feature": question.feature,
            "user": hidden(question.user),
            "lane": question.tier,
            "number": number,
        }
        return Ticket(self._keys.sign(_KIND, claims), question.tier, number)

    def shown(self, request: Request, question: Question) -> Ticket | None:
        """Return the ticket that was shown; None for none. Raises Refused for one not good here."""
        token = request.header(HEADER)
        if token is None:
            return None
        claims = self._keys.verify(_KIND, token)
        tier, number = claims.get("lane"), claims.get("number")
        whose = (claims.get("feature"), claims.get("user"))
        is_theirs = whose == (question.feature, hidden(question.user))
        if not is_theirs or not isinstance(tier, str) or not isinstance(number, int):
            message = (
                f'ticket: got one for another user or feature, expected one for "{question.user}" '
                f'and "{question.feature}". Show their own, or none.'
            )
            raise Refused(message, code="ticket-invalid")
        return Ticket(token, tier, number)

    def called(
        self, request: Request, question: Question, snapshot: Snapshot, now: float
    ) -> Ticket | None:
        """Return the ticket that was shown, where its number is called; None otherwise.

        A bad one is no error: whoever shows it is answered like anybody without one.
        """
        try:
            ticket = self.shown(request, question)
        except Refused:
            return None
        place = None if ticket is None else place_in(snapshot, question.feature, ticket, now)
        return ticket if place is not None and place.standing is Standing.CALLED else None


def place_in(snapshot: Snapshot, feature: str, ticket: Ticket, now: float) -> Place | None:
    """Say where a ticket stands; None where no waitlist is heard of."""
    part, intent = snapshot.waitlists.get(feature), snapshot.intent
    described = None if intent is None else intent.features.get(feature)
    if part is None or described is None or described.waitlist is None:
        return None
    if ticket.tier not in part.lanes:  # the catalogue has no such lane any more
        return Place(Standing.EXPIRED)
    return place_of(part, ticket.tier, ticket.number, now)
